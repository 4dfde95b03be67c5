"""`/api/live`, `/api/stats` and `/api/stream`: what passes now, from the live topic.

Plain functions take a thread: with many nodes an answer takes longer than the event loop may.
"""

import contextlib
import json
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, Depends, Query, Response, WebSocket, WebSocketDisconnect

from console.access import SUBPROTOCOL
from console.api.parameters import Chosen, Context, Services, example, only_known
from console.query import match
from console.show.examples import CONNECTION
from console.show.names import share_of

SEND_SECONDS = 30.0
"""A client that takes no message for so long is gone."""
_NOT_KEPT = {"Cache-Control": "no-store"}
_STATS = {
    "time": "2026-05-01T12:00:15.000000Z",
    "nodes": 1,
    "packets_total": 812_345,
    "bytes_total": 612_345_678,
    "packets_per_second": 260.0,
    "bytes_per_second": 250_000.0,
    "active_connections": 42,
    "domains_resolved_total": 0,
    "deep_inspect_packets_total": 0,
    "dropped_packets_total": 0,
}


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api", tags=["live"])
    known = [Depends(only_known)]

    @routes.get("/stats", dependencies=known, responses=example(_STATS))
    def stats(context: Context) -> Response:
        """Totals since this console started, rates of the last second, connections that are active now."""
        return Response(json.dumps(context.hub.stats()), media_type="application/json", headers=_NOT_KEPT)

    @routes.get(
        "/live",
        dependencies=known,
        responses=example(
            {"time": "2026-05-01T12:00:15.000000Z", "connections": [CONNECTION], "share": share_of([CONNECTION])}
        ),
    )
    def live(
        context: Context,
        flow_filter: Chosen,
        sort: Annotated[Literal["bytes", "packets", "rate"], Query(description="The largest first.")] = "bytes",
        limit: Annotated[int, Query(ge=1, le=1000, description="Connections.")] = 50,
    ) -> Response:
        """The top connections that are active: a packet within live.connection_timeout_seconds.

        `packets` and `bytes` count from when the connection was first among its node's top; rates are of the last
        seconds, both directions together. `share`: how much of the bytes of these connections has a name.
        """
        match.check_live(flow_filter)
        return Response(
            context.hub.connections(sort, limit, flow_filter), media_type="application/json", headers=_NOT_KEPT
        )

    @routes.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        context: Services = socket.app.state.services
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        with socket.app.state.metrics.streams.track_inprogress():
            await _serve(socket, context)

    return routes


async def _serve(socket: WebSocket, context: Services) -> None:
    """Until the client leaves or takes nothing any more."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with contextlib.suppress(WebSocketDisconnect):
                while True:  # what clients send is not looked at
                    if (await socket.receive())["type"] == "websocket.disconnect":
                        break
            group.cancel_scope.cancel()

        group.start_soon(listen)
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            await _send(socket, context)
        group.cancel_scope.cancel()


async def _send(socket: WebSocket, context: Services) -> None:
    """Each second's message, or the newest when the client is ready again."""
    number = 0
    while True:
        number, message = await context.hub.next(number)
        with anyio.fail_after(SEND_SECONDS):
            await socket.send_text(message)
