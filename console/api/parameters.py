"""What the routes of the API have in common: parameters, errors as JSON, services of the application."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from common.errors import AyaflowError, QueryError, ServiceUnavailable, SettingsError
from console.api.health import Health
from console.api.numbers import Int64
from console.live.hub import LiveHub, Naming
from console.query import filters, plan, times
from console.query.errors import FilterError, nearest
from console.query.filters import Filter
from console.store.pool import Busy, Database

RETRY_SECONDS = 2
# the dependencies below are coroutines, though they wait for nothing: FastAPI would run functions in threads
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"example": {"error": example}}}}
    for status, text, example in (
        (400, "A parameter is not understood.", "filter, column 1: 'dst_prt': expected a field; did you mean port?"),
        (401, "A token is needed.", "send a token: Authorization: Bearer …"),
        (403, "This client may not ask.", "192.0.2.7 may not ask here; console.allowed_ips lists who may"),
        (429, "Too many queries at a time.", "4 queries are running already (console.heavy_queries); try again"),
        (503, "ClickHouse or Kafka is away.", "ClickHouse at http://127.0.0.1:8123 does not answer"),
    )
}
"""For `responses=` of each route."""


def example(value: Any, kind: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """`responses=` with an example of a good answer."""
    return {200: {"content": {kind: {"example": value}}}, **ERRORS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes ask."""

    window_seconds: int  # of streams.window_seconds
    node_timeout_seconds: float  # of streams.node_timeout_seconds
    flows_retention_days: int  # of clickhouse.flows_retention_days
    topic: str  # of packets
    database: Database
    hub: LiveHub
    naming: Naming | None  # reverse DNS, where it is wanted
    health: Health

    async def oldest_raw(self, since: datetime, now: datetime) -> datetime:
        """From when on the raw windows are complete, for a range that begins at `since`. Raises ServiceUnavailable."""
        first = 0
        if since < now.replace(hour=0, minute=0, second=0, microsecond=0):  # of days that are over: they may have gone
            first = int((await self.database.rows(plan.FIRST_RAW, {}))[0]["first"])
        return plan.oldest_raw(now, self.flows_retention_days, first)


async def services(request: Request) -> Services:
    """Those of the running application."""
    found: Services = request.app.state.services
    return found


async def only_known(
    request: Request,
    int64: Annotated[
        Int64,
        Query(description="string: whole numbers beyond 2^53 - 1 are strings in JSON, as JavaScript would round them."),
    ] = "number",
) -> None:
    """A parameter that the route does not have is a mistake. Raises QueryError with the nearest."""
    route = request.scope.get("route")
    if route is None or not hasattr(route, "dependant"):
        return
    known = _names(route.dependant)
    for name in request.query_params:
        if name not in known:
            raise QueryError(f"there is no parameter {name!r}{nearest(name, known) if known else ''}")
    for name in known:
        if len(request.query_params.getlist(name)) > 1:
            raise QueryError(f"{name} is given twice")


def _names(dependant: Any) -> list[str]:
    """Query parameters of a route and of what it depends on."""
    return [field.alias for field in dependant.query_params] + [
        name for inner in dependant.dependencies for name in _names(inner)
    ]


async def chosen_flows(
    filter: Annotated[  # noqa: A002  the parameter's name
        str,
        Query(
            description="Flows, in the filter language (docs/filters.md).",
            examples=["addr in 10.0.0.0/8 and dst_port = https"],
        ),
    ] = "",
    node: Annotated[str, Query(description="Only this node.", examples=["gateway-1"])] = "",
) -> Filter:
    """`filter` and `node` together. Raises FilterError."""
    of_node, text = filters.of_node(plain(node, "node")), plain(filter, "filter")
    # a name of a service or protocol may be asked of the system, which may ask a network
    return of_node.and_also(await asyncio.to_thread(filters.parse, text) if text else filters.parse(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """[since, until), UTC."""

    since: datetime
    until: datetime
    now: datetime


async def time_range(
    request: Request,
    since: Annotated[str, Query(description=f"{times.FORMS}.", examples=["5m"])] = "1h",
    until: Annotated[str, Query(description="Like since.", examples=["now"])] = "now",
) -> TimeRange:
    """`since` and `until`, which console.reports.link is told of. Raises QueryError."""
    now = datetime.now(UTC)
    first, last = times.parse_range(since, until, now=now, prefix="")
    span = request.state.span = TimeRange(since=first, until=last, now=now)
    return span


Chosen = Annotated[Filter, Depends(chosen_flows)]
Range = Annotated[TimeRange, Depends(time_range)]
Context = Annotated[Services, Depends(services)]


def plain(value: str, name: str) -> str:
    """The text of a parameter. Raises QueryError for what ClickHouse cannot be sent."""
    if "\0" in value:
        raise QueryError(f"{name} has a NUL character, which no value has")
    return value


def add_error_handlers(app: FastAPI) -> None:
    """Each error is `{"error": sentence}` with its status; a filter's has the `column` too."""

    @app.exception_handler(QueryError)
    async def refused(_request: Request, error: QueryError) -> JSONResponse:
        body: dict[str, Any] = {"error": str(error)}
        if isinstance(error, FilterError):
            body["column"] = error.column
        return JSONResponse(body, 400)

    @app.exception_handler(SettingsError)  # a secret that cannot be read now
    @app.exception_handler(ServiceUnavailable)
    async def away(_request: Request, error: AyaflowError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(Busy)
    async def busy(_request: Request, error: Busy) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 429, headers={"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return JSONResponse({"error": f"{name}: {first['msg']} (it is {first.get('input')!r})"}, 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = {
            404: f"{request.url.path} is not here; / says what is",
            405: f"{request.url.path} does not take {request.method}; this API only reads",
        }
        return JSONResponse(
            {"error": text.get(error.status_code, str(error.detail))}, error.status_code, headers=error.headers
        )
