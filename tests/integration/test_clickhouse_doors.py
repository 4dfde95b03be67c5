"""The embedded ClickHouse's port as strangers meet it: pages, bombs, damaged bodies, lines that are only held open."""

import gzip
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.clickhouse.body import IDLE_SECONDS
from deploy.local.clickhouse.doors import HEADER_SECONDS
from deploy.local.clickhouse.wire import blocks, compression
from tests.fix_local import running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import http as ask
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "\x80"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Host": "rebound.example.org"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1:abc"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Host": "127.0.0.1:99999999"}, 400),
        ({"Origin": "http://["}, 400),
        ({"Origin": "http://127.0.0.1:abc"}, 400),
        ({"Origin": "nothing"}, 400),
    ],
)
@pytest.mark.parametrize("request_line", ["GET /?query=SELECT+1", "GET /ping", "POST /", "OPTIONS /", "HEAD /"])
def test_a_page_of_another_origin_is_refused_whatever_it_asks(
    clickhouse_server: str, headers: dict[str, str], expected: int, request_line: str
) -> None:
    method, path = request_line.split()
    connection = http.client.HTTPConnection(urlsplit(clickhouse_server).netloc, timeout=HANG_SECONDS)
    connection.request(method, path, b"SELECT 1" if method == "POST" else None, headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == (204 if method == "OPTIONS" and expected == 200 else expected)
    assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")]
    if expected != 200 and method != "HEAD":
        assert body.startswith(b"Code: ")
        assert (b"page of another origin" in body) or (b"this machine only" in body) or (b"is no " in body)


def test_head_and_options_are_answered_as_a_server_does(clickhouse_server: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(clickhouse_server).netloc, timeout=HANG_SECONDS)
    for method, path, status in (
        ("HEAD", "/", 200),
        ("HEAD", "/ping", 200),
        ("OPTIONS", "/", 204),
        ("HEAD", "/?query=SELECT+1", 400),
    ):
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
        assert method == "HEAD" or answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    connection.close()


@pytest.fixture(scope="module")
def lonely() -> Iterator[tuple[str, int]]:
    """A server that nobody else uses -> (url, process id)."""
    with temporary_directory() as directory, running_clickhouse(directory) as (url, process):
        ask(url, b"CREATE TABLE t (s String) ENGINE = Null")
        yield url, process.pid


def peak_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10


def bomb(kind: str) -> bytes:
    """800 MB of rows, packed into some kilobytes."""
    encoder = compression.encoder(kind)
    return b"".join(encoder.pack(b"0\n" * (1 << 19)) for _ in range(800)) + encoder.finish()


@pytest.mark.parametrize(
    ("kind", "statement"),
    [("zstd", ""), ("gzip", ""), ("lz4", ""), ("br", ""), ("zstd", "INSERT INTO t FORMAT LineAsString")],
)
def test_a_bomb_takes_little_memory_and_others_are_answered_meanwhile(
    lonely: tuple[str, int], kind: str, statement: str
) -> None:
    url, pid = lonely
    body = bomb(kind)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = peak_mb(pid)
    answer: list[tuple[int, bytes]] = []

    def throw() -> None:
        status, _, text = ask(url, body, {"Content-Encoding": kind}, query=statement)
        answer.append((status, text))

    thread = threading.Thread(target=throw)
    thread.start()
    thrown, slowest = time.monotonic(), 0.0
    while thread.is_alive():
        began = time.monotonic()
        assert ask(url, b"SELECT 1")[2] == b"1\n"
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    thread.join()
    status, text = answer[0]
    assert (status, text[:10] if statement else b"a query may have 16 MB" in text) == (
        (200, b"") if statement else (400, True)
    )
    assert peak_mb(pid) - before < (400 if statement else 150)
    assert slowest < max(1, (time.monotonic() - thrown) / 2)  # who waits for the bomb, waits for all of it


def test_work_on_a_body_ends_with_its_client(lonely: tuple[str, int]) -> None:
    url, _ = lonely
    place = urlsplit(url)
    body = bomb("zstd")
    who = "user=ayaflow&password=of-the-tests"  # who may write
    head = f"POST /?{who}&query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Encoding: zstd\r\n"
    with socket.create_connection((place.hostname or "", place.port or 0)) as line:
        line.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body)
        until(lambda: ask(url, b"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t%'")[2] == b"1\n")
    until(lambda: ask(url, b"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t%'")[2] == b"0\n")


def test_a_damaged_or_unknown_body_is_a_sentence(clickhouse_server: str) -> None:
    for encoding, decompress, expected in (
        ("zstd", "0", b"not zstd data"),
        ("rot13", "0", b"not known; use one of"),
        ("", "1", b"compressed blocks"),
    ):
        headers = {"Content-Encoding": encoding}
        status, _, text = ask(clickhouse_server, b"neither packed nor plain", headers, decompress=decompress)
        assert (status, expected in text) == (400, True), text
    assert ask(clickhouse_server, b"SELECT '\xff'")[0] == 400


def test_blocks_of_clickhouse_are_read_and_written(clickhouse_server: str) -> None:
    statement = blocks.Encoder("LZ4").pack(b"SELECT number FROM numbers(300000)")
    for method in blocks.METHODS:
        status, headers, body = ask(
            clickhouse_server, statement, compress="1", decompress="1", network_compression_method=method
        )
        assert (status, headers["Content-Encoding"]) == (200, None)
        decoder = blocks.Decoder()
        decoder.push(body)
        plain = b""
        while part := decoder.pull(1 << 20):
            plain += part
        assert plain == b"".join(b"%d\n" % number for number in range(300_000))


def test_an_answer_that_is_sent_in_pieces_is_packed_too(clickhouse_server: str) -> None:
    query = "SELECT number FROM numbers(300000)"
    status, headers, body = ask(
        clickhouse_server, None, {"Accept-Encoding": "gzip"}, query=query, enable_http_compression="1"
    )
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body).count(b"\n") == 300_000


@pytest.mark.parametrize(
    ("beginning", "seconds"),
    [
        (b"", HEADER_SECONDS),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", HEADER_SECONDS),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nSELECT", IDLE_SECONDS),
    ],
)
def test_a_line_that_is_only_held_open_is_closed(lonely: tuple[str, int], beginning: bytes, seconds: int) -> None:
    url, _ = lonely
    place = urlsplit(url)
    lines = [socket.create_connection((place.hostname or "", place.port or 0)) for _ in range(200)]
    for line in lines:
        line.sendall(beginning)
        line.settimeout(seconds + HANG_SECONDS)
    assert ask(url, b"SELECT 1")[2] == b"1\n"
    for line in lines:
        answer = line.recv(1 << 16)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        line.close()
