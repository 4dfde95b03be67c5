"""`/api/nodes`, `/api/audit` and `/api/fields`: what there is, whether it is complete, and what it is called."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from common.errors import QueryError
from console.api.parameters import Context, Range, Services, example, only_known, plain
from console.audit import model, read
from console.audit import report as audit_report
from console.audit import sql as audit_sql
from console.live.state import iso
from console.query import explore_sql, times
from console.query.explore_sql import Question
from console.query.filters import Filter
from console.query.plan import oldest_raw
from console.query.vocabulary import ALIASES, FIELDS, Field, Kind, protocol_names, service_names
from schemas.packets import DIRECTIONS, TUNNEL_TYPES

LOOKS = 6
"""Before a difference is believed: the ledger, flows and its rollups are stored one after the other."""
_PAUSE_SECONDS = 0.5
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
SELECT node, arraySort(groupUniqArray(toString(interface))) AS interfaces,
       toUnixTimestamp64Micro(min(start_time)) AS first_us, toUnixTimestamp64Micro(max(end_time)) AS last_us,
       sum(ring_full_packets) AS dropped_packets
{audit_sql.ledger(_RANGE, span_seconds)}
GROUP BY node ORDER BY node
""".strip()


def router() -> APIRouter:
    """The routes."""
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

    @routes.get(
        "/audit",
        responses=example(
            {
                "exact": True,
                "settled": True,
                "empty": False,
                "since": None,
                "until": None,
                "message": "Exact: 812,345 packets (612,345,678 bytes) seen by the kernel on 1 node = …",
                "rows": [],
                "nodes": [],
                "rollups": [],
            }
        ),
    )
    async def ledger(
        context: Context, span: Range, node: Annotated[str, Query(description="Only this node.")] = ""
    ) -> JSONResponse:
        """The ledger, as `ayaflow audit --format json` prints it."""
        chosen = read.Range(since=span.since, until=span.until, node=plain(node, "node")).within_retention(
            span.now, context.settings.clickhouse.flows_retention_days
        )
        report = await _audit(context, chosen)
        return JSONResponse(audit_report.as_json(report, chosen.since, chosen.until))

    @routes.get(
        "/fields",
        responses=example(
            {
                "fields": [
                    {
                        "name": "dst_port",
                        "type": "port",
                        "doc": "Port of the responder, or 0",
                        "operators": ["=", "!=", "in"],
                        "values": ["https", "ssh"],
                    }
                ]
            }
        ),
    )
    async def fields() -> JSONResponse:
        """The words of the filter language, for completion."""
        return JSONResponse(
            {
                "fields": [_described(name, field) for name, field in FIELDS.items()]
                + [_described(alias, FIELDS[name]) for alias, name in ALIASES.items()]
            }
        )

    return routes


async def _nodes(context: Services, since: datetime, until: datetime, now: datetime) -> list[dict[str, Any]]:
    if until <= since + timedelta(seconds=1):
        raise QueryError("since and until are less than a second apart")
    question = Question(
        by=("node", "interface"),
        flow_filter=Filter(expression=None),
        since=since,
        until=until,
        oldest_raw=oldest_raw(now, context.settings.clickhouse.flows_retention_days),
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
            "first_seen": _moment(row["first_us"]),
            "last_seen": _moment(row["last_us"]),
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


async def _audit(context: Services, span: read.Range) -> model.Report:
    for look in range(LOOKS):
        readings = await context.database.run(lambda store: read.read(store, span))
        report = model.compare(readings, now=datetime.now(UTC).timestamp())
        if not report.differs or look == LOOKS - 1:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return report


def _described(name: str, field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": name,
        "type": field.kind.name.lower(),
        "doc": field.doc,
        "operators": list(field.operators),
    }
    values = {
        Kind.PROTOCOL: protocol_names(),
        Kind.PORT: list(service_names()),
        Kind.DIRECTION: list(DIRECTIONS),
        Kind.TUNNEL: list(TUNNEL_TYPES),
    }.get(field.kind)
    return described | {"values": values} if values else described


def _moment(microseconds: int) -> str:
    return iso(datetime.fromtimestamp(microseconds / 1e6, UTC))
