"""`?int64=string`: numbers of JSON that JavaScript would round, as strings. Pure ASGI, around the routes."""

import re
from collections.abc import MutableMapping
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool

from console.access import Application, Receive, Scope, Send

SAFE = 2**53 - 1
"""The largest whole number below which a double has every other one."""
Int64 = Literal["number", "string"]

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?', re.DOTALL)
_JSON = (b"application/json", b"application/x-ndjson")


class Int64Strings:
    """Writes whole numbers beyond SAFE as strings where the query asks for it, in streams and WebSockets too."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; the answer is changed on its way."""
        asked = scope["type"] in {"http", "websocket"} and parse_qs(scope["query_string"].decode("latin-1"))
        if asked and asked.get("int64") == ["string"]:
            await self._application(scope, receive, _Answer(send))
        else:
            await self._application(scope, receive, send)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_json = False
        self._held = b""  # of a body, behind its last line's end

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.send" and message.get("text"):
            text = await run_in_threadpool(with_strings, message["text"].encode())
            message = {**message, "text": text.decode()}
        elif message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            self._is_json = any(name.lower() == b"content-type" and value.startswith(_JSON) for name, value in headers)
            if self._is_json:
                headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._is_json:
            text = self._held + message.get("body", b"")
            end = text.rfind(b"\n") + 1 if message.get("more_body") else len(text)
            self._held = text[end:]
            # a long answer takes a second, in which the event loop serves others
            message = {**message, "body": await run_in_threadpool(with_strings, text[:end])}
        await self._send(message)


def with_strings(document: bytes) -> bytes:
    """JSON with its whole numbers beyond SAFE as strings of the same digits."""
    return _TOKEN.sub(_quoted, document)


def _quoted(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if len(text) < 16 or text[:1] == b'"' or not text.lstrip(b"-").isdigit():
        return text
    return text if len(text) < 20 and abs(int(text)) <= SAFE else b'"%b"' % text
