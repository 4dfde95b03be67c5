-- What is known to be lost between the kernel and the ledger. Written at least once; the sort key is the identity.
CREATE TABLE IF NOT EXISTS {database}.losses{local} {on_cluster}
(
    time            DateTime64(6, 'UTC')    COMMENT 'Clock of the first message after it; of messages, when it was noticed',
    kind            Enum8('messages' = 0, 'events' = 1, 'entries' = 2, 'idle' = 3, 'copies' = 4, 'names' = 5, 'dropped' = 6) COMMENT 'Messages of a partition, events of a node''s ring, coalesced entries of it; idle: its kernel program counted nothing; copies: of its ring of copies; names: messages of the names topic; dropped: a day of flows that went for want of room, with its packets',
    topic_id        UInt64                  COMMENT 'As in flows',
    kafka_partition Int32                   COMMENT 'Partition of the packets topic; -1 with dropped',
    node            LowCardinality(String)  COMMENT 'Node; empty with messages, which are those of all nodes of the partition',
    ring_id         Int64                   COMMENT 'Identity of the ring buffer; 0 with messages; with dropped when, ms since the Unix epoch',
    gap_start       Int64                   COMMENT 'Where it begins: an offset, a position of the ring in bytes, a number of an entry; of idle and dropped, ns since the Unix epoch',
    gap_end         Int64                   COMMENT 'Where it goes on',
    lost            Nullable(UInt64)        COMMENT 'So many messages, events or entries; NULL: not known'
)
ENGINE = {replacing_merge_tree}
ORDER BY (topic_id, kafka_partition, kind, node, ring_id, gap_start, gap_end)
TTL toDateTime(time) + INTERVAL {rollup_retention_days} DAY;

-- Days that went for want of room (clickhouse.max_bytes, reserve_bytes). A row is written before the day goes, and its figures before its rows are gone.
CREATE TABLE IF NOT EXISTS {database}.dropped{local} {on_cluster}
(
    table         LowCardinality(String)  COMMENT 'Of which table',
    day           Date                    COMMENT 'Its partition',
    time          DateTime64(3, 'UTC')    COMMENT 'When it was decided',
    why           Enum8('cap' = 0, 'disk' = 1, 'retention' = 2) COMMENT 'clickhouse.max_bytes, or clickhouse.reserve_bytes; retention: up to this day a shorter one of flows may have removed what a longer one would have kept',
    rows          UInt64                  COMMENT 'Rows that it had; 0 as long as it is going: they are counted when nothing comes any more',
    bytes_on_disk UInt64                  COMMENT 'What these took',
    packets       UInt64                  COMMENT 'Packets in them; 0 of tables that count none',
    bytes         UInt64                  COMMENT 'Bytes of these packets',
    places        Array(Tuple(node String, interface String, direction String, packets UInt64, bytes UInt64)) COMMENT 'Of flows, the same by node, interface and direction of the packets',
    names         Array(Tuple(topic_id UInt64, kafka_partition Int32, window_begin DateTime('UTC'), window_seconds UInt16, revision UInt32, kafka_offset_end Int64)) COMMENT 'Of flows, the highest revision of each window, and the highest offset: what is read again is known to have been stored' CODEC(ZSTD(1)),
    done          UInt8                   COMMENT '0: it is going'
)
ENGINE = {replacing_merge_tree}(done)
ORDER BY (table, day, time)
TTL toDateTime(time) + INTERVAL {rollup_retention_days} DAY;
