"""The question about single packets, where they are kept: sums by steps of milliseconds. Pure text and parameters."""

import math
from datetime import datetime

from common.errors import QueryError
from console.query.filter_sql import Parameters, compile_filter
from console.query.filters import Filter

MOST_STEPS = 10_000
COLUMNS = frozenset(
    {
        *("node", "interface", "direction", "primary", "protocol", "src_addr", "dst_addr", "src_port", "dst_port"),
        *("vlan_id", "packets", "bytes", "tcp_flags"),
    }
)
"""Fields of flows that a packet has: of the packet itself, and not of the flow that it is in."""
THERE = "SELECT count() AS there FROM system.tables WHERE database = currentDatabase() AND name = 'packets'"


def check(flow_filter: Filter) -> None:
    """Raise QueryError for a filter of which packets do not have a field."""
    for field in flow_filter.fields().values():
        if not COLUMNS.issuperset(field.columns):
            raise QueryError(
                f"filter: a packet has no {field.name}; it has {', '.join(sorted(COLUMNS))}, addr and port"
            )


def step_for(since: datetime, until: datetime, shortest_ms: int) -> int:
    """Milliseconds of a step: as asked for, or as long as MOST_STEPS of them must be."""
    return max(shortest_ms, math.ceil((until - since).total_seconds() * 1000 / MOST_STEPS))


def series(flow_filter: Filter, *, since: datetime, until: datetime, step_ms: int) -> tuple[str, Parameters]:
    """Packets and bytes of each step in which any passed, each direction for itself.

    `us`: its start, microseconds since the Unix epoch. Each packet once, unless the filter asks about passages.
    """
    chosen = compile_filter(flow_filter)
    asked = {field.name for field in flow_filter.fields().values()}
    once = "1" if asked & {"interface", "direction", "primary"} else "f.primary"
    sums = ", ".join(
        f"sumIf(f.{name}, f.direction = '{way}') AS {way}_{name}"
        for way in ("ingress", "egress")
        for name in ("packets", "bytes")
    )
    sql = f"""
SELECT intDiv(toUnixTimestamp64Micro(f.time), {{step_us:Int64}}) * {{step_us:Int64}} AS us, {sums}
FROM packets AS f
WHERE f.time >= fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC')
  AND f.time < fromUnixTimestamp64Micro({{until_us:Int64}}, 'UTC')
  AND toStartOfMinute(f.time) >= toStartOfMinute(fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC'))
  AND {once} AND {chosen.keys} AND {chosen.measures}
GROUP BY us ORDER BY us"""  # noqa: S608  only names of ours; values are parameters
    return sql.strip(), {
        **chosen.parameters,
        "step_us": step_ms * 1000,
        "since_us": int(since.timestamp() * 1e6),
        "until_us": int(until.timestamp() * 1e6),
    }
