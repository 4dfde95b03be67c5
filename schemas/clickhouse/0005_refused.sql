-- Windows that the table flows refuses, under the names that they would have there. Their rows go there when it takes them.
CREATE TABLE IF NOT EXISTS {database}.refused{local} {on_cluster}
(
    time             DateTime64(6, 'UTC')  COMMENT 'When it was set aside',
    topic_id         UInt64                COMMENT 'As in flows',
    kafka_partition  Int32                 COMMENT 'As in flows',
    window_begin     DateTime('UTC')       COMMENT 'As in flows',
    window_seconds   UInt16                COMMENT 'As in flows',
    revision         UInt32                COMMENT 'As in flows',
    kafka_offset_end Int64                 COMMENT 'As in flows',
    nodes            Array(String)         COMMENT 'Nodes whose packets these are',
    records          UInt64                COMMENT 'Rows of flows',
    packets          UInt64                COMMENT 'Packets in them, in both directions',
    bytes            UInt64                COMMENT 'Bytes of these packets',
    error            String                COMMENT 'What ClickHouse said of it',
    flows            String                COMMENT 'The rows, as an Arrow stream' CODEC(ZSTD(3)),
    brought_in       UInt8                 COMMENT '1: they are in flows now'
)
ENGINE = {replacing_merge_tree}(brought_in)
ORDER BY (topic_id, kafka_partition, window_begin, window_seconds, revision)
TTL toDateTime(time) + INTERVAL {rollup_retention_days} DAY;
