"""Who may ask: networks, proxies, bearer tokens, users of a proxy, origins; headers that keep a browser safe.

Pure ASGI, around the whole application, WebSockets too.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from common.address import Address
from common.security import browsers
from common.settings import ConsoleSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Number = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""Sent with every answer that does not say otherwise itself."""
SUBPROTOCOL = "ayaflow"
"""Browsers cannot send a token with a WebSocket but as a second protocol, `bearer.TOKEN`."""
_OPEN_PATHS = ("/static/",)  # the dashboard itself knows nothing; it asks for the token
_HEALTH = "/api/health"
_METHODS = b"GET, HEAD, OPTIONS"
_HOPS = 32  # of X-Forwarded-For that are looked at


def hash_token(token: str) -> str:
    """How a token stands in console.tokens."""
    return hashlib.sha256(token.encode()).hexdigest()


def warning(settings: ConsoleSettings) -> str | None:
    """What the log should say about the way the console is open, if anything."""
    if settings.tokens or settings.user_header or settings.allowed_ips or _is_loopback(settings.listen):
        return None
    return (
        f"console.listen is {settings.listen}: whoever reaches it can read all traffic records; set console.tokens"
        " (`ayaflow hash-token`) or console.allowed_ips"
    )


class Access:
    """Refuses who may not ask: 403 by address or origin, 401 without a token."""

    def __init__(self, application: Application, settings: ConsoleSettings) -> None:
        self._application = application
        self._allowed = _networks(settings.allowed_ips)
        self._proxies = _networks(settings.trusted_proxies)
        self._tokens = [text.lower() for text in settings.tokens]
        self._user_header = settings.user_header
        # a page of another site can reach this machine's browser under a name of its own (DNS rebinding)
        self._loopback_names_only = _is_loopback(settings.listen) and not self._proxies
        self._tls = settings.tls_certificate is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
            return
        refusal = self.refusal(scope)
        guarded = self._with_headers(send)
        if refusal is None and scope.get("method") == "OPTIONS":  # a grant to nobody
            await guarded({"type": "http.response.start", "status": 204, "headers": [(b"allow", _METHODS)]})
            await guarded({"type": "http.response.body", "body": b""})
        elif refusal is None:
            await self._application(scope, receive, guarded)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4000 + refusal[0], "reason": refusal[1][:120]})
        else:
            await _answer(guarded, *refusal)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence, or None for whom may ask."""
        headers = _headers(scope)
        client = self._client(scope, headers)
        # `ayaflow up` and health checks ask from this machine, whatever the list says; there is no traffic in it
        local_health = scope["path"] == _HEALTH and client is not None and client.is_loopback
        if (
            self._allowed
            and not local_health
            and (client is None or not any(_within(client, network) for network in self._allowed))
        ):
            return 403, f"{client or 'this client'} may not ask here; console.allowed_ips lists who may"
        refused = browsers.refusal(
            headers, loopback_names_only=self._loopback_names_only, any_site=_is_visit(scope, headers)
        )
        if refused:
            return refused
        if self._user_header and (refused := self._forged(scope)):
            return refused
        if local_health or _is_open(scope["path"]) or not (self._tokens or self._user_header):
            return None
        if self._signed_in(headers) or self._has_token(headers):
            return None
        ways = ["send a token: Authorization: Bearer …, or as the password of any user"] if self._tokens else []
        ways += [f"come by the proxy that signs in, which says who asks in {self._user_header}"] * bool(
            self._user_header
        )
        return 401, ", or ".join(ways)

    def _forged(self, scope: Scope) -> tuple[int, str] | None:
        """A user's name from whom we do not believe, or beside another one: a proxy that does not replace it."""
        name = str(self._user_header).lower().encode()
        times = sum(sent.lower() == name for sent, _ in scope["headers"])
        peer = _address(scope["client"][0]) if scope.get("client") else None
        if times and (peer is None or not any(_within(peer, network) for network in self._proxies)):
            return 403, f"{self._user_header} is believed from console.trusted_proxies alone"
        if times > 1:
            return 403, f"{self._user_header} came twice: let the proxy replace what its clients send"
        return None

    def _signed_in(self, headers: dict[str, str]) -> bool:
        return self._user_header is not None and bool(headers.get(self._user_header.lower(), "").strip())

    def _client(self, scope: Scope, headers: dict[str, str]) -> Number | None:
        """Who asks. X-Forwarded-For is believed as far as trusted proxies wrote it, from its right end."""
        peer = _address(scope["client"][0]) if scope.get("client") else None
        hops = [part.strip() for part in headers.get("x-forwarded-for", "").split(",") if part.strip()][-_HOPS:]
        while peer is not None and hops and any(_within(peer, network) for network in self._proxies):
            peer = _address(hops.pop())
        return peer

    def _has_token(self, headers: dict[str, str]) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        sent = [token.strip()] if kind.lower() == "bearer" else []
        if kind.lower() == "basic":  # all that most clients of schema registries and of SQL know
            with contextlib.suppress(ValueError):
                sent += base64.b64decode(token, validate=True).decode().split(":", 1)[1:]
        sent += [
            part.strip()[len("bearer.") :]
            for part in headers.get("sec-websocket-protocol", "").split(",")
            if part.strip().startswith("bearer.")
        ]
        found = False
        for one in sent:
            digest = hash_token(one)
            for known in self._tokens:  # all are compared, so that the time says nothing
                found |= hmac.compare_digest(digest, known)
        return found

    def _with_headers(self, send: Send) -> Send:
        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", [])}
                more = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in present
                ]
                if self._tls:
                    more.append((b"strict-transport-security", b"max-age=31536000"))
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        return guarded


def _networks(texts: Sequence[str]) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def _address(text: str) -> Number | None:
    """`::ffff:10.0.0.1` is 10.0.0.1; a port and brackets, which some proxies add, are left out."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _within(address: Number, network: Network) -> bool:
    if isinstance(network, ipaddress.IPv6Network) and isinstance(address, ipaddress.IPv4Address):
        return ipaddress.IPv6Address((0xFFFF << 32) + int(address)) in network  # a list that says ::ffff:0:0/96
    return address in network


def _headers(scope: Scope) -> dict[str, str]:
    """By lower-case name; of several with one name, all, joined as HTTP has it."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _is_visit(scope: Scope, headers: dict[str, str]) -> bool:
    """Somebody followed a link to the page: the browser shows it, and whoever linked to it gets nothing."""
    return (
        scope["path"] == "/"
        and scope.get("method") == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _is_open(path: str) -> bool:
    return path == "/" or path.startswith(_OPEN_PATHS)


def _is_loopback(listen: str) -> bool:
    return Address.parse(listen, "console.listen").is_loopback


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="ayaflow"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
