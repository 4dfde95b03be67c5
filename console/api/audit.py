"""`/api/audit`: whether what is stored is complete."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from console.api.parameters import Context, Services, example, only_known, plain
from console.audit import around, read, run, settle
from console.audit import report as audit_report
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
        chosen = await context.database.run(chosen.behind_shorter_retention)
        report, neighbours = await _audit(context, chosen)
        return JSONResponse(audit_report.as_json(report, neighbours, chosen.since))

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
