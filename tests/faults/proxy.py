"""An HTTP proxy in front of ClickHouse that does harm when it is told to."""

import contextlib
import http.client
import io
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODES = ("refuse", "error", "readonly", "hang", "lose", "slow", "drip")
"""What it does with a request: closes the connection; answers 500; answers that the table is read-only; takes half of
it and says nothing; has it done and never says so; takes its time; has it done and says so an octet now and then."""
_SLOW_SECONDS, _DRIP_SECONDS = 1.0, 0.2
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "server", "date"})
_ERRORS = {
    "error": (1002, "Code: 1002. DB::Exception: The proxy of the fault tests says so. (UNKNOWN_EXCEPTION)"),
    "readonly": (242, "Code: 242. DB::Exception: Table is in readonly mode (zookeeper path: /x). (TABLE_IS_READ_ONLY)"),
}


class Proxy:
    """Listens on 127.0.0.1; `mode` is one of MODES, or empty: all is well."""

    def __init__(self, port: int, upstream: int) -> None:
        self.harmed: Counter[str] = Counter()  # requests, by mode
        self._calm = threading.Event()
        self._calm.set()
        self._mode = ""
        self._server = _Server(port, upstream, self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert not mode or mode in MODES
        self._calm.set()  # who hangs is let go
        self._calm = threading.Event()
        self._mode = mode
        if not mode:
            self._calm.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Until the mode changes, or so long -> whether it did."""
        return self._calm.wait(seconds)

    def close(self) -> None:
        self.mode = ""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, upstream: int, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy, self.upstream = proxy, upstream

    def handle_error(self, *_: object) -> None:
        """Who is killed closes his connections; that is what this is for."""


class _Dripping(io.BufferedIOBase):
    """Of what is written an octet now and then, until the mode changes."""

    def __init__(self, out: io.BufferedIOBase, proxy: Proxy) -> None:
        self._out, self._proxy = out, proxy

    def writable(self) -> bool:
        return True

    def write(self, octets: Any) -> int:
        rest = bytes(octets)
        while rest and not self._proxy.wait(_DRIP_SECONDS):
            self._out.write(rest[:1])
            rest = rest[1:]
        self._out.write(rest)
        return len(octets)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        proxy = self.server.proxy
        mode = proxy.mode
        if mode:
            proxy.harmed[mode] += 1
        if mode == "refuse":
            self.close_connection = True
            return
        if mode == "hang":
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            proxy.wait()
            self.close_connection = True
            return
        body = self._body()
        if mode in _ERRORS:
            code, text = _ERRORS[mode]
            self._answer(500, [("X-ClickHouse-Exception-Code", str(code))], text.encode())
            return
        if mode == "slow":
            threading.Event().wait(_SLOW_SECONDS)
        status, headers, answer = self._ask(body)
        if mode == "lose":
            self.close_connection = True
            return
        if mode == "drip":
            self.wfile = _Dripping(self.wfile, proxy)
        self._answer(status, headers, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        asked = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=300)
        with contextlib.closing(asked) as connection:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            try:
                connection.request(self.command, self.path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            except (OSError, http.client.HTTPException) as error:
                return 502, [], f"ClickHouse does not answer: {error}".encode()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextlib.contextmanager
def running(port: int, upstream: int) -> Iterator[Proxy]:
    """A proxy from `port` to `upstream`, both of 127.0.0.1."""
    proxy = Proxy(port, upstream)
    try:
        yield proxy
    finally:
        proxy.close()
