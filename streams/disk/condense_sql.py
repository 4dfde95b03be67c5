"""How epochs of the ledger are added up: one statement, one insert, so that it is done or not. Pure text.

What adds up is added up, and what differs stays as it is: a span (a minute, later an hour) of a ring is taken whole,
when all its epochs are there and closed, each adds up by itself, what the producer read of its copies is what the
kernel made, no device counted what its hooks did not see, and something newer of the ring is there, or it ended. The
windows that were consumed stay one by one, so that each can be compared with flows for as long as both are kept.

The insert has the sums, and for each row that is in them one of the same key that says it is deleted: FINAL reads the
sums alone, also when an epoch is written once more. Server-side parameters:

from, to     seconds since the Unix epoch: the hour of the end of the epochs
nodes        whose epochs
version      microseconds since the Unix epoch: now
"""

from schemas.packets import COUNTS
from schemas.unseen import SPAN_SECONDS, hole_sql

MOST_EPOCHS = 36_000
"""In one row: who looks for an epoch needs to look so far back."""
_LATE_SECONDS = 7_200  # by which names may have been read after their epoch
_HOUR = """end_time >= toDateTime({from:UInt32}, 'UTC') AND end_time < toDateTime({to:UInt32}, 'UTC')
      AND node IN {nodes:Array(String)}"""
_IN = "seen_{0} - emitted_{0} - coalesced_{0} - non_ip_{0} - malformed_{0} - unknown_link_{0} - ring_full_{0}"
_OFF = " OR ".join(
    f"toInt64({_IN.format(unit)}) != 0 OR toInt64(emitted_{unit} + coalesced_{unit} - arraySum(consumed_{unit})) != 0"
    for unit in ("packets", "bytes")
)
_COLUMNS = (
    *("node", "ring_id", "epoch", "interface", "direction", "primary", "start_time", "end_time", "closed", "ended"),
    *COUNTS,
    *("window_seconds", "consumed_windows", "consumed_packets", "consumed_bytes", "recorded", "last_epoch", "epochs"),
    *("version", "is_deleted"),
)
_ZEROS = ", ".join("0" for _ in COUNTS)

HOURS = """
SELECT toUnixTimestamp(toStartOfHour(end_time)) AS hour, node, uniq(ring_id, epoch) AS runs
FROM ledger FINAL
WHERE end_time >= toDateTime({since:UInt32}, 'UTC') AND end_time < toDateTime({until:UInt32}, 'UTC')
GROUP BY hour, node HAVING runs > {few:UInt32} * uniq(ring_id)
ORDER BY hour, node
"""
"""What may be worth adding up. `few`: so many rows of a place and hour are none too many."""

LEFT = """
SELECT toString(toDate(end_time)) AS day FROM ledger WHERE is_deleted AND end_time < toDateTime({until:UInt32}, 'UTC')
GROUP BY day ORDER BY day
"""
"""Days with rows that say that they are deleted."""


def condense(span_seconds: int) -> str:
    """Add up the spans of an hour."""
    span = f"toStartOfInterval(end_time, INTERVAL {span_seconds} SECOND)"
    rows = f"(SELECT *, {span} AS span FROM ledger FINAL WHERE {_HOUR})"  # noqa: S608  constants of this file
    group = "r.node, r.ring_id, g.lo, g.hi"
    sums = ", ".join(f"sum(r.{name})" for name in COUNTS)
    times = "min(r.start_time), max(r.end_time), true, max(r.ended)"
    joined = f"""FROM {rows} AS r GLOBAL INNER JOIN ({_good(rows)}) AS g
    ON r.node = g.node AND r.ring_id = g.ring_id AND r.span = g.span"""
    return f"""
INSERT INTO ledger ({", ".join(_COLUMNS)})
SELECT * FROM (
    SELECT r.node, r.ring_id, g.lo, r.interface, r.direction, r.primary, {times}, {sums}, any(r.window_seconds),
           (sumMap(r.consumed_windows, r.consumed_packets, r.consumed_bytes) AS consumed).1, consumed.2, consumed.3,
           max(r.recorded), g.hi, toUInt32(sum(r.epochs)), {{version:UInt64}}, 0
    {joined}
    WHERE r.interface != ''
    GROUP BY {group}, r.interface, r.direction, r.primary
    UNION ALL
    SELECT r.node, r.ring_id, g.lo, '', 'ingress', true, {times}, {_ZEROS}, any(r.window_seconds), [], [], [],
           max(r.recorded), g.hi, toUInt32(g.hi - g.lo + 1), {{version:UInt64}}, 0
    {joined}
    GROUP BY {group}
    UNION ALL
    SELECT r.node, r.ring_id, r.epoch, r.interface, r.direction, r.primary, r.start_time, r.end_time, r.closed, r.ended,
           {_ZEROS}, r.window_seconds, [], [], [], r.recorded, r.last_epoch, 0, {{version:UInt64}}, 1
    {joined}
    WHERE r.epoch > g.lo OR (r.interface = '' AND (r.direction != 'ingress' OR NOT r.primary))
)"""  # noqa: S608  constants of this file


def _good(rows: str) -> str:
    """Spans that may be added up: node, ring_id, span, lo and hi (the first and the last epoch)."""
    return f"""
    SELECT s.node AS node, s.ring_id AS ring_id, s.span AS span, s.lo AS lo, s.hi AS hi
    FROM (
        SELECT node, ring_id, span, min(epoch) AS lo, max(last_epoch) AS hi, max(ended) AS ends,
               groupUniqArray((epoch, last_epoch)) AS runs
        FROM {rows}
        GROUP BY node, ring_id, span
        HAVING min(closed) AND NOT max({_OFF}) AND uniqExact(window_seconds) = 1 AND length(runs) > 1
           AND arraySum(arrayMap(run -> run.2 - run.1 + 1, runs)) = hi - lo + 1 AND hi - lo < {MOST_EPOCHS}
    ) AS s
    GLOBAL INNER JOIN (
        SELECT node, ring_id, max(last_epoch) AS newest FROM ledger
        WHERE end_time >= toDateTime({{from:UInt32}}, 'UTC') AND node IN {{nodes:Array(String)}}
        GROUP BY node, ring_id
    ) AS n ON s.node = n.node AND s.ring_id = n.ring_id
    WHERE (n.newest > s.hi OR s.ends)
      AND (s.node, s.span) NOT IN (
          SELECT node, span FROM {rows} WHERE device_epochs > 0 AND last_epoch = epoch
          GROUP BY node, span, interface, direction, toStartOfInterval(end_time, INTERVAL {SPAN_SECONDS} SECOND)
          HAVING {hole_sql("sum(device_packets)", "sum(unseen_packets)")})
      AND (s.node, s.ring_id, s.span) NOT IN (
          SELECT node, ring_id, span FROM (
              SELECT k.node AS node, k.ring_id AS ring_id, k.span AS span, k.copied AS copied, r.read AS read FROM (
                  SELECT node, ring_id, span, epoch, sum(copied_packets) AS copied FROM {rows}
                  WHERE last_epoch = epoch GROUP BY node, ring_id, span, epoch HAVING copied > 0
              ) AS k GLOBAL LEFT JOIN (
                  SELECT node, ring_id, each AS epoch, sum(made) AS read
                  FROM names_ledger ARRAY JOIN epochs AS each, epoch_copies AS made
                  WHERE clock >= toDateTime({{from:UInt32}}, 'UTC')
                    AND clock < toDateTime({{to:UInt32}} + {_LATE_SECONDS}, 'UTC')
                  GROUP BY node, ring_id, epoch
              ) AS r ON k.node = r.node AND k.ring_id = r.ring_id AND k.epoch = r.epoch
          ) WHERE copied != read)"""  # noqa: S608  constants of this file
