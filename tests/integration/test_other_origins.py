"""Chromium with a page of another origin: of the console and of the embedded ClickHouse it gets nothing."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from common import settings as settings_module
from console.app import build_app
from tests.e2e.browser import PATIENCE_MS, chromium
from tests.fix_local import free_port
from tests.integration.fix_clickhouse import http
from tests.integration.fix_console import served

pytestmark = pytest.mark.clickhouse

PAGE = """<!doctype html><html><body><h1>innocent page</h1>
<form id=form method=post enctype=text/plain target=frame action="CLICKHOUSE/">
<input name="INSERT INTO caught VALUES (1) --"></form>
<iframe name=frame></iframe><iframe src="CONSOLE/"></iframe><iframe src="CLICKHOUSE/?query=SELECT+1"></iframe>
<img src="CLICKHOUSE/?query=SELECT+1"><img src="CONSOLE/api/stats"><script src="CONSOLE/api/stats"></script>
<link rel=stylesheet href="CONSOLE/static/style.css">
<script>
document.getElementById("form").submit();
const asked = [];
for (const mode of ["no-cors", "cors"]) {
  asked.push(fetch("CLICKHOUSE/?query=SELECT+1", {mode}));
  asked.push(fetch("CLICKHOUSE/", {mode, method: "POST", body: "INSERT INTO caught VALUES (2)"}));
  asked.push(fetch("CONSOLE/api/stats", {mode}));
}
asked.push(fetch("CLICKHOUSE/", {method: "POST", body: "SELECT 1", headers: {"X-ClickHouse-User": "default"}}));
window.opened = 0;
asked.push(new Promise(done => {
  const socket = new WebSocket("CONSOLE/api/stream".replace("http", "ws"));
  socket.onopen = () => { window.opened += 1; };
  socket.onmessage = () => { window.opened += 1; };
  socket.onclose = done;
}));
window.read = 0;
for (const each of asked)
  each.then(answer => answer.text?.()).then(text => { window.read += (text || "").length; }, () => 0);
Promise.allSettled(asked).then(() => { window.settled = true; });
</script></body></html>"""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, page: bytes, *arguments: object) -> None:
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self._page)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])  # another port: the same site; another name: another one
def test_a_page_of_another_origin_gets_nothing(browser: Browser, clickhouse_server: str, name: str) -> None:
    console = f"http://127.0.0.1:{free_port()}"
    away = "127.0.0.1:1"
    settings = settings_module.load(
        flags={
            "kafka.bootstrap_servers": away,
            "clickhouse.url": f"http://{away}",
            "producer.metrics_listen": away,
            "streams.metrics_listen": away,
        }
    )
    http(clickhouse_server, b"CREATE TABLE IF NOT EXISTS caught (a UInt8) ENGINE = MergeTree ORDER BY a")
    page = PAGE.replace("CLICKHOUSE", clickhouse_server).replace("CONSOLE", console).encode()
    place = urlsplit(console)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, page)) as elsewhere,
        served(build_app(settings), host="127.0.0.1", port=place.port, ws="websockets-sansio"),
    ):
        thread = threading.Thread(target=elsewhere.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        answers: dict[str, set[int]] = {}
        context.on(
            "response",
            lambda answer: answers.setdefault(f"{answer.request.method} {answer.url}", set()).add(answer.status),
        )
        try:
            opened = context.new_page()
            opened.goto(f"http://{name}:{elsewhere.server_port}/", wait_until="load")
            opened.wait_for_function("window.settled")
            got = (opened.evaluate("window.opened"), opened.evaluate("window.read"))
        finally:
            context.close()
            elsewhere.shutdown()
            thread.join()
    assert got == (0, 0)
    ours = {asked: found for asked, found in answers.items() if clickhouse_server in asked or console in asked}
    assert len(ours) >= 3  # Chromium itself refuses some, and tells none of them
    assert all(found == {403} for found in ours.values()), ours
    assert http(clickhouse_server, b"SELECT count() FROM caught")[2] == b"0\n"
