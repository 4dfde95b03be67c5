"""What answers at ClickHouse's address is not always ClickHouse: whatever it says, streams says so and tries again."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.main import main
from common.errors import AyaflowError, ServiceUnavailable
from common.settings import ClickHouseSettings
from console.audit import read
from console.audit import run as audit_run
from console.store.client import Store
from streams.partition.ledger import EpochId
from streams.partition.storing import KafkaPartition, Refused
from streams.store.clickhouse import ClickHouseStore
from tests.fix_local import WRITER
from tests.unit.streams.store_contract import WINDOW, flows
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse

Answer = tuple[int, bytes, dict[str, str]]
LIES: dict[str, Answer] = {
    "nothing": (200, b"", {}),
    "a page": (200, b"<html>Welcome to the hotel's network</html>", {"Content-Type": "text/html"}),
    "half an answer": (200, b"\x01\x01\x01a", {"Content-Length": "4000"}),
    "not zstd": (200, b"not what the header says", {"Content-Encoding": "zstd"}),
    "not gzip": (200, b"not what the header says", {"Content-Encoding": "gzip"}),
    "not lz4": (200, b"not what the header says", {"Content-Encoding": "lz4"}),
    "broken pieces": (200, b"zz\r\nnot a length\r\n", {"Transfer-Encoding": "chunked"}),
    "an error without a reason": (500, b"", {}),
    "a gateway's error": (502, b"<html>Bad Gateway</html>", {}),
    "noise": (200, bytes(range(256)) * 40, {}),
}


class Handler(BaseHTTPRequestHandler):
    """Says the server's answer, or ClickHouse's."""

    protocol_version = "HTTP/1.1"
    server: "Liar"

    def setup(self) -> None:
        self.server.open += 1
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.open -= 1

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        lie = self.server.answer
        status, answer, headers = lie or self._forward(body)
        self.send_response(status)
        length = {} if "Transfer-Encoding" in headers else {"Content-Length": str(len(answer))}
        for name, value in (length | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = lie is not None and bool(headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return body

    def _forward(self, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=HANG_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name != "Transfer-Encoding"}
        connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        hop = {"transfer-encoding", "content-length", "connection", "keep-alive"}
        found = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
        content = answer.read()
        connection.close()
        return answer.status, content, found

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Liar(ThreadingHTTPServer):
    """A proxy of ClickHouse; while it has an `answer`, that is what it says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answer: Answer | None = None
        self.open = 0  # connections


@pytest.fixture(scope="module")
def liar(clickhouse_server: str) -> Iterator[Liar]:
    with Liar(urlsplit(clickhouse_server).netloc) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def settings(liar: Liar) -> ClickHouseSettings:
    return ClickHouseSettings(url=liar.url, **WRITER, database=f"ayaflow_{time.time_ns()}")


@pytest.fixture(scope="module")
def store(settings: ClickHouseSettings) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore(settings, "packets")
    yield made
    made.close()


PARTITION = KafkaPartition(77, 3)
QUESTIONS: list[Callable[[ClickHouseStore], Any]] = [
    lambda store: store.revisions(PARTITION, WINDOW),
    lambda store: store.rows(PARTITION, WINDOW, 0),
    lambda store: store.complete(PARTITION, WINDOW, 0, 40),
    lambda store: store.stored_until(PARTITION),
    lambda store: store.other_lengths(PARTITION, 10, 0),
    lambda store: store.stored_epochs([EpochId("n1", 7, 1)]),
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_sentence_and_ends_nothing(liar: Liar, store: ClickHouseStore, lie: str) -> None:
    liar.answer = None
    store.insert(flows(5), PARTITION, 0, 40)
    for ask in QUESTIONS:
        liar.answer = None
        ask(store)
        liar.answer = LIES[lie]
        if lie in {"nothing", "noise"}:  # what is taken for an empty result is a lie that nobody can tell
            with contextlib.suppress(ServiceUnavailable):
                assert not ask(store)
        else:
            with pytest.raises(ServiceUnavailable, match=f"ClickHouse at {liar.url} ") as caught:
                ask(store)
            assert not isinstance(caught.value, Refused)
    liar.answer = None
    assert store.revisions(PARTITION, WINDOW) == [(0, 40)]


@pytest.mark.parametrize("lie", LIES)
def test_the_audit_too_has_a_sentence_for_a_lie(
    liar: Liar,
    settings: ClickHouseSettings,
    store: ClickHouseStore,
    lie: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_run, "NEIGHBOUR_SECONDS", 0.1)
    liar.answer = None
    store.check()
    liar.answer = LIES[lie]
    words = [f"--set=clickhouse.{name}={getattr(settings, name)}" for name in ("url", "database")]
    assert main(["audit", *words, "--set=kafka.bootstrap_servers=127.0.0.1:1"]) != 0
    assert "ClickHouse at" in capsys.readouterr().err
    liar.answer = None
    with Store(settings) as opened:
        liar.answer = LIES[lie]
        with pytest.raises(AyaflowError):
            read.read(opened, read.Range())
    liar.answer = None


def test_a_connection_that_failed_is_closed(liar: Liar, store: ClickHouseStore) -> None:
    for _ in range(20):
        liar.answer = None
        store.check()
        liar.answer = LIES["a gateway's error"]
        with pytest.raises(ServiceUnavailable):
            store.check()
    until(lambda: liar.open <= 2, lambda: liar.open)
    liar.answer = None
