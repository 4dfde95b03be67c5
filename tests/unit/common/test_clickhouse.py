import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common.clickhouse import Endpoint, Hosts, connect, endpoints
from common.errors import SettingsError
from common.settings import ClickHouseSettings, load


@pytest.mark.parametrize(
    ("url", "again"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:8123"),
        ("https://ch.example", "https://ch.example:8443"),
        ("https://ch.example:443/", "https://ch.example:443"),
        ("http://[::1]:18123/proxy/ch/", "http://[::1]:18123/proxy/ch"),
        ("http://user:word@ch:1/x", "http://ch:1/x"),
    ],
)
def test_a_url_is_read_once(url: str, again: str) -> None:
    assert Endpoint.of(url).url == again


@pytest.mark.parametrize("url", ["http://[::1", "http://::1:8123", "http://ch:port", "http://"])
def test_a_url_without_an_address_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^clickhouse\.url: write it as "):
        Endpoint.of(url)


def test_several_hosts_take_turns() -> None:
    settings = ClickHouseSettings(url="http://ch1, https://ch2:1/x", cluster="main")
    assert [each.url for each in endpoints(settings.url)] == ["http://ch1:8123", "https://ch2:1/x"]
    hosts, asked = Hosts(settings), []
    for _ in range(3):
        asked.append(hosts.asked.address.host)
        hosts.leave()
    assert asked == ["ch1", "ch2", "ch1"]


def test_several_hosts_are_those_of_a_cluster() -> None:
    with pytest.raises(SettingsError, match=r"clickhouse: .* only with clickhouse\.cluster"):
        load(flags={"clickhouse.url": "http://ch1,http://ch2"})


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str]]]:
    """The port of a server that refuses all, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], paths
        finally:
            server.shutdown()
            thread.join()


def test_a_client_asks_below_the_urls_path(asked: tuple[int, list[str]]) -> None:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    port, paths = asked
    settings = ClickHouseSettings(url=f"http://127.0.0.1:{port}/proxy/ch/")
    with pytest.raises(ClickHouseError):
        connect(settings, database="default", timeout_seconds=5)
    assert paths
    assert all(path.startswith("/proxy/ch?") for path in paths), paths
