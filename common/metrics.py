"""A component's /metrics (Prometheus) and /health (JSON) over HTTP, in a thread of its own."""

import json
import os
import select
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from common.address import Address, listen

Health = Callable[[], Mapping[str, Any]]


class MetricsServer:
    """Serves while it is open; use it with `with`.

    `health` returns a JSON object; its key `ok` (bool) decides between status 200 and 503.
    """

    def __init__(self, address: str, setting: str, health: Health, registry: CollectorRegistry = REGISTRY) -> None:
        """`address`: HOST:PORT of the setting. Raises SettingsError, EnvironmentProblem."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/health":
                    state = health()
                    self._answer(200 if state.get("ok") else 503, "application/json", json.dumps(state).encode())
                elif self.path == "/metrics":
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, kind, encode(registry))
                else:
                    self._answer(404, "text/plain", b"see /metrics and /health\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Not a log line a scrape."""

        place = Address.parse(address, setting)
        self._server = ThreadingHTTPServer((place.host, place.port), Handler, bind_and_activate=False)
        self._server.socket.close()  # of IPv4, whatever the address is
        self._server.socket = listen(place)
        self._server.daemon_threads = True
        self._server.timeout = 0  # a client that is gone again must not keep handle_request waiting
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._server.server_close()
        os.close(self._end)

    def _serve(self) -> None:
        """`serve_forever` would wake up twice a second, a quarter of what a producer takes that has nothing to do."""
        waiting = select.poll()
        waiting.register(self._server, select.POLLIN)
        waiting.register(self._end, select.POLLIN)
        while self._end not in dict(waiting.poll()):
            self._server.handle_request()
