"""`/api/reports`: the views with parameters, by name; `/api/completeness`: how much of a range is recorded."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from common.times import iso
from console.api.parameters import Context, Range, example, only_known, plain
from console.query import times
from console.reports import reading, views
from console.reports.completeness import TABLES
from console.show import output
from schemas.clickhouse.rollups import SMALLEST

_ANSWER = {
    "report": "top_talkers",
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T12:00:00.000000Z",
    "rows": [
        {
            "addr": "10.0.0.7",
            "bytes_sent": 90_000,
            "bytes_got": 3_400_000,
            "packets_sent": 1_200,
            "packets_got": 2_400,
            "records": 12,
        }
    ],
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
    "lost_packets": 0,
    "inspected_packets": 1_200,
    "copied_packets": 1_200,
    "named_packets": 1_100,
    "unnamed_packets": 60,
    "table": SMALLEST,
    "rollup_missing_records": 0,
    "unkept_packets": 0,
    "settled_until": "2026-05-01T11:59:48.500000Z",
}


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api", tags=["explore"], dependencies=[Depends(only_known)])

    @routes.get("/reports/{name}", responses=example(_ANSWER))
    async def report(
        request: Request,
        context: Context,
        span: Range,
        *,
        name: Annotated[str, Path(description=f"One of {', '.join(views.REPORTS)}.", examples=["top_talkers"])],
        addr: Annotated[
            str | None, Query(description="An address; of throughput also a network.", examples=["10.0.0.7"])
        ] = None,
        limit: Annotated[int, Query(ge=1, le=10_000, description="Rows.")] = 20,
    ) -> JSONResponse:
        """A report (docs/sql.md), counting each packet once.

        The range is of whole hours where the report is by the hour, of whole minutes in others; first_seen_of and
        first_seen_since have no end, and first_seen_of no beginning. What it comes to is in the answer.
        """
        asked = views.ask(name, since=span.since, until=span.until, now=span.now, addr=addr, limit=limit)
        request.state.span = replace(span, since=asked.since, until=asked.until)
        request.state.table = asked.table
        rows = await context.database.rows(asked.sql, {})
        return JSONResponse(
            {
                "report": name,
                "since": iso(asked.since, digits=6),
                "until": iso(asked.until, digits=6),
                "rows": [output.address(row) for row in rows],
            }
        )

    @routes.get("/completeness", responses=example(_COMPLETE))
    async def complete(
        context: Context,
        since: Annotated[str, Query(description=f"{times.FORMS}.")] = "1h",
        until: Annotated[str, Query(description="Like since.")] = "now",
        node: Annotated[str, Query(description="Only this node.")] = "",
        table: Annotated[
            str, Query(description=f"What answers were read from, of {', '.join(TABLES)}.", examples=["flows_1h"])
        ] = SMALLEST,
    ) -> JSONResponse:
        """How much of what the kernel saw in the range is recorded, coalesced, dropped, lost, named and settled.

        It is of all traffic of the range; `rollup_missing_records` and `unkept_packets` are what the table lacks of
        flows, a rollup or the packets. `/api/audit` compares it with what is stored, and proves it.
        """
        first, last = times.parse_range(since, until, now=datetime.now(UTC), prefix="")
        found = await context.database.run(
            lambda store: reading.complete(
                store,
                first,
                last,
                node=plain(node, "node"),
                table=plain(table, "table"),
                window_seconds=context.window_seconds,
                node_timeout_seconds=context.node_timeout_seconds,
            )
        )
        return JSONResponse(found.as_json(first, last))

    return routes
