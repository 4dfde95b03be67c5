-- Rollups by the minute and the hour, without the initiator's port (which is ephemeral): totals equal those of flows.

CREATE TABLE IF NOT EXISTS {database}.flows_1m{local} {on_cluster}
(
    time           DateTime('UTC')                      COMMENT 'Start of the period' CODEC(Delta, ZSTD(1)),
    node           LowCardinality(String)               COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)               COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)   COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                    COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                                COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr       IPv6                                 COMMENT 'Initiator' CODEC(ZSTD(1)),
    dst_addr       IPv6                                 COMMENT 'Responder' CODEC(ZSTD(1)),
    dst_port       UInt16                               COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                               COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                                COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                                COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from src to dst' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from src to dst' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1)),
    tcp_flags      SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev  SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1))
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, node, protocol, dst_port, dst_addr, src_addr, interface, direction, primary, vlan_id, icmp_type, icmp_code)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1m_mv {on_cluster} TO {database}.flows_1m{local} AS
SELECT toStartOfMinute(window_begin) AS time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code,
       sum(flow.packets) AS packets, sum(flow.bytes) AS bytes, sum(flow.packets_rev) AS packets_rev, sum(flow.bytes_rev) AS bytes_rev,
       count() AS records, groupBitOr(flow.tcp_flags) AS tcp_flags, groupBitOr(flow.tcp_flags_rev) AS tcp_flags_rev
FROM {database}.flows{local} AS flow
GROUP BY time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code;

CREATE TABLE IF NOT EXISTS {database}.flows_1h{local} {on_cluster}
(
    time           DateTime('UTC')                      COMMENT 'Start of the period' CODEC(Delta, ZSTD(1)),
    node           LowCardinality(String)               COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)               COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)   COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                    COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                                COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr       IPv6                                 COMMENT 'Initiator' CODEC(ZSTD(1)),
    dst_addr       IPv6                                 COMMENT 'Responder' CODEC(ZSTD(1)),
    dst_port       UInt16                               COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                               COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                                COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                                COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from src to dst' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from src to dst' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1)),
    tcp_flags      SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev  SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1))
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toYYYYMM(time)
ORDER BY (time, node, protocol, dst_port, dst_addr, src_addr, interface, direction, primary, vlan_id, icmp_type, icmp_code)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1h_mv {on_cluster} TO {database}.flows_1h{local} AS
SELECT toStartOfHour(window_begin) AS time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code,
       sum(flow.packets) AS packets, sum(flow.bytes) AS bytes, sum(flow.packets_rev) AS packets_rev, sum(flow.bytes_rev) AS bytes_rev,
       count() AS records, groupBitOr(flow.tcp_flags) AS tcp_flags, groupBitOr(flow.tcp_flags_rev) AS tcp_flags_rev
FROM {database}.flows{local} AS flow
GROUP BY time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code;
