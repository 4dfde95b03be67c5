"""The questions of the audit about how far each node has come. Pure text; parameters as in console.audit.sql.

`heard_us`, microseconds: nodes whose newest epoch ends later are told, too, when they have none in the range. Their
moment is read from one in _SAMPLE epochs, half a minute: a day of rows is then read in a tenth of the time.
"""

from console.audit.sql import IN_RANGE, NODE, ledger

_SAMPLE = 64

NOW = "SELECT toUnixTimestamp64Micro(now64(6)) AS now_us"
"""ClickHouse's clock, by which rows are recorded."""

# The newest ring of a node is the one that was recorded last, its newest epoch the one with the highest number: a
# producer that was killed while it ended may be followed by one that goes on. One that was not closed says nothing of
# its time. A later window of a node's Kafka partition proves that the earlier ones were closed, unless it was stored
# before its end: of a clock that is ahead.
REACHES = f"""
SELECT nodes.node AS node, nodes.newest AS newest, nodes.begun_us AS begun_us, nodes.inside AS inside,
       nodes.read_us AS read_us,
       places.stored_until AS stored_until, places.kafka_partition AS kafka_partition
FROM (
    SELECT node, min(ring_begun_us) AS begun_us, max(ring_inside) AS inside,
           max((recorded_ms, last_epoch)) AS newest, max(ring_read_us) AS read_us
    FROM (
        SELECT node, ring_id, toUnixTimestamp64Micro(min(end_time)) AS ring_begun_us, max({IN_RANGE}) AS ring_inside,
               toUnixTimestamp64Milli(max(recorded)) AS recorded_ms,
               toUnixTimestamp64Micro(maxIf(end_time, device_epochs > 0)) AS ring_read_us,
               argMax((toUnixTimestamp64Micro(if(closed, end_time, start_time)), ended,
                       toUnixTimestamp64Micro(start_time), window_seconds),
                      (ledger.last_epoch, ended)) AS last_epoch
        FROM ledger
        WHERE (end_time > fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC')
               OR (end_time > fromUnixTimestamp64Micro({{heard_us:Int64}}, 'UTC')
                   AND (epoch % {_SAMPLE} = 0 OR epoch < {_SAMPLE} OR ended OR ledger.last_epoch > epoch)))
          AND {NODE}
        GROUP BY node, ring_id
    )
    GROUP BY node
) AS nodes
GLOBAL LEFT JOIN (
    SELECT own.node AS node, own.kafka_partition AS kafka_partition, all.stored_until AS stored_until
    FROM (
        SELECT node, argMax(kafka_partition, window_begin) AS kafka_partition FROM flows
        WHERE window_begin >= toDateTime({{oldest:UInt32}}, 'UTC') AND {NODE}
        GROUP BY node
    ) AS own
    GLOBAL INNER JOIN (
        SELECT kafka_partition, max(toInt64(toUnixTimestamp(window_begin)) + window_seconds) AS stored_until
        FROM flows WHERE window_begin >= toDateTime({{oldest:UInt32}}, 'UTC')
                     AND inserted >= window_begin + toIntervalSecond(window_seconds)
        GROUP BY kafka_partition
    ) AS all ON own.kafka_partition = all.kafka_partition
) AS places ON nodes.node = places.node
ORDER BY node
"""  # noqa: S608  constants of this file


def _rings(span_seconds: float) -> str:
    return f"""SELECT node, ring_id, min(epoch) AS lowest, max(last) AS highest,
           highest - lowest + 1 - sum(last - epoch + 1) AS missing
    FROM (SELECT DISTINCT node, ring_id, epoch, last_epoch AS last {ledger(IN_RANGE, span_seconds)})
    GROUP BY node, ring_id
    HAVING missing != 0"""  # noqa: S608  constants of this file


def rings(span_seconds: float) -> str:
    """Rings of which not all epochs between the first and the last in the range are in the range."""
    return f"SELECT count() AS suspicious FROM ({_rings(span_seconds)})"  # noqa: S608  constants of this file


def gaps(span_seconds: float) -> str:
    """The first of a node's epochs that are not there, and how many there are.

    Outside of the range, too: where a node's clock was stepped, an epoch may be anywhere.
    """
    return f"""
SELECT node, last + 1 AS first, sum(next - last - 1) OVER (PARTITION BY node) AS epochs, end_us
FROM (
    SELECT node, ring_id, epoch, last, end_us,
           leadInFrame(epoch, 1, last + 1) OVER (PARTITION BY node, ring_id ORDER BY epoch
                                                 ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS next
    FROM (
        SELECT l.node AS node, l.ring_id AS ring_id, l.epoch AS epoch, l.last_epoch AS last,
               toUnixTimestamp64Micro(max(l.end_time)) AS end_us
        FROM ledger AS l FINAL GLOBAL INNER JOIN ({_rings(span_seconds)}) AS r
            ON l.node = r.node AND l.ring_id = r.ring_id
        WHERE l.epoch >= r.lowest AND l.epoch <= r.highest
        GROUP BY node, ring_id, epoch, last
    )
)
WHERE next > last + 1
ORDER BY node, end_us
LIMIT 1 BY node
"""  # noqa: S608  constants of this file
