"""`/api/nodes`: who was heard of, and how much."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from common.errors import QueryError
from common.times import iso
from console.api.parameters import Context, Services, example, only_known
from console.audit import sql as audit_sql
from console.query import explore_sql, times
from console.query.explore_sql import Question
from console.query.filters import parse

_NODE = {
    "node": "gateway-1",
    "interfaces": ["eth0"],
    "first_seen": "2026-05-01T09:00:00.000000Z",
    "last_seen": "2026-05-01T12:00:14.500000Z",
    "packets": 812_345,
    "bytes": 612_345_678,
    "dropped_packets": 0,
}
_RANGE = "end_time >= toDateTime({since:UInt32}, 'UTC') AND end_time < toDateTime({until:UInt32}, 'UTC')"


def _heard(span_seconds: float) -> str:
    return f"""
SELECT node, arraySort(groupUniqArrayIf(toString(interface), interface != '')) AS interfaces,
       toUnixTimestamp64Micro(min(start_time)) AS first_us, toUnixTimestamp64Micro(max(end_time)) AS last_us,
       sum(ring_full_packets) AS dropped_packets
{audit_sql.ledger(_RANGE, span_seconds)}
GROUP BY node ORDER BY node
""".strip()


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["catalog"], dependencies=[Depends(only_known)])

    @routes.get("/nodes", responses=example({"nodes": [_NODE]}))
    async def nodes(
        context: Context,
        since: Annotated[str, Query(description=f"{times.FORMS}.")] = "1d",
        until: Annotated[str, Query(description="Like since.")] = "now",
    ) -> JSONResponse:
        """Each node that was heard of in the range: its interfaces, when, and how much (packets both directions)."""
        now = datetime.now(UTC)
        first, last = times.parse_range(since, until, now=now, prefix="")
        return JSONResponse({"nodes": await _nodes(context, first, last, now)})

    return routes


async def _nodes(context: Services, since: datetime, until: datetime, now: datetime) -> list[dict[str, Any]]:
    if until <= since + timedelta(seconds=1):
        raise QueryError("since and until are less than a second apart")
    question = Question(
        by=("node", "interface"),
        flow_filter=parse("primary = 1"),  # each packet once
        since=since,
        until=until,
        oldest_raw=await context.oldest_raw(since, now),
    )
    sql, parameters = explore_sql.top(question, sort="bytes", limit=10_000)
    stored = await context.database.rows(sql, parameters)
    heard = await context.database.rows(
        _heard((until - since).total_seconds()),
        {"since": int(since.timestamp()), "until": int(-(-until.timestamp() // 1))},
    )
    found: dict[str, dict[str, Any]] = {}
    for row in heard:
        found[row["node"]] = {
            "node": row["node"],
            "interfaces": row["interfaces"],
            "first_seen": iso(row["first_us"] / 1e6, digits=6),
            "last_seen": iso(row["last_us"] / 1e6, digits=6),
            "packets": 0,
            "bytes": 0,
            "dropped_packets": row["dropped_packets"],
        }
    for row in stored:
        entry = found.setdefault(
            row["node"],
            {
                "node": row["node"],
                "interfaces": [],
                "first_seen": None,
                "last_seen": None,
                "packets": 0,
                "bytes": 0,
                "dropped_packets": 0,
            },
        )
        entry["interfaces"] = sorted({*entry["interfaces"], row["interface"]})
        entry["packets"] += row["packets"] + row["packets_rev"]
        entry["bytes"] += row["bytes"] + row["bytes_rev"]
    return [found[name] for name in sorted(found)]
