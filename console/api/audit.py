"""`/api/audit` and `/api/completeness`: whether what is stored is complete, and how complete."""

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from common.times import iso
from console.api.parameters import Context, Services, example, only_known, plain
from console.audit import around, completeness, read, run, settle
from console.audit import report as audit_report
from console.audit import sql as audit_sql
from console.audit.around import Around
from console.audit.model import Report
from console.audit.read import Range
from console.query import times

_EXAMPLE = {
    "exact": True,
    "settled": True,
    "empty": False,
    "since": "2026-05-01T11:00:00Z",
    "until": "2026-05-01T11:59:50Z",
    "settled_until": "2026-05-01T11:59:50Z",
    "heading": "From 2026-05-01T11:00:00Z until 2026-05-01T11:59:50Z; 1 node: gateway-1.",
    "message": "Exact: 812,345 packets (612,345,678 bytes) seen by the kernel on 1 node = …",
    "rows": [],
    "nodes": [],
    "rollups": [],
    "backlog": {"topic": "ayaflow.packets", "oldest_age_seconds": 11.2, "messages": 24, "partitions": []},
}

_COMPLETE = {
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T12:00:00.000000Z",
    "seen_packets": 1_000_000,
    "recorded_packets": 999_000,
    "coalesced_packets": 20_000,
    "dropped_packets": 0,
    "unread_packets": 1_000,
    "unstored_packets": 0,
    "unclosed_epochs": 0,
    "losses": 0,
}


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["catalog"], dependencies=[Depends(only_known)])

    @routes.get("/audit", responses=example(_EXAMPLE))
    async def ledger(
        context: Context,
        since: Annotated[str, Query(description=f"{times.FORMS}.")] = "1h",
        until: Annotated[str, Query(description="Like since; empty: as far as all is settled.")] = "",
        node: Annotated[str, Query(description="Only this node.")] = "",
    ) -> JSONResponse:
        """The ledger, as `ayaflow audit --format json` prints it."""
        now = datetime.now(UTC)
        first, last = times.parse_range(since, until or None, now=now, prefix="")
        chosen = Range(since=first, until=last, node=plain(node, "node")).within_retention(
            now, context.flows_retention_days
        )
        report, neighbours = await _audit(context, chosen)
        return JSONResponse(audit_report.as_json(report, neighbours, chosen.since))

    @routes.get("/completeness", responses=example(_COMPLETE))
    async def complete(
        context: Context,
        since: Annotated[str, Query(description=f"{times.FORMS}.")] = "1h",
        until: Annotated[str, Query(description="Like since.")] = "now",
        node: Annotated[str, Query(description="Only this node.")] = "",
    ) -> JSONResponse:
        """What the ledger says of the range: how much of what the kernel saw is recorded, coalesced, dropped or lost.

        It is of all traffic of the range. `/api/audit` compares it with what is stored, and proves it.
        """
        first, last = times.parse_range(since, until, now=datetime.now(UTC), prefix="")
        values: dict[str, str | int] = {
            "since_us": int(first.timestamp() * 1e6),
            "until_us": int(last.timestamp() * 1e6),
            "node": plain(node, "node"),
        }
        epochs, losses = await asyncio.gather(
            context.database.rows(audit_sql.epochs((last - first).total_seconds()), values),
            context.database.rows(audit_sql.LOSSES, values),
        )
        return JSONResponse(
            {"since": iso(first, digits=6), "until": iso(last, digits=6), **asdict(completeness.of(epochs, losses))}
        )

    return routes


async def _audit(context: Services, span: Range) -> tuple[Report, Around]:
    settling = settle.Settling(time.monotonic)
    while True:
        # a turn a look: while we pause, others may ask
        verdicts, readings = await asyncio.gather(
            context.health.verdicts(around.STAGES), context.database.run(lambda store: read.read(store, span))
        )
        neighbours = Around.of(verdicts, context.topic)
        report = run.judge(
            readings, neighbours, span, until=span.asked_until, node_timeout_seconds=context.node_timeout_seconds
        )
        if not settling.again(report):
            return report, neighbours
        await asyncio.sleep(settle.PAUSE_SECONDS)
