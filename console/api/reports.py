"""`/api/reports`: the views with parameters, by name."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from common.times import iso
from console.api.parameters import Context, Range, example, only_known
from console.query import reports
from console.show import output

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


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["explore"], dependencies=[Depends(only_known)])

    @routes.get("/reports/{name}", responses=example(_ANSWER))
    async def report(
        context: Context,
        span: Range,
        *,
        name: Annotated[str, Path(description=f"One of {', '.join(reports.REPORTS)}.", examples=["top_talkers"])],
        addr: Annotated[
            str | None, Query(description="An address; of throughput also a network.", examples=["10.0.0.7"])
        ] = None,
        limit: Annotated[int, Query(ge=1, le=10_000, description="Rows.")] = 20,
    ) -> JSONResponse:
        """A report over the hours that begin in the range (docs/sql.md), counting each packet once.

        The range begins at the whole hour before `since`; what it comes to is in the answer.
        """
        asked = reports.ask(name, since=span.since, until=span.until, addr=addr, limit=limit)
        rows = await context.database.rows(asked.sql, {})
        return JSONResponse(
            {
                "report": name,
                "since": iso(asked.since, digits=6),
                "until": iso(asked.until, digits=6),
                "rows": [output.address(row) for row in rows],
            }
        )

    return routes
