"""The questions of the audit. Pure text; the values are server-side parameters.

since_us, until_us   the range, microseconds since the Unix epoch: epochs that end in (since, until]
oldest, newest       seconds: the range with a margin, for windows that epochs at its edges touch
node                 a node's name, or '' for every one

Sums are made on the server, so that an answer has a row a node, interface and direction, whatever the range; only
windows that do not match are listed one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS, SIDES
from schemas.unseen import SPAN_SECONDS, hole_sql

CELLS = 10_000
"""So many windows that do not match are listed for a node, interface and direction; the rest is a sum."""

MARGIN_SECONDS = 7_200
"""An epoch in the range can touch windows outside of it: a window is an hour at most, and packets can be late."""

_SHORT_SECONDS = 3 * 86_400
NODE = "({node:String} = '' OR node = {node:String})"
IN_RANGE = f"""end_time > fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC')
      AND end_time <= fromUnixTimestamp64Micro({{until_us:Int64}}, 'UTC') AND {NODE}"""
IN_MARGIN = f"""end_time > toDateTime({{oldest:UInt32}}, 'UTC')
      AND end_time <= toDateTime({{newest:UInt32}}, 'UTC') AND {NODE}"""
_CHOSEN = "end_us > {since_us:Int64} AND end_us <= {until_us:Int64}"


def ledger(where: str, span_seconds: float) -> str:
    """FROM and WHERE for the ledger's rows that fulfil a condition on `end_time`, without repetitions.

    FINAL alone reads whole months, since the table is sorted by node and epoch and not by time. So for up to three
    days it is first asked which epochs these are, a thousand at a time, and FINAL reads those: 20 times as fast for
    an hour, 3 times for a day, slower for a month. GLOBAL: on a cluster both are Distributed tables.
    """
    if span_seconds > _SHORT_SECONDS:
        return f"FROM ledger FINAL WHERE {where}"
    epochs = "node, ring_id, intDiv(epoch, 1000)"
    found = f"SELECT DISTINCT {epochs} FROM ledger WHERE {where}"  # noqa: S608  constants of the callers
    return f"FROM ledger FINAL WHERE {where} AND ({epochs}) GLOBAL IN ({found})"


def _differences(name: str) -> str:
    """What is missing and what is too much, apart: they must not cancel out."""
    return ", ".join(
        f"sum(greatest({sign}l.{name}_{unit[0]}, 0)) AS {name}_{side}_{unit}"
        for side, sign in (("missing", ""), ("surplus", "-"))
        for unit in ("packets", "bytes")
    )


def epochs(span_seconds: float) -> str:
    """What the kernel counted, and what of it was consumed: a row a node, interface and direction."""
    return f"""
SELECT l.node AS node, l.interface AS interface, toString(l.direction) AS direction, sum(l.epochs) AS epochs,
       sum(l.seen_packets) AS seen_packets, sum(l.seen_bytes) AS seen_bytes,
       sum(l.emitted_packets) AS emitted_packets, sum(l.emitted_bytes) AS emitted_bytes,
       sum(l.coalesced_packets) AS coalesced_packets, sum(l.coalesced_bytes) AS coalesced_bytes,
       sum(l.non_ip_packets) AS non_ip_packets, sum(l.non_ip_bytes) AS non_ip_bytes,
       sum(l.malformed_packets) AS malformed_packets, sum(l.malformed_bytes) AS malformed_bytes,
       sum(l.unknown_link_packets) AS unknown_link_packets, sum(l.unknown_link_bytes) AS unknown_link_bytes,
       sum(l.ring_full_packets) AS ring_full_packets, sum(l.ring_full_bytes) AS ring_full_bytes,
       sum(l.consumed_p) AS consumed_packets, sum(l.consumed_b) AS consumed_bytes,
       countIf(NOT l.closed) AS unclosed_epochs,
       sumIf(l.consumed_p, NOT l.closed) AS unclosed_packets, sumIf(l.consumed_b, NOT l.closed) AS unclosed_bytes,
       sum(l.device_packets) AS device_packets, sum(l.device_bytes) AS device_bytes,
       {_differences("kernel")}, {_differences("kafka")}
FROM (
    SELECT *, arraySum(consumed_packets) AS consumed_p, arraySum(consumed_bytes) AS consumed_b,
           toInt64(seen_packets) - toInt64(emitted_packets + coalesced_packets + non_ip_packets
                                           + malformed_packets + unknown_link_packets + ring_full_packets) AS kernel_p,
           toInt64(seen_bytes) - toInt64(emitted_bytes + coalesced_bytes + non_ip_bytes
                                         + malformed_bytes + unknown_link_bytes + ring_full_bytes) AS kernel_b,
           if(closed, toInt64(emitted_packets + coalesced_packets) - toInt64(consumed_p), 0) AS kafka_p,
           if(closed, toInt64(emitted_bytes + coalesced_bytes) - toInt64(consumed_b), 0) AS kafka_b
    {ledger(IN_RANGE, span_seconds)} AND interface != ''
) AS l
GROUP BY node, interface, direction
ORDER BY node, interface, direction
"""  # noqa: S608  constants of this file


def holes(span_seconds: float) -> str:
    """Minutes in which a device counted what its hooks did not see: a row a node, interface and direction.

    Epochs that were added up since have none (streams.disk.condense_sql).
    """
    return f"""
SELECT node, interface, toString(direction) AS direction, count() AS minutes,
       toUnixTimestamp(min(minute)) AS first_minute, sum(device) AS device_packets, sum(unseen) AS unseen_packets
FROM (
    SELECT node, interface, direction, toStartOfInterval(end_time, INTERVAL {SPAN_SECONDS} SECOND) AS minute,
           sum(ledger.device_packets) AS device, sum(ledger.unseen_packets) AS unseen
    {ledger(IN_RANGE, span_seconds)} AND device_epochs > 0 AND last_epoch = epoch
    GROUP BY node, interface, direction, minute
    HAVING {hole_sql("device", "unseen")}
)
GROUP BY node, interface, direction
ORDER BY node, interface, direction
"""  # noqa: S608  constants of this file


REWINDOWED = """
SELECT DISTINCT toUnixTimestamp(window_from) AS begin, toUnixTimestamp(window_until) AS until, bucket_seconds, time
FROM rewindowed FINAL
WHERE window_until > toDateTime({oldest:UInt32}, 'UTC') AND window_from < toDateTime({newest:UInt32}, 'UTC')
ORDER BY time DESC
"""
"""Ranges of flows whose windows were made again, with another length than in the ledger; the latest first."""


class Rewindowed(NamedTuple):
    """One of them: its windows and those of the ledger add up to periods of some seconds."""

    begin: int
    until: int
    seconds: int


def _periods(ranges: Sequence[Rewindowed]) -> tuple[str, str]:
    """SQL of the start and the length of what is compared, of a row with `window_begin` and `window_seconds`."""
    start, seconds = "toUnixTimestamp(window_begin)", "window_seconds"
    if not ranges:
        return f"toUInt32({start})", f"toUInt32({seconds})"
    inside = [f"{start} >= {each.begin} AND {start} < {each.until}" for each in ranges]
    lengths = [each.seconds for each in ranges]
    starts = [f"{where}, intDiv({start}, {n}) * {n}" for where, n in zip(inside, lengths, strict=True)]
    chosen = [f"{where}, {n}" for where, n in zip(inside, lengths, strict=True)]
    return f"toUInt32(multiIf({', '.join(starts)}, {start}))", f"toUInt32(multiIf({', '.join(chosen)}, {seconds}))"


def windows(span_seconds: float, ranges: Sequence[Rewindowed] = ()) -> str:
    """What the ledger says streams consumed for each window, and what the flows table holds.

    `chosen` is the part of epochs in the range; a window at its edge is compared as a whole. In `ranges`, periods that
    the windows of both add up to are compared.
    """
    start, seconds = _periods(ranges)
    return f"""
SELECT w.node AS node, w.interface AS interface, w.direction AS direction,
       sum(w.chosen_packets) AS chosen_packets, sum(w.chosen_bytes) AS chosen_bytes,
       sum(w.consumed_packets - w.stored_packets) AS open_packets,
       sum(w.consumed_bytes - w.stored_bytes) AS open_bytes,
       groupArrayIf({CELLS})(
           (w.period, w.period_seconds, w.consumed_packets, w.consumed_bytes,
            w.stored_packets, w.stored_bytes, w.last_end_us),
           w.consumed_packets != w.stored_packets OR w.consumed_bytes != w.stored_bytes
       ) AS cells
FROM (
    SELECT c.node AS node, c.interface AS interface, c.direction AS direction,
           c.period AS period, c.period_seconds AS period_seconds, max(c.end_us) AS last_end_us,
           sum(c.chosen_p) AS chosen_packets, sum(c.chosen_b) AS chosen_bytes,
           sum(c.consumed_p) AS consumed_packets, sum(c.consumed_b) AS consumed_bytes,
           sum(c.stored_p) AS stored_packets, sum(c.stored_b) AS stored_bytes
    FROM (
        SELECT node, interface, toString(direction) AS direction, {start} AS period,
               {seconds} AS period_seconds, end_us,
               toInt64(if({_CHOSEN}, p, 0)) AS chosen_p, toInt64(if({_CHOSEN}, b, 0)) AS chosen_b,
               toInt64(p) AS consumed_p, toInt64(b) AS consumed_b,
               toInt64(0) AS stored_p, toInt64(0) AS stored_b
        FROM (
            SELECT node, interface, direction, toUnixTimestamp64Micro(end_time) AS end_us, window_seconds,
                   consumed_windows, consumed_packets, consumed_bytes
            {ledger(IN_MARGIN, span_seconds)}
        )
        ARRAY JOIN consumed_windows AS window_begin, consumed_packets AS p, consumed_bytes AS b
        WHERE {dropped.kept("window_begin")}
        UNION ALL
        SELECT node, interface, side.1 AS direction, {start} AS period,
               {seconds} AS period_seconds, toInt64(0) AS end_us,
               toInt64(0) AS chosen_p, toInt64(0) AS chosen_b,
               toInt64(0) AS consumed_p, toInt64(0) AS consumed_b,
               toInt64(side.2) AS stored_p, toInt64(side.3) AS stored_b
        FROM (
            SELECT node, interface, window_begin, window_seconds,
                   {SIDES} AS sides
            FROM flows
            WHERE window_begin >= toDateTime({{oldest:UInt32}}, 'UTC')
              AND window_begin < toDateTime({{newest:UInt32}}, 'UTC') AND {NODE} AND {dropped.kept("window_begin")}
            GROUP BY node, interface, window_begin, window_seconds
        )
        ARRAY JOIN sides AS side
    ) AS c
    GROUP BY node, interface, direction, period, period_seconds
) AS w
WHERE (w.consumed_packets != 0 OR w.stored_packets != 0 OR w.consumed_bytes != 0 OR w.stored_bytes != 0)
  AND (w.chosen_packets > 0
       OR (toInt64(w.period) * 1000000 >= {{since_us:Int64}}
           AND (toInt64(w.period) + w.period_seconds) * 1000000 <= {{until_us:Int64}}))
GROUP BY node, interface, direction
ORDER BY node, interface, direction
"""  # noqa: S608  constants of this file


def gone(span_seconds: float) -> str:
    """What went for want of room; see console.audit.dropped."""
    return dropped.gone(ledger(IN_MARGIN, span_seconds), _CHOSEN, NODE)


# When streams was killed while it noted a gap, it may stand there twice, with another beginning: the widest counts.
LOSSES = f"""
SELECT toString(l.kind) AS kind, l.node AS node, l.kafka_partition AS kafka_partition, l.ring_id AS ring_id,
       min(l.gap_start) AS first, l.gap_end AS behind, toUnixTimestamp(min(l.time)) AS noticed,
       argMin(l.lost, l.gap_start) AS lost
FROM losses AS l FINAL
WHERE if(l.kind IN ('idle', 'dropped'),
         intDiv(l.gap_end, 1000) > {{since_us:Int64}} AND intDiv(l.gap_start, 1000) <= {{until_us:Int64}},
         l.time > fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC')
         AND l.time <= fromUnixTimestamp64Micro({{until_us:Int64}}, 'UTC'))
  AND (l.kind IN ('messages', 'names') OR {NODE.replace("node =", "l.node =")})
GROUP BY kind, l.topic_id, kafka_partition, node, ring_id, behind
ORDER BY noticed, kind, kafka_partition, node, behind
"""  # noqa: S608  constants of this file

REFUSED = """
SELECT if(refused_by = 'names', 'refused names', 'refused') AS kind, arrayStringConcat(nodes, ', ') AS node,
       kafka_partition, toInt64(revision) AS ring_id,
       toInt64(toUnixTimestamp(window_begin)) AS first, first + window_seconds AS behind,
       toUnixTimestamp(time) AS noticed, if(refused_by = 'names', records, packets) AS lost
FROM refused FINAL
WHERE NOT brought_in AND behind * 1000000 > {since_us:Int64} AND first * 1000000 <= {until_us:Int64}
  AND ({node:String} = '' OR has(nodes, {node:String}))
ORDER BY first, kafka_partition, revision, kafka_offset_start
"""

_MEASURES = ("packets", "bytes", "packets_rev", "bytes_rev")


def _place(table: str, *, of_flows: bool) -> str:
    """Columns that tell differences apart, empty where it has none. The two sides of hosts_1h are compared apart."""
    rollup = ROLLUPS[table]
    own = {"node": "node", "interface": "interface", "direction": "role" if rollup.sides else "direction"}
    shown = []
    for name, column in own.items():
        value = rollup.value(column, "t") if of_flows else f"t.{column}"
        shown.append(f"toString({value}) AS {name}" if column in rollup.keys else f"'' AS {name}")
    return ", ".join(shown)


def _open_windows(table: str) -> str:
    """Windows of which nothing proves that they are in the rollup as well: an insert fills flows first.

    Windows of a Kafka partition are stored in order, so a later one is a proof, unless it was stored before its end (of
    a clock that is ahead); corrections have their offset, which one row of an insert has, for one.
    """
    rollup = ROLLUPS[table]
    name = "t.kafka_partition, t.window_begin, t.window_seconds, t.revision"
    return f"""SELECT {_place(table, of_flows=True)}, {rollup.period("t.window_begin")} AS period,
               {", ".join(f"toInt64(0) AS {name}_diff" for name in _MEASURES)},
               {", ".join(f"toInt64(sum({rollup.value(name, 't')})) AS {name}_open" for name in _MEASURES)},
               max(toInt64(toUnixTimestamp(t.window_begin)) + t.window_seconds) AS open_until
        FROM flows AS t {rollup.rows("t")} GLOBAL INNER JOIN (
            SELECT kafka_partition, least(maxIf(toInt64(toUnixTimestamp(window_begin)) + window_seconds,
                                                inserted >= window_begin + toIntervalSecond(window_seconds)),
                                          toUnixTimestamp(now())) AS until
            FROM flows WHERE window_begin >= toDateTime({{from:UInt32}}, 'UTC') GROUP BY kafka_partition
        ) AS p ON t.kafka_partition = p.kafka_partition
        WHERE {_in_periods(table, "t.window_begin")}
          AND (toInt64(toUnixTimestamp(t.window_begin)) + t.window_seconds + {{order:UInt32}} > p.until
               OR (t.revision > 0 AND ({name}) GLOBAL IN (
                    SELECT {name} FROM flows AS t
                    WHERE t.window_begin >= toDateTime({{from:UInt32}}, 'UTC') AND t.kafka_offset_end > 0
                    QUALIFY t.kafka_offset_end = max(t.kafka_offset_end) OVER (PARTITION BY t.kafka_partition))))
        GROUP BY node, interface, direction, period"""  # noqa: S608  constants of this file


def _in_periods(table: str, time: str) -> str:
    """`from` and `to` are starts of periods: a window is between them when its period is."""
    node = f" AND {NODE.replace('node =', 't.node =')}" if "node" in ROLLUPS[table].keys else ""
    return f"""{time} >= toDateTime({{from:UInt32}}, 'UTC') AND {time} < toDateTime({{to:UInt32}}, 'UTC')
          AND {dropped.comparable(time)}{node}"""


def rollup(table: str, *, explain: bool) -> str:
    """Periods of a rollup in [from, to) that differ from the raw windows: a row a node and interface, if it has them.

    `explain` is for when there are any: what is missing in a rollup because its windows are just being stored is then
    a row of its own, whose `open_until` (seconds) is the end of the last of these windows; else it is 0.
    `order`, seconds: by so much a window must be later to prove that another is stored.
    """
    about = ROLLUPS[table]
    nothing = ", ".join(f"toInt64(0) AS {name}_open" for name in _MEASURES) + ", toInt64(0) AS open_until"
    own = ", ".join(f"toInt64(sum({about.value(name, 't')})) AS {name}_diff" for name in _MEASURES)
    theirs = ", ".join(f"-toInt64(sum(t.{name})) AS {name}_diff" for name in _MEASURES)
    parts = [
        f"""SELECT {_place(table, of_flows=True)}, {about.period("t.window_begin")} AS period, {own}, {nothing}
        FROM flows AS t {about.rows("t")}
        WHERE {_in_periods(table, "t.window_begin")}
        GROUP BY node, interface, direction, period""",  # noqa: S608  constants of this file
        f"""SELECT {_place(table, of_flows=False)}, t.time AS period, {theirs}, {nothing}
        FROM {table} AS t
        WHERE {_in_periods(table, "t.time")}
        GROUP BY node, interface, direction, period""",  # noqa: S608  constants of this file
    ]
    if explain:
        parts.append(_open_windows(table))
    union = "\n        UNION ALL\n        ".join(parts)
    totals = ", ".join(f"sum(d.{name}_diff) AS {name}_total, sum(d.{name}_open) AS {name}_may" for name in _MEASURES)
    coming = " AND ".join(f"{name}_total >= 0 AND {name}_total <= {name}_may" for name in _MEASURES)
    return f"""
SELECT '{table}' AS table, node, interface, count() AS periods, toUnixTimestamp(min(period)) AS first_period,
       sum(abs(packets_total) + abs(packets_rev_total)) AS packets,
       sum(abs(bytes_total) + abs(bytes_rev_total)) AS bytes, max(may_until * coming) AS open_until
FROM (
    SELECT d.node AS node, d.interface AS interface, d.direction AS direction, d.period AS period, {totals},
           max(d.open_until) AS may_until, {coming} AS coming
    FROM (
        {union}
    ) AS d
    GROUP BY node, interface, direction, period
)
WHERE packets_total != 0 OR bytes_total != 0 OR packets_rev_total != 0 OR bytes_rev_total != 0
GROUP BY node, interface, coming
ORDER BY node, interface, coming
"""  # noqa: S608  constants of this file
