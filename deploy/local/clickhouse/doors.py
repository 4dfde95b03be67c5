"""Who is let in at the embedded ClickHouse's port: no page of another origin, and nobody who only holds a line open."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common.security.browsers import refusal

HEADER_SECONDS = 10  # from a connection to the end of its first request's headers
KEEP_ALIVE_SECONDS = 30  # from an answer to the end of the next request's headers
_HEADERS = ("Host", "Origin", "Sec-Fetch-Site")
_OPEN = {"Allow": "GET, HEAD, OPTIONS, POST"}


class Doors:
    """Connections that have asked nothing yet, and what is asked of each request."""

    def __init__(self, refuse: Callable[[int, str], web.Response]) -> None:
        """`refuse` makes the answer of a status and a sentence."""
        self._refuse = refuse
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def admit(self, protocol: web.RequestHandler) -> web.RequestHandler:
        """A new connection, which has to ask something soon."""

        def hang_up() -> None:
            if self._silent.pop(protocol, None):
                protocol.force_close()

        self._silent[protocol] = asyncio.get_running_loop().call_later(HEADER_SECONDS, hang_up)
        return protocol

    @property
    def middleware(self) -> Middleware:
        """Looks at each request before its handler does; answers OPTIONS, with a grant to nobody."""

        @web.middleware
        async def look(request: web.Request, handler: Handler) -> web.StreamResponse:
            timer = self._silent.pop(request.protocol, None)
            if timer:
                timer.cancel()
            headers = {
                name.lower(): ", ".join(found) for name in _HEADERS if (found := request.headers.getall(name, []))
            }
            refused = refusal(headers, loopback_names_only=True)
            if refused:
                return self._refuse(*refused)
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=_OPEN)
            return await handler(request)

        return look
