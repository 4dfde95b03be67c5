-- What is known to be lost between the kernel and the ledger. Written at least once; the sort key is the identity.
CREATE TABLE IF NOT EXISTS {database}.losses{local} {on_cluster}
(
    time            DateTime64(6, 'UTC')    COMMENT 'Clock of the first message after it; of messages, when it was noticed',
    kind            Enum8('messages' = 0, 'events' = 1, 'entries' = 2, 'idle' = 3, 'copies' = 4, 'names' = 5) COMMENT 'Messages of a partition, events of a node''s ring, coalesced entries of it; idle: its kernel program counted nothing; copies: of its ring of copies; names: messages of the names topic',
    topic_id        UInt64                  COMMENT 'As in flows',
    kafka_partition Int32                   COMMENT 'Partition of the packets topic',
    node            LowCardinality(String)  COMMENT 'Node; empty with messages, which are those of all nodes of the partition',
    ring_id         Int64                   COMMENT 'Identity of the ring buffer; 0 with messages',
    gap_start       Int64                   COMMENT 'Where it begins: an offset, a position of the ring in bytes, a number of an entry; of idle, ns since the Unix epoch',
    gap_end         Int64                   COMMENT 'Where it goes on',
    lost            Nullable(UInt64)        COMMENT 'So many messages, events or entries; NULL: not known'
)
ENGINE = {replacing_merge_tree}
ORDER BY (topic_id, kafka_partition, kind, node, ring_id, gap_start, gap_end)
TTL toDateTime(time) + INTERVAL {rollup_retention_days} DAY;
