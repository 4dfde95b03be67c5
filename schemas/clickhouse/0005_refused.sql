-- What the tables flows and names refuse: windows, and blocks of names, under the names that they would have there. Their
-- rows go there when it is taken.
CREATE TABLE IF NOT EXISTS {database}.refused{local} {on_cluster}
(
    time             DateTime64(6, 'UTC')  COMMENT 'When it was set aside',
    refused_by       LowCardinality(String) COMMENT 'Where the rows belong: flows or names',
    topic_id         UInt64                COMMENT 'As in flows',
    kafka_partition  Int32                 COMMENT 'As in flows',
    window_begin     DateTime('UTC')       COMMENT 'As in flows; of names: when Kafka took the first of their messages',
    window_seconds   UInt16                COMMENT 'As in flows; of names 0',
    revision         UInt32                COMMENT 'As in flows; of names 0',
    kafka_offset_start Int64               COMMENT 'As in names; of flows 0',
    kafka_offset_end Int64                 COMMENT 'As in flows',
    nodes            Array(String)         COMMENT 'Nodes whose packets these are',
    records          UInt64                COMMENT 'Rows',
    packets          UInt64                COMMENT 'Packets in them, in both directions; of names 0',
    bytes            UInt64                COMMENT 'Bytes of these packets',
    error            String                COMMENT 'What ClickHouse said of it',
    flows            String                COMMENT 'The rows, as an Arrow stream' CODEC(ZSTD(3)),
    brought_in       UInt8                 COMMENT '1: they are where they belong now'
)
ENGINE = {replacing_merge_tree}(brought_in)
ORDER BY (refused_by, topic_id, kafka_partition, window_begin, window_seconds, revision, kafka_offset_start)
TTL toDateTime(time) + INTERVAL {rollup_retention_days} DAY;
