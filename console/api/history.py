"""`/api/history` and `/api/flows`: stored flows, a page at a time or as a stream."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from common.errors import QueryError
from console.api.parameters import Chosen, Context, Range, example, only_known
from console.query import flow_sql
from console.query.filter_sql import Parameters
from console.show.examples import FLOW
from console.show.flows import CSV_HEADER, FORMATS
from console.show.names import share_of
from schemas.fields import KEYS

MOST_HISTORY = 1_000
MEDIA_TYPES = {
    "json": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}
_KINDS: dict[str, type] = {"String": str, "IPv6": str, "Bool": bool}
_SMALLEST = {field.name: field.smallest for field in KEYS}

_STREAMED = example(FLOW, MEDIA_TYPES["json"])
_STREAMED[200]["content"].update({MEDIA_TYPES[form]: {} for form in ("csv", "arrow")})


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api", tags=["history"], dependencies=[Depends(only_known)])

    @routes.get(
        "/history", responses=example({"flows": [FLOW], "share": share_of([FLOW]), "next": "WzE3Nzc2MzY4MTAs…"})
    )
    async def history(
        request: Request,
        context: Context,
        flow_filter: Chosen,
        span: Range,
        *,
        limit: Annotated[int, Query(ge=1, le=MOST_HISTORY, description="Flows of a page.")] = 100,
        cursor: Annotated[str, Query(description="`next` of the page before.")] = "",
    ) -> Response:
        """Flows, newest first, a page at a time: ask again with `cursor` = `next` until it is null.

        Windows that are stored meanwhile come before the first page and move nothing. With names.reverse, flows without
        a domain have what reverse DNS calls their `dst_addr`, as far as known, and `reverse` as its source. `share` is
        how much of the bytes of the page has a name.
        """
        request.state.table = "flows"
        after = _position(cursor) if cursor else None
        steps = flow_sql.few(
            flow_filter, since=span.since, until=span.until, sort=flow_sql.HISTORY, limit=limit, after=after
        )
        rows = await context.database.rows(*await context.database.last(steps))
        if context.naming:
            context.naming.mark(rows)
        answer = {"flows": rows, "share": share_of(rows), "next": _cursor(rows[-1]) if len(rows) == limit else None}
        return Response(json.dumps(answer, ensure_ascii=False), media_type="application/json")

    @routes.get("/flows", response_class=StreamingResponse, responses=_STREAMED)
    async def flows(
        request: Request,
        context: Context,
        flow_filter: Chosen,
        span: Range,
        *,
        sort: Annotated[Literal["time", "bytes", "packets"], Query(description="Newest or largest first.")] = "time",
        limit: Annotated[int, Query(ge=0, le=100_000_000, description="0: all.")] = 1_000,
        form: Annotated[
            Literal["json", "csv", "arrow"],
            Query(alias="format", description="json: one object a line; arrow: an Arrow IPC stream."),
        ] = "json",
    ) -> Response:
        """Flows as a stream of any length."""
        request.state.table = "flows"
        steps = flow_sql.few(flow_filter, since=span.since, until=span.until, sort=sort, limit=limit)
        sql, parameters = await context.database.last(steps)
        pieces = await context.database.stream(sql, parameters, FORMATS[form])
        headers = {"Content-Disposition": f'attachment; filename="flows.{form}"'} if form != "json" else {}
        body = _with_header(pieces) if form == "csv" else pieces
        return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)

    return routes


async def _with_header(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield CSV_HEADER
    async for piece in pieces:
        yield piece


def _cursor(row: Mapping[str, Any]) -> str:
    """Where a page ends: the row's keys."""
    values = ["::" if kind == "IPv6" and not row[key] else row[key] for key, kind in flow_sql.KEYS.items()]
    values[0] = int(datetime.fromisoformat(row["window_begin"]).timestamp())
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def _position(cursor: str) -> Parameters:
    """The keys of a cursor. Raises QueryError for what we did not make."""
    try:
        values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        kinds = tuple(_KINDS.get(kind, int) for kind in flow_sql.KEYS.values())
        position: Parameters = dict(zip(flow_sql.KEYS, values, strict=True))
        ours = tuple(map(type, values)) == kinds and all(
            _SMALLEST.get(key, 0) <= value < 2**32 if isinstance(value, int) else "\0" not in value
            for key, value in position.items()
        )
    except (ValueError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise QueryError("cursor is not the `next` of a page of /api/history; leave it out to begin anew")
    return {key: int(value) if isinstance(value, bool) else value for key, value in position.items()}
