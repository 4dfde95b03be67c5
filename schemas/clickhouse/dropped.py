"""Days that went for want of room (clickhouse.max_bytes, reserve_bytes): neither missing nor exact. Pure.

Of a day whose flows or whose ledger went, windows are not compared one by one, nor with rollups. What went is written
down by node, interface and direction; so the day as a whole is still compared with the ledger, as long as that has it.
"""

from schemas.clickhouse.rollups import SIDES

_WENT = "SELECT day FROM dropped FINAL WHERE (rows > 0 OR NOT done)"  # without rows nothing went: the day was held
DAYS = f"{_WENT} AND table IN ('flows', 'ledger')"
"""Those that are not compared; also one that is just going."""
OF_FLOWS = f"{_WENT} AND table = 'flows'"
COUNTED = f"""
SELECT DISTINCT day FROM ({_WENT} AND table NOT IN ('names', 'names_ledger'))
WHERE day >= toDate(toDateTime({{from:UInt32}}, 'UTC')) AND day <= toDate(toDateTime({{to:UInt32}}, 'UTC')) ORDER BY day
"""  # noqa: S608  constants
"""Those of which something went, of the days that [from, to) touches."""
GOING = "SELECT day FROM dropped FINAL WHERE NOT done"
KIND = "dropped"
"""Of a loss."""
WHY_RETENTION = "retention"
"""Of a row without rows: up to this day a retention that was shorter than now's may have removed rows of flows."""
SHORTER = f"""
SELECT toUnixTimestamp(max(day)) AS newest FROM dropped FINAL
WHERE table = 'flows' AND toString(why) = '{WHY_RETENTION}'
"""  # noqa: S608  constants
"""The beginning of the last such day, seconds since the Unix epoch; 0: there is none."""
NEWEST = f"SELECT toUnixTimestamp(max(day)) AS newest FROM ({DAYS})"  # noqa: S608  constants
"""The beginning of the last such day, seconds since the Unix epoch; 0: there is none."""

SHORTENED = f"""{OF_FLOWS}
UNION ALL SELECT day FROM dropped WHERE table = 'flows' AND toString(why) = '{WHY_RETENTION}'"""  # noqa: S608  constants
"""Days of flows that went, and those up to which a shorter retention may have removed rows."""


def kept(time: str) -> str:
    """Whether a moment is not of such a day."""
    return f"toDate({time}) GLOBAL NOT IN ({DAYS})"


def comparable(time: str) -> str:
    """Whether flows and rollups of a moment's day are all there, but for what TTL took."""
    return f"toDate({time}) GLOBAL NOT IN ({_WENT} AND table NOT IN ('names', 'names_ledger'))"


def gone(ledger_in_margin: str, chosen: str, node: str) -> str:
    """What was consumed for these days by epochs in the range, and by how much what is known to have gone differs.

    A row a node, interface and direction. `ledger_in_margin`: FROM and WHERE of the ledger's rows that may touch the
    range; `chosen`, `node`: conditions of console.audit.sql. Compared are days that are in the range as a whole.
    """
    day_us = "toInt64(toUnixTimestamp(c.day)) * 1000000"
    compared = (
        f"{day_us} >= {{since_us:Int64}} AND {day_us} + 86400000000 <= {{until_us:Int64}} "
        f"AND c.day GLOBAL NOT IN ({_WENT} AND table = 'ledger') "
        f"AND c.day GLOBAL NOT IN ({GOING})"
    )
    return f"""
SELECT c.node AS node, c.interface AS interface, c.direction AS direction,
       sum(c.chosen_p) AS packets, sum(c.chosen_b) AS bytes,
       sumIf(c.consumed_p - c.stored_p, {compared}) AS lacking_packets,
       sumIf(c.consumed_b - c.stored_b, {compared}) AS lacking_bytes
FROM (
    SELECT node, interface, toString(direction) AS direction, toDate(window_begin) AS day,
           toInt64(if({chosen}, p, 0)) AS chosen_p, toInt64(if({chosen}, b, 0)) AS chosen_b,
           toInt64(p) AS consumed_p, toInt64(b) AS consumed_b, toInt64(0) AS stored_p, toInt64(0) AS stored_b
    FROM (
        SELECT node, interface, direction, toUnixTimestamp64Micro(end_time) AS end_us,
               consumed_windows, consumed_packets, consumed_bytes
        {ledger_in_margin}
    )
    ARRAY JOIN consumed_windows AS window_begin, consumed_packets AS p, consumed_bytes AS b
    UNION ALL
    SELECT node, interface, side.1 AS direction, day, toInt64(0), toInt64(0), toInt64(0), toInt64(0),
           toInt64(side.2), toInt64(side.3)
    FROM (
        SELECT node, interface, toDate(window_begin) AS day,
               {SIDES} AS sides
        FROM flows
        WHERE window_begin >= toDateTime({{oldest:UInt32}}, 'UTC')
          AND window_begin < toDateTime({{newest:UInt32}}, 'UTC')
          AND toDate(window_begin) GLOBAL IN ({DAYS}) AND {node}
        GROUP BY node, interface, day
    )
    ARRAY JOIN sides AS side
    UNION ALL
    SELECT place.1 AS node, place.2 AS interface, place.3 AS direction, day, toInt64(0), toInt64(0), toInt64(0),
           toInt64(0), toInt64(place.4), toInt64(place.5)
    FROM (SELECT day, arrayJoin(places) AS place FROM dropped FINAL WHERE table = 'flows' AND done)
    WHERE {node}
) AS c
WHERE c.day GLOBAL IN ({DAYS})
GROUP BY node, interface, direction
HAVING packets != 0 OR bytes != 0 OR lacking_packets != 0 OR lacking_bytes != 0
ORDER BY node, interface, direction
"""  # noqa: S608  constants of this module and of console.audit.sql
