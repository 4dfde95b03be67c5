-- Questions that are often asked, as views with parameters: SELECT * FROM top_talkers(since = '2026-05-01 00:00:00', until = ...).
-- Each reads the smallest table that has it, and counts each packet once (primary). Hours and days are those that begin in the range,
-- UTC; addresses are IPv6, IPv4 as ::ffff:a.b.c.d. docs/sql.md has each of them, and what more can be asked.

CREATE VIEW IF NOT EXISTS {database}.top_talkers {on_cluster} AS
SELECT addr, sum(h.bytes) AS bytes_sent, sum(h.bytes_rev) AS bytes_got, sum(h.packets) AS packets_sent,
       sum(h.packets_rev) AS packets_got, sum(h.records) AS records
FROM {database}.hosts_1h AS h
WHERE primary AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
GROUP BY addr;

-- Of a network by its first address and the length of its prefix, 128 for one address; IPv4: 96 more. What both ends are in counts at both.
CREATE VIEW IF NOT EXISTS {database}.throughput {on_cluster} AS
SELECT time, sum(h.bytes) AS bytes_sent, sum(h.bytes_rev) AS bytes_got, sum(h.packets) AS packets_sent,
       sum(h.packets_rev) AS packets_got, bytes_sent * 8 / 3600 AS bits_per_second_sent, bytes_got * 8 / 3600 AS bits_per_second_got
FROM {database}.hosts_1h AS h
WHERE primary AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
  AND addr BETWEEN tupleElement(IPv6CIDRToRange({addr:IPv6}, {prefix:UInt8}), 1) AND tupleElement(IPv6CIDRToRange({addr:IPv6}, {prefix:UInt8}), 2)
GROUP BY time;

CREATE VIEW IF NOT EXISTS {database}.conversations {on_cluster} AS
SELECT if(f.src_addr = {addr:IPv6}, f.dst_addr, f.src_addr) AS peer, f.src_addr = {addr:IPv6} AS initiated, protocol, dst_port,
       sum(if(initiated, f.bytes, f.bytes_rev)) AS bytes_sent, sum(if(initiated, f.bytes_rev, f.bytes)) AS bytes_got,
       sum(if(initiated, f.packets, f.packets_rev)) AS packets_sent, sum(if(initiated, f.packets_rev, f.packets)) AS packets_got,
       sum(f.records) AS records, min(f.time) AS first_hour, max(f.time) AS last_hour
FROM {database}.flows_1h AS f
WHERE primary AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
  AND (src_addr = {addr:IPv6} OR dst_addr = {addr:IPv6})
GROUP BY peer, initiated, protocol, dst_port;

-- All that an address ever talked with, as far as flows_1d goes back.
CREATE VIEW IF NOT EXISTS {database}.first_seen_of {on_cluster} AS
SELECT src_addr, dst_addr, protocol, dst_port, min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen,
       sum(f.bytes + f.bytes_rev) AS bytes, sum(f.packets + f.packets_rev) AS packets
FROM {database}.flows_1d AS f
WHERE primary AND (src_addr = {addr:IPv6} OR dst_addr = {addr:IPv6})
GROUP BY src_addr, dst_addr, protocol, dst_port;

-- Who talks with whom, and for which service, for the first time: nothing of it is in the days before. Of these, a hash of 64 bits finds
-- what may be the same; only that is then compared as it is, which takes ClickHouse several times as long for so many octets.
CREATE VIEW IF NOT EXISTS {database}.first_seen_since {on_cluster} AS
SELECT src_addr, dst_addr, protocol, dst_port, min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen,
       sum(f.bytes + f.bytes_rev) AS bytes, sum(f.packets + f.packets_rev) AS packets
FROM {database}.flows_1d AS f
WHERE primary AND time >= toStartOfDay({since:DateTime('UTC')})
  AND (dst_addr, src_addr, protocol, dst_port) GLOBAL NOT IN (
      SELECT dst_addr, src_addr, protocol, dst_port FROM {database}.flows_1d
      WHERE primary AND time < toStartOfDay({since:DateTime('UTC')})
        AND xxHash64(dst_addr, src_addr, protocol, dst_port) GLOBAL IN (
          SELECT xxHash64(dst_addr, src_addr, protocol, dst_port) FROM {database}.flows_1d
          WHERE primary AND time >= toStartOfDay({since:DateTime('UTC')})))
GROUP BY src_addr, dst_addr, protocol, dst_port
HAVING first_seen >= {since:DateTime('UTC')};

-- How many peers and ports a source tried, by the hour; those that never answered apart: in one of several rows of a peer it may have.
CREATE VIEW IF NOT EXISTS {database}.scans {on_cluster} AS
SELECT time, src_addr, uniq(dst_addr) AS peers, uniq(dst_port) AS ports,
       toUInt64(greatest(uniq(dst_addr, dst_port) - uniqIf(dst_addr, dst_port, f.packets_rev > 0), 0)) AS unanswered,
       sum(f.records) AS records
FROM {database}.flows_1h AS f
WHERE primary AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
GROUP BY time, src_addr
HAVING peers >= 20 OR ports >= 20;

-- From the raw windows: ask for hours, or a day. seconds: of the windows in which it was seen, since ports are used again; those that
-- were made anew (ayaflow rewindow) may have another length.
CREATE VIEW IF NOT EXISTS {database}.longest_flows {on_cluster} AS
SELECT node, protocol, src_addr, src_port, dst_addr, dst_port, min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen,
       arraySum(arrayMap(w -> w.2, groupUniqArray((f.window_begin, f.window_seconds)))) AS seconds, sum(f.bytes + f.bytes_rev) AS bytes, count() AS records
FROM {database}.flows AS f
WHERE primary AND window_begin >= {since:DateTime('UTC')} AND window_begin < {until:DateTime('UTC')}
GROUP BY node, protocol, src_addr, src_port, dst_addr, dst_port;

-- Of the minutes of an address in which it was heard, from the raw windows; of longer windows each is taken as one.
CREATE VIEW IF NOT EXISTS {database}.percentiles {on_cluster} AS
SELECT count() AS minutes, quantiles(0.5, 0.9, 0.95, 0.99)(sent * 8 / length) AS bits_per_second_sent,
       quantiles(0.5, 0.9, 0.95, 0.99)(got * 8 / length) AS bits_per_second_got
FROM (
    SELECT toStartOfMinute(window_begin) AS minute, sum(if(f.src_addr = {addr:IPv6}, f.bytes, f.bytes_rev)) AS sent,
           sum(if(f.src_addr = {addr:IPv6}, f.bytes_rev, f.bytes)) AS got, greatest(60, max(f.window_seconds)) AS length
    FROM {database}.flows AS f
    WHERE primary AND window_begin >= {since:DateTime('UTC')} AND window_begin < {until:DateTime('UTC')}
      AND (src_addr = {addr:IPv6} OR dst_addr = {addr:IPv6})
    GROUP BY minute)
HAVING minutes > 0;

-- A range of more than a week has days in common with the one before.
CREATE VIEW IF NOT EXISTS {database}.week_before {on_cluster} AS
SELECT protocol, dst_port, sumIf(s.bytes + s.bytes_rev, now) AS bytes, sumIf(s.bytes + s.bytes_rev, before) AS bytes_week_before,
       sumIf(s.records, now) AS records, sumIf(s.records, before) AS records_week_before
FROM (
    SELECT *, time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')} AS now,
           time >= {since:DateTime('UTC')} - INTERVAL 7 DAY AND time < {until:DateTime('UTC')} - INTERVAL 7 DAY AS before
    FROM {database}.services_1m) AS s
WHERE primary AND (now OR before)
GROUP BY protocol, dst_port;
