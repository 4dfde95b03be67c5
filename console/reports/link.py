"""A header that leads from every answer about a range to how complete that range is (RFC 8288)."""

from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.times import iso


class CompletenessLink:
    """Middleware: where a route was asked about a range (console.api.parameters.TimeRange), its answer has the link.

    With the table that was read, where the route says so (`request.state.table`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})

        async def linked(message: Message) -> None:
            span: Any = scope["state"].get("span")
            if message["type"] == "http.response.start" and span is not None and message["status"] == 200:
                about = {"since": iso(span.since, digits=6), "until": iso(span.until, digits=6)}
                if table := scope["state"].get("table"):
                    about["table"] = table
                query = urlencode(about)
                link = f'</api/completeness?{query}>; rel="describedby"'
                message["headers"] = [*message.get("headers", ()), (b"link", link.encode())]
            await send(message)

        await self._app(scope, receive, linked)
