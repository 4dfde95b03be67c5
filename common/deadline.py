"""A deadline for the whole of an answer.

A socket's time-out is for each read: a peer that sends an octet now and then never meets it. `within` says when all
that the thread reads and writes is to be done; sockets made here keep to it, and a TimeoutError says when they cannot.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_end: ContextVar[float | None] = ContextVar("_end", default=None)  # on the monotonic clock


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What the block reads from our sockets, and writes, takes no longer, or raises TimeoutError. May be nested."""
    before, end = _end.get(), time.monotonic() + seconds
    token = _end.set(end if before is None else min(before, end))
    try:
        yield
    finally:
        _end.reset(token)


@contextlib.contextmanager
def closing_after(seconds: float, close: Callable[[], None]) -> Iterator[None]:
    """For clients whose sockets are not ours: `close` is called when the block lasts longer; then their reads end."""
    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def bounded(plain: socket.socket) -> socket.socket:
    """The same connection, which keeps to `within`; `plain` is used up."""
    timeout = plain.gettimeout()
    made = _Socket(fileno=plain.detach())
    made.settimeout(timeout)
    return made


def bounded_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context; sockets that it makes keep to `within`."""
    context.sslsocket_class = _TLSSocket
    return context


def opener(tls: ssl.SSLContext | None, proxies: dict[str, str] | None) -> urllib.request.OpenerDirector:
    """Of URLs, by connections that keep to `within`. `tls`: of https; `proxies`: None: the environment's."""
    secure = [urllib.request.HTTPSHandler(context=bounded_tls(tls))] if tls else []
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _HTTPHandler, *secure)


@contextlib.contextmanager
def _as_long_as_left(used: socket.socket) -> Iterator[None]:
    end, timeout = _end.get(), used.gettimeout()
    if end is None:
        yield
        return
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out: the answer came too slowly")
    used.settimeout(left if timeout is None else min(left, timeout))
    try:
        yield
    finally:
        used.settimeout(timeout)


class _Socket(socket.socket):
    def recv_into(self, *arguments: Any) -> int:
        with _as_long_as_left(self):
            return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        with _as_long_as_left(self):
            super().sendall(*arguments)


class _TLSSocket(ssl.SSLSocket):
    def recv_into(self, *arguments: Any) -> int:
        with _as_long_as_left(self):
            return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:  # by sendall
        with _as_long_as_left(self):
            return super().send(*arguments)


class _HTTPConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = bounded(self.sock)


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, req)
