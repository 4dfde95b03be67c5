"""A proxy of the environment is not asked for what is on this machine: by each of the clients that we use, for real."""

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import clickhouse_connect
import pytest

from cli.proxies import spare_loopback
from schemas.avro import registry

MARK = b'{"error_code": 418, "message": "here I am"}'


class _Six(HTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(params=["127.0.0.1", "::1"])
def here(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Host and port of a server that answers all with MARK."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(418)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(MARK)))
            self.end_headers()
            self.wfile.write(MARK)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with (_Six if ":" in request.param else HTTPServer)((request.param, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield request.param, server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is to be asked of a proxy that is not there; some is not, by the user's own words."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "kafka.example")


def _clickhouse(host: str, port: int) -> None:
    clickhouse_connect.get_client(host=host, port=port)


def _registry(host: str, port: int) -> None:
    registry.connect(f"http://{f'[{host}]' if ':' in host else host}:{port}").get_subjects()


CLIENTS = {"clickhouse-connect": _clickhouse, "the registry's": _registry}


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.usefixtures("proxied")
def test_each_client_asks_this_machine_itself(ask: Callable[[str, int], None], here: tuple[str, int]) -> None:
    with pytest.raises(Exception, match=r"(?s)^(?!.*here I am)"):  # so it is without us
        ask(*here)
    spare_loopback(os.environ)
    with pytest.raises(Exception, match="here I am"):
        ask(*here)


@pytest.mark.usefixtures("proxied")
def test_what_the_user_spares_is_spared_still() -> None:
    spare_loopback(os.environ)
    assert urllib.request.proxy_bypass("kafka.example:80")
    assert not urllib.request.proxy_bypass("another.example:80")


@pytest.mark.parametrize("environment", [{}, {"http_proxy": ""}, {"http_proxy": "http://x", "no_proxy": "*"}])
def test_where_nothing_is_asked_of_a_proxy_nothing_changes(environment: dict[str, str]) -> None:
    before = dict(environment)
    spare_loopback(environment)
    assert environment == before


@pytest.mark.usefixtures("proxied")
def test_a_command_asks_this_machine_itself(here: tuple[str, int]) -> None:
    host, port = here
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    words = ("query", "SELECT 1", "--set", f"clickhouse.url={url}")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert "here I am" in done.stderr, done
