"""`/api/audit`: whether what is stored is complete."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from console.api.parameters import Context, Range, Services, example, only_known, plain
from console.audit import model, read, settle
from console.audit import report as audit_report


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["catalog"], dependencies=[Depends(only_known)])

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
            span.now, context.flows_retention_days
        )
        report = await _audit(context, chosen)
        return JSONResponse(audit_report.as_json(report, chosen.since, chosen.until))

    return routes


async def _audit(context: Services, span: read.Range) -> model.Report:
    settling = settle.Settling(time.monotonic)
    while True:
        # a turn a look: while we pause, others may ask
        readings = await context.database.run(lambda store: read.read(store, span))
        report = model.compare(readings, now=time.time())
        if not settling.again(report):
            return report
        await asyncio.sleep(settle.PAUSE_SECONDS)
