-- Rollups, filled from each insert into flows: totals equal those of flows, and the audit compares them. What tells their rows apart, and what
-- they add up, is in schemas/clickhouse/rollups.py, of which their columns, keys and views are made. All have a partition a day, as flows, so
-- that a day is dropped or replaced in all of them alike.

-- Services by the minute, without addresses. For whatever does not ask for them.
CREATE TABLE IF NOT EXISTS {database}.services_1m{local} {on_cluster}
(
    {services_1m_columns}
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, {services_1m_keys})
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.services_1m_mv {on_cluster} TO {database}.services_1m{local} AS
{services_1m_view};

-- By the hour, without the initiator's port (which is ephemeral). Sorted as flows.
CREATE TABLE IF NOT EXISTS {database}.flows_1h{local} {on_cluster}
(
    {flows_1h_columns},
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, {flows_1h_keys})
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1h_mv {on_cluster} TO {database}.flows_1h{local} AS
{flows_1h_view};

-- By the day, wherever it was seen, with when the first and the last packet came: who talks to whom since when. Sorted so that a busy host
-- lies together as initiator (in eight places a day), and as responder in an eighth of the day.
CREATE TABLE IF NOT EXISTS {database}.flows_1d{local} {on_cluster}
(
    {flows_1d_columns},
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (time, xxHash64(dst_addr) % 8, {flows_1d_by_src})
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_1d_mv {on_cluster} TO {database}.flows_1d{local} AS
{flows_1d_view};

-- Hosts by the hour: each flow at both of its ends. Sorted by address: one of them, or a network, is found at once.
CREATE TABLE IF NOT EXISTS {database}.hosts_1h{local} {on_cluster}
(
    {hosts_1h_columns}
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toDate(time)
ORDER BY (addr, time, node, role, primary)
TTL time + INTERVAL {rollup_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.hosts_1h_mv {on_cluster} TO {database}.hosts_1h{local} AS
{hosts_1h_view};
