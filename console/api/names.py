"""`/api/names`: domains, DNS transactions, failures, latencies, and how much of the traffic has a name."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from common.times import iso
from console.api.parameters import Chosen, Context, Range, example, only_known
from console.query import names_sql
from console.query.explore_sql import Question
from console.show import output

_ALL = {"bytes": 5_000_000, "packets": 6_000, "records": 40}
_SNI = {"bytes": 4_500_000, "packets": 5_000, "records": 31}
_NAMES = {
    "view": "domains",
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T12:00:00.000000Z",
    "rows": [
        {
            "domain": "www.example.org",
            "sources": ["dns", "sni"],
            "clients": 3,
            "servers": 2,
            "packets": 1_200,
            "bytes": 90_000,
            "packets_rev": 2_400,
            "bytes_rev": 3_400_000,
            "records": 12,
        }
    ],
    "share": {"total": _ALL, "named": _SNI, "by_source": {"sni": _SNI}},
    "read": 512,
}


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["explore"], dependencies=[Depends(only_known)])

    @routes.get("/names", responses=example(_NAMES))
    async def names(
        context: Context,
        flow_filter: Chosen,
        span: Range,
        *,
        view: Annotated[
            Literal["domains", "queries", "failures", "latency", "unseen"],
            Query(
                description="domains: of flows, by bytes; queries: DNS transactions; failures: those that were answered"
                " by an error or not at all; latency: of DNS servers; unseen: clients whose DNS was not seen."
            ),
        ] = "domains",
        limit: Annotated[int, Query(ge=1, le=10_000, description="Rows.")] = 20,
    ) -> JSONResponse:
        """Names over the windows that start in the range, the largest or most frequent first (docs/names.md).

        `share` says how much of the flows of the filter has a name, both directions together, and from where; in
        `domains` it is summed from the same rows. `read` counts the transactions and handshakes that were read in that
        time: without one, capture.inspect is off, or nothing passed that names anything.
        """
        question = Question(
            by=names_sql.BY, flow_filter=flow_filter, since=span.since, until=span.until, oldest_raw=None
        )
        sql, parameters = names_sql.VIEWS[view](question)
        rows = await context.database.rows(sql, {**parameters, "limit": limit})
        (summed,) = await context.database.rows(*names_sql.share(question))
        plan = question.plan()
        answer: dict[str, Any] = {
            "view": view,
            "since": iso(plan.since, digits=6),
            "until": iso(plan.until, digits=6),
            "rows": [output.address(row) for row in names_sql.rows_of(rows)],
            "share": names_sql.named(rows[0] if view == "domains" and rows else summed),
            "read": int(summed["read"]),
        }
        if context.naming:
            for row in answer["rows"]:
                for side in ("server", "client"):
                    if side in row and (name := context.naming.name(row[side])):
                        row[f"{side}_reverse"] = name
        return JSONResponse(answer)

    return routes
