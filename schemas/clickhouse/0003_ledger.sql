-- The ledger: for each closed epoch of a node, interface and direction, the kernel's counters and what streams consumed of it.
-- Written at least once; the sort key is the identity, so FINAL reads each row once. Epochs that are settled and add up are added up
-- by the minute, later by the hour: one insert has the sum and takes back the single rows (streams/store/condensing.py). The index finds the epochs of an hour
-- without reading the times of a month. An epoch that was written without the kernel's counters is replaced when they come after all:
-- by what was read up to a later message.
CREATE TABLE IF NOT EXISTS {database}.ledger{local} {on_cluster}
(
    node               LowCardinality(String)  COMMENT 'Node',
    ring_id            Int64                   COMMENT 'Identity of the ring buffer',
    epoch              Int64                   COMMENT 'Number of the epoch, from 1' CODEC(Delta, ZSTD(1)),
    interface          LowCardinality(String)  COMMENT 'Interface',
    direction          Enum8('ingress' = 0, 'egress' = 1) COMMENT 'ingress or egress',
    primary            Bool DEFAULT true       COMMENT 'Whether totals count these packets',
    start_time         DateTime64(6, 'UTC')    COMMENT 'When the epoch began' CODEC(Delta, ZSTD(1)),
    end_time           DateTime64(6, 'UTC')    COMMENT 'When it was closed' CODEC(Delta, ZSTD(1)),
    closed             Bool DEFAULT true       COMMENT 'Whether the counters of the kernel came; without them they are 0: the ring was given up, or is silent for long',
    ended              Bool DEFAULT false      COMMENT 'The producer ended and sent all: the ring has no epoch behind this one',
    seen_packets       UInt64                  COMMENT 'Everything the hook saw; the sum of the outcomes' CODEC(T64, ZSTD(1)),
    seen_bytes         UInt64                  CODEC(T64, ZSTD(1)),
    emitted_packets    UInt64                  COMMENT 'Into the ring, as events' CODEC(T64, ZSTD(1)),
    emitted_bytes      UInt64                  CODEC(T64, ZSTD(1)),
    coalesced_packets  UInt64                  COMMENT 'Added up by flow in the kernel, and recorded as that' CODEC(T64, ZSTD(1)),
    coalesced_bytes    UInt64                  CODEC(T64, ZSTD(1)),
    non_ip_packets     UInt64                  COMMENT 'Counted, not recorded: not IP' CODEC(T64, ZSTD(1)),
    non_ip_bytes       UInt64                  CODEC(T64, ZSTD(1)),
    malformed_packets  UInt64                  COMMENT 'Counted, not recorded: headers cut short or impossible' CODEC(T64, ZSTD(1)),
    malformed_bytes    UInt64                  CODEC(T64, ZSTD(1)),
    unknown_link_packets UInt64                COMMENT 'Counted, not recorded: of a device whose link header is not known' CODEC(T64, ZSTD(1)),
    unknown_link_bytes UInt64                  CODEC(T64, ZSTD(1)),
    ring_full_packets  UInt64                  COMMENT 'Dropped: no room in the ring' CODEC(T64, ZSTD(1)),
    ring_full_bytes    UInt64                  CODEC(T64, ZSTD(1)),
    inspected_packets  UInt64                  COMMENT 'May hold a name; the sum of the next four' CODEC(T64, ZSTD(1)),
    copied_packets     UInt64                  COMMENT 'Their beginning was copied for the producer to read' CODEC(T64, ZSTD(1)),
    skipped_ring_full_packets UInt64           COMMENT 'Not copied: no room in the ring of copies' CODEC(T64, ZSTD(1)),
    skipped_over_budget_packets UInt64         COMMENT 'Not copied: more than capture.inspect_budget in that second' CODEC(T64, ZSTD(1)),
    skipped_table_full_packets UInt64          COMMENT 'Not copied: no room where unfinished handshakes are remembered' CODEC(T64, ZSTD(1)),
    device_epochs      UInt64                  COMMENT 'Epochs up to this one that the next three are of; 0: the device was not asked at its end' CODEC(T64, ZSTD(1)),
    device_packets     UInt64                  COMMENT 'By the own counters of the device, all passages together' CODEC(T64, ZSTD(1)),
    device_bytes       UInt64                  CODEC(T64, ZSTD(1)),
    unseen_packets     UInt64                  COMMENT 'Of these, what the hooks did not see' CODEC(T64, ZSTD(1)),
    window_seconds     UInt16                  COMMENT 'Length of the windows below' CODEC(ZSTD(1)),
    consumed_windows   Array(DateTime('UTC'))  COMMENT 'Windows that packets of this epoch went to',
    consumed_packets   Array(UInt64)           COMMENT 'Packets consumed from Kafka, by window',
    consumed_bytes     Array(UInt64)           COMMENT 'Bytes consumed from Kafka, by window',
    recorded           DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this row was written, by the clock of ClickHouse' CODEC(Delta, ZSTD(1)),
    last_epoch         Int64 DEFAULT epoch     COMMENT 'Of a row that several epochs were added up in: number of the last one of the ring' CODEC(Delta, ZSTD(1)),
    epochs             UInt32 DEFAULT 1        COMMENT 'Epochs of this interface and direction that are added up here' CODEC(T64, ZSTD(1)),
    kafka_offset_start Int64                   COMMENT 'First message that has something of the epoch; 0 where several are added up' CODEC(Delta, ZSTD(1)),
    version            UInt64                  COMMENT 'Of one epoch: the message behind the last one that has something of it. Of several: when they were added up, microseconds since the Unix epoch' CODEC(Delta, ZSTD(1)),
    is_deleted         UInt8 DEFAULT 0         COMMENT '1: this one is in such a row' CODEC(ZSTD(1)),
    INDEX end_time_range end_time TYPE minmax GRANULARITY 1
)
ENGINE = {replacing_merge_tree}(version, is_deleted)
PARTITION BY toDate(end_time)
ORDER BY (node, ring_id, epoch, interface, direction, primary)
TTL toDateTime(end_time) + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, allow_experimental_replacing_merge_with_cleanup = 1;

-- The ledger of names: what each insert into the table names is made of, a row a node and ring. Written before the insert, and the
-- first of a name counts: so it says up to which message that insert goes, whoever makes it.
CREATE TABLE IF NOT EXISTS {database}.names_ledger{local} {on_cluster}
(
    received           DateTime('UTC')         COMMENT 'When Kafka took the first message of the insert' CODEC(Delta, ZSTD(1)),
    topic_id           UInt64                  COMMENT 'Identity of the names topic, as in flows' CODEC(ZSTD(1)),
    kafka_partition    Int32                   COMMENT 'Partition of the names topic' CODEC(ZSTD(1)),
    kafka_offset_start Int64                   COMMENT 'First message of the insert' CODEC(Delta, ZSTD(1)),
    kafka_offset_end   Int64                   COMMENT 'The message behind its last one' CODEC(Delta, ZSTD(1)),
    node               LowCardinality(String)  COMMENT 'Node',
    ring_id            Int64                   COMMENT 'Identity of its ring buffers',
    clock              DateTime64(6, 'UTC')    COMMENT 'When the last of these messages was made, by the clock of the node' CODEC(Delta, ZSTD(1)),
    epochs             Array(Int64)            COMMENT 'Counter epochs of the copies, as in ledger',
    epoch_copies       Array(UInt64)           COMMENT 'Copies of each epoch',
    copies             Int64                   COMMENT 'Copies that were read: open_before + copies = the next eight and open' CODEC(T64, ZSTD(1)),
    named_copies       UInt64                  COMMENT 'In rows whose name was read' CODEC(T64, ZSTD(1)),
    incomplete_copies  UInt64                  COMMENT 'In rows of which too little was seen' CODEC(T64, ZSTD(1)),
    malformed_copies   UInt64                  COMMENT 'In rows that cannot be read' CODEC(T64, ZSTD(1)),
    encrypted_copies   UInt64                  COMMENT 'In rows whose name is encrypted' CODEC(T64, ZSTD(1)),
    nameless_copies    UInt64                  COMMENT 'In rows that were read whole and have no name' CODEC(T64, ZSTD(1)),
    unused_copies      Int64                   COMMENT 'In no row: passages that are not primary, repeated segments, what belongs to nothing' CODEC(T64, ZSTD(1)),
    lost_copies        Int64                   COMMENT 'In no row, since the producer that was to read on ended, or messages of it are lost' CODEC(T64, ZSTD(1)),
    missing_copies     Int64                   COMMENT 'In no row, and nobody says why: 0, or something is wrong' CODEC(T64, ZSTD(1)),
    open_before_copies Int64                   COMMENT 'In no row yet, before these messages' CODEC(T64, ZSTD(1)),
    open_copies        Int64                   COMMENT 'In no row yet, after them: questions without an answer so far, unfinished handshakes' CODEC(T64, ZSTD(1)),
    transactions       UInt64                  COMMENT 'Transactions and handshakes in the rows' CODEC(T64, ZSTD(1)),
    recorded           DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this row was written, by the clock of ClickHouse' CODEC(Delta, ZSTD(1)),
    INDEX clock_range clock TYPE minmax GRANULARITY 1
)
ENGINE = {merge_tree}
PARTITION BY toDate(received)
ORDER BY (topic_id, kafka_partition, kafka_offset_start, node, ring_id)
TTL received + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;
