-- Rollups, filled from each insert into flows: totals equal those of flows, and the audit compares them. schemas/clickhouse/rollups.py has them
-- for what makes questions of them. All have a partition a day, as flows, so that a day is dropped or replaced in all of them alike.

-- By the minute, the hour and the day, without the initiator's port (which is ephemeral). Sorted as flows.
CREATE TABLE IF NOT EXISTS {database}.flows_1m{local} {on_cluster}
(
    time           DateTime('UTC')                     COMMENT 'Start of the period' CODEC(T64, ZSTD(1)),
    node           LowCardinality(String)              COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)              COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)  COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                   COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                               COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr       IPv6                                COMMENT 'Initiator' CODEC(ZSTD(1)),
    dst_addr       IPv6                                COMMENT 'Responder' CODEC(ZSTD(1)),
    dst_port       UInt16                              COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                              COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                               COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                               COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from src to dst' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from src to dst' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1)),
    tcp_flags      SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev  SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1)),
    INDEX time_range time TYPE minmax GRANULARITY 1,
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (toStartOfHour(time), dst_addr, src_addr, protocol, dst_port, time, node, interface, direction, primary, vlan_id, icmp_type, icmp_code)
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
    time           DateTime('UTC')                     COMMENT 'Start of the period' CODEC(Delta, ZSTD(1)),
    node           LowCardinality(String)              COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)              COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)  COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                   COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                               COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr       IPv6                                COMMENT 'Initiator' CODEC(ZSTD(1)),
    dst_addr       IPv6                                COMMENT 'Responder' CODEC(ZSTD(1)),
    dst_port       UInt16                              COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                              COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                               COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                               COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from src to dst' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from src to dst' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1)),
    tcp_flags      SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev  SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1)),
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, dst_addr, src_addr, protocol, dst_port, node, interface, direction, primary, vlan_id, icmp_type, icmp_code)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1h_mv {on_cluster} TO {database}.flows_1h{local} AS
SELECT toStartOfHour(window_begin) AS time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code,
       sum(flow.packets) AS packets, sum(flow.bytes) AS bytes, sum(flow.packets_rev) AS packets_rev, sum(flow.bytes_rev) AS bytes_rev,
       count() AS records, groupBitOr(flow.tcp_flags) AS tcp_flags, groupBitOr(flow.tcp_flags_rev) AS tcp_flags_rev
FROM {database}.flows{local} AS flow
GROUP BY time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code;

-- By the day, with when the first and the last packet came: who talks to whom since when.
CREATE TABLE IF NOT EXISTS {database}.flows_1d{local} {on_cluster}
(
    time           DateTime('UTC')                     COMMENT 'Start of the period' CODEC(Delta, ZSTD(1)),
    node           LowCardinality(String)              COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)              COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)  COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                   COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                               COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr       IPv6                                COMMENT 'Initiator' CODEC(ZSTD(1)),
    dst_addr       IPv6                                COMMENT 'Responder' CODEC(ZSTD(1)),
    dst_port       UInt16                              COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                              COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                               COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                               COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from src to dst' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from src to dst' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1)),
    tcp_flags      SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev  SimpleAggregateFunction(groupBitOr, UInt16) COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1)),
    first_seen     SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'First packet, to the second' CODEC(T64, ZSTD(1)),
    last_seen      SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Last packet, to the second' CODEC(T64, ZSTD(1)),
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, dst_addr, src_addr, protocol, dst_port, node, interface, direction, primary, vlan_id, icmp_type, icmp_code)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1d_mv {on_cluster} TO {database}.flows_1d{local} AS
SELECT toStartOfDay(window_begin) AS time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code,
       sum(flow.packets) AS packets, sum(flow.bytes) AS bytes, sum(flow.packets_rev) AS packets_rev, sum(flow.bytes_rev) AS bytes_rev,
       count() AS records, groupBitOr(flow.tcp_flags) AS tcp_flags, groupBitOr(flow.tcp_flags_rev) AS tcp_flags_rev,
       toDateTime(min(flow.first_seen), 'UTC') AS first_seen, toDateTime(max(flow.last_seen), 'UTC') AS last_seen
FROM {database}.flows{local} AS flow
GROUP BY time, node, interface, direction, primary, protocol, src_addr, dst_addr, dst_port, vlan_id, icmp_type, icmp_code;

-- Services by the hour: flows_1h without addresses. For whatever does not ask for them.
CREATE TABLE IF NOT EXISTS {database}.services_1h{local} {on_cluster}
(
    time           DateTime('UTC')                     COMMENT 'Start of the period' CODEC(Delta, ZSTD(1)),
    node           LowCardinality(String)              COMMENT 'Node that saw the flows',
    interface      LowCardinality(String)              COMMENT 'Interface',
    direction      Enum8('ingress' = 0, 'egress' = 1)  COMMENT 'Direction of packets from src to dst' CODEC(ZSTD(1)),
    primary        Bool DEFAULT true                   COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    protocol       UInt8                               COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    dst_port       UInt16                              COMMENT 'Port of the responder, or 0' CODEC(ZSTD(1)),
    vlan_id        UInt16                              COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type      Int16                               COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code      UInt8                               COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
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
ORDER BY (time, protocol, dst_port, node, interface, direction, primary, vlan_id, icmp_type, icmp_code)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.services_1h_mv {on_cluster} TO {database}.services_1h{local} AS
SELECT toStartOfHour(window_begin) AS time, node, interface, direction, primary, protocol, dst_port, vlan_id, icmp_type, icmp_code,
       sum(flow.packets) AS packets, sum(flow.bytes) AS bytes, sum(flow.packets_rev) AS packets_rev, sum(flow.bytes_rev) AS bytes_rev,
       count() AS records, groupBitOr(flow.tcp_flags) AS tcp_flags, groupBitOr(flow.tcp_flags_rev) AS tcp_flags_rev
FROM {database}.flows{local} AS flow
GROUP BY time, node, interface, direction, primary, protocol, dst_port, vlan_id, icmp_type, icmp_code;

-- Hosts by the hour: each flow at both of its ends. Sorted by address: one of them, or a network, is found at once.
CREATE TABLE IF NOT EXISTS {database}.hosts_1h{local} {on_cluster}
(
    time           DateTime('UTC')                     COMMENT 'Start of the period' CODEC(T64, ZSTD(1)),
    addr           IPv6                                COMMENT 'Address; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    role           Enum8('initiator' = 0, 'responder' = 1, 'both' = 2) COMMENT 'What it is to its flows; both: it talks with itself, and is here once' CODEC(ZSTD(1)),
    node           LowCardinality(String)              COMMENT 'Node that saw the flows',
    primary        Bool DEFAULT true                   COMMENT 'Whether totals count these packets' CODEC(ZSTD(1)),
    packets        SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets that it sent; of both, from initiator to responder' CODEC(T64, ZSTD(1)),
    bytes          SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes that it sent' CODEC(T64, ZSTD(1)),
    packets_rev    SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets that it got' CODEC(T64, ZSTD(1)),
    bytes_rev      SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes that it got' CODEC(T64, ZSTD(1)),
    records        SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the flows table in this one' CODEC(T64, ZSTD(1))
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (addr, time, node, role, primary)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.hosts_1h_mv {on_cluster} TO {database}.hosts_1h{local} AS
SELECT toStartOfHour(window_begin) AS time, if(side = 1, flow.dst_addr, flow.src_addr) AS addr,
       CAST(side, 'Enum8(\'initiator\' = 0, \'responder\' = 1, \'both\' = 2)') AS role, node, primary,
       sum(if(side = 1, flow.packets_rev, flow.packets)) AS packets, sum(if(side = 1, flow.bytes_rev, flow.bytes)) AS bytes,
       sum(if(side = 1, flow.packets, flow.packets_rev)) AS packets_rev, sum(if(side = 1, flow.bytes, flow.bytes_rev)) AS bytes_rev,
       count() AS records
FROM {database}.flows{local} AS flow
ARRAY JOIN if(src_addr = dst_addr, [2], [0, 1]) AS side
GROUP BY time, addr, role, node, primary;
