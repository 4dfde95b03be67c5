-- Windows made again from the packets topic (`ayaflow rewindow`): what is asked for and how far it is, how far each partition is, and
-- which ranges of flows are such windows. Small: a row a job, a partition of it, a partition of a range.
CREATE TABLE IF NOT EXISTS {database}.rewindows{local} {on_cluster}
(
    id              String                 COMMENT 'Name of the job; its rows are made in the table rewindow_ID',
    changed         DateTime64(6, 'UTC')   COMMENT 'When it came to this state',
    state           Enum8('making' = 0, 'swapping' = 1, 'swapped' = 2, 'kept' = 3, 'failed' = 4) COMMENT 'Written before what it says is done: whoever finds it goes on',
    topic_id        UInt64                 COMMENT 'As in flows',
    window_from     DateTime('UTC')        COMMENT 'Windows that start from here on',
    window_until    DateTime('UTC')        COMMENT 'and before here',
    window_seconds  UInt16                 COMMENT 'Length of the new windows',
    filter          String                 COMMENT 'Of the rows that are kept; empty: all',
    into_table      String                 COMMENT 'Where they are kept; empty: they replace those of flows',
    partitions      Array(Int32)           COMMENT 'Partitions of the topic',
    offsets_begin   Array(Int64)           COMMENT 'Likewise: the first message that is read',
    offsets_end     Array(Int64)           COMMENT 'Likewise: the message behind the last one',
    bucket_seconds  UInt32                 COMMENT 'New windows and those of flows and ledger add up to periods of this length',
    days_done       Array(Date)            COMMENT 'Days of flows that are replaced',
    error           String                 COMMENT 'Why it failed'
)
ENGINE = {replacing_merge_tree}(changed)
ORDER BY id
TTL toDateTime(changed) + INTERVAL {rollup_retention_days} DAY;

CREATE TABLE IF NOT EXISTS {database}.rewindow_progress{local} {on_cluster}
(
    id               String   COMMENT 'As in rewindows',
    kafka_partition  Int32    COMMENT 'As in flows',
    offset_end       Int64    COMMENT 'All of the messages below is stored, as far as its windows are closed',
    boundary         Int64    COMMENT 'End of the last windows that were closed, seconds since the Unix epoch',
    resume           Int64    COMMENT 'Offset to read from',
    clock_ns         Int64    COMMENT 'The fastest clock so far, nanoseconds since the Unix epoch',
    done             Bool     COMMENT 'The partition is read to its end',
    time             DateTime('UTC') DEFAULT now() COMMENT 'When'
)
ENGINE = {replacing_merge_tree}(offset_end)
ORDER BY (id, kafka_partition, done)
TTL time + INTERVAL {rollup_retention_days} DAY;

-- To recovery, such a range is stored up to kafka_offset_end, and the names of its inserts go on where they were: whoever asked for the
-- next one before its rows were replaced asks for the same one as whoever asks after. The audit compares it by periods of bucket_seconds.
CREATE TABLE IF NOT EXISTS {database}.rewindowed{local} {on_cluster}
(
    topic_id         UInt64                COMMENT 'As in flows',
    kafka_partition  Int32                 COMMENT 'As in flows',
    window_from      DateTime('UTC')       COMMENT 'Windows that start from here on',
    window_until     DateTime('UTC')       COMMENT 'and before here',
    id               String                COMMENT 'As in rewindows',
    windows          Array(DateTime('UTC')) COMMENT 'Of each window that was in flows: window_begin' CODEC(ZSTD(1)),
    lengths          Array(UInt16)         COMMENT 'Likewise: window_seconds' CODEC(ZSTD(1)),
    revisions        Array(UInt32)         COMMENT 'Likewise: its highest revision' CODEC(ZSTD(1)),
    kafka_offset_end Int64                 COMMENT 'All that lies before this offset and belongs to these windows is in flows',
    bucket_seconds   UInt32                COMMENT 'As in rewindows',
    time             DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When; of several that have a window, the latest counts'
)
ENGINE = {replacing_merge_tree}
ORDER BY (topic_id, kafka_partition, window_from, window_until, id)
TTL window_from + INTERVAL {rollup_retention_days} DAY;
