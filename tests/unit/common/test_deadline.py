"""Answers that come an octet at a time, of a real server."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clickhouse import Hosts, connect
from common.deadline import bounded, closing_after, opener, within
from common.errors import ServiceUnavailable, SettingsError
from common.security.login import OAuth, trusting
from common.security.tokens import Tokens
from common.settings import ClickHouseSettings
from console import health
from schemas.avro.registry import ConfluentRegistry
from schemas.topics import TopicNames

SECONDS = 0.2
LATE = 4.0  # on a busy machine; an answer takes 30 s
DRIP_SECONDS = 0.02
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
BODY, HEADERS = HEAD, b"HTTP/1.1 200 OK\r\nX-ClickHouse-Progress: "
"""What comes at once; all behind it drips: the body, or a header."""


@contextlib.contextmanager
def dripping(at_once: bytes = BODY, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that answers each request so, and then an octet now and then."""
    done, threads = threading.Event(), list[threading.Thread]()

    def answer(accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), accepted if tls is None else tls.wrap_socket(accepted, True) as peer:
            peer.recv(1 << 16)
            peer.sendall(at_once)
            while not done.wait(DRIP_SECONDS):
                peer.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=answer, args=[listening.accept()[0]]))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            listening.shutdown(socket.SHUT_RDWR)
            for thread in (serving, *threads):
                thread.join()


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """The block ends long before the answer does."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LATE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue(tmp_path_factory.mktemp("tls"))


def issue(directory: Path) -> Path:
    """A certificate for localhost; its key lies beside it."""
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    written = ("-keyout", "key.pem", "-out", "certificate.pem")
    subprocess.run(["openssl", *made, *named, *written], cwd=directory, check=True, capture_output=True)
    return directory / "certificate.pem"


def of_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def read(url: str, tls: ssl.SSLContext | None = None) -> None:
    with within(SECONDS), opener(tls, {}).open(url, timeout=SECONDS) as answer:
        answer.read()


@pytest.mark.parametrize("at_once", [BODY, HEADERS])
def test_a_url_is_read_in_time_or_not_at_all(at_once: bytes) -> None:
    with dripping(at_once) as port, soon(), pytest.raises((TimeoutError, urllib.error.URLError), match="timed out"):
        read(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("at_once", [BODY, HEADERS])
def test_so_it_is_over_tls(certificate: Path, at_once: bytes) -> None:
    client = trusting(str(certificate), "test")
    late = pytest.raises((TimeoutError, urllib.error.URLError), match="timed out")
    with dripping(at_once, of_server(certificate)) as port, soon(), late:
        read(f"https://localhost:{port}/", client)


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with bounded(socket.create_connection(("127.0.0.1", port))) as peer:
        peer.sendall(b"GET")
        yield peer


def receive(peer: socket.socket) -> None:
    while peer.recv_into(bytearray(1000)):
        pass


def test_the_shorter_of_two_deadlines_counts_and_none_is_left_behind_the_block() -> None:
    with dripping() as port, connected(port) as peer, soon(), within(60):
        for seconds in (SECONDS, 0.0):
            with pytest.raises(TimeoutError, match="timed out"), within(seconds), within(60):
                receive(peer)
        assert peer.gettimeout() is None
        assert peer.recv_into(bytearray(1)) == 1


def test_what_is_sent_is_bounded_too() -> None:
    """To a peer that reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening, connected(listening.getsockname()[1]) as peer:
        peer.settimeout(60)
        with listening.accept()[0], soon(), pytest.raises(TimeoutError), within(SECONDS):
            peer.sendall(bytes(64 << 20))


def test_without_a_deadline_an_answer_takes_as_long_as_it_likes() -> None:
    with dripping() as port, connected(port) as peer, peer.makefile("rb") as answer:
        assert len(answer.read(len(BODY) + 30)) == len(BODY) + 30


def test_a_client_of_others_is_closed_when_it_takes_too_long() -> None:
    closed = threading.Event()
    with closing_after(0.05, closed.set):
        assert closed.wait(10)
    closed.clear()
    with closing_after(0.05, closed.set):
        pass
    assert not closed.wait(0.2)


@pytest.mark.parametrize("at_once", [BODY, HEADERS])
def test_who_connects_to_clickhouse_is_not_held(at_once: bytes) -> None:
    with dripping(at_once) as port, soon(), pytest.raises(Exception, match="timed out"):
        connect(ClickHouseSettings(url=f"http://127.0.0.1:{port}"), database="default", timeout_seconds=1)


def test_nor_is_he_over_tls(certificate: Path) -> None:
    with dripping(BODY, of_server(certificate)) as port:
        settings = ClickHouseSettings(url=f"https://localhost:{port}", tls_ca=certificate)
        with soon(), pytest.raises(Exception, match="timed out"):
            connect(settings, database="default", timeout_seconds=1)


def test_authorities_are_read_again_for_each_connection(certificate: Path, tmp_path: Path) -> None:
    """Those of the server may be renewed while we run."""
    with dripping(BODY, of_server(certificate)) as port:
        hosts = Hosts(ClickHouseSettings(url=f"https://localhost:{port}", tls_ca=issue(tmp_path)))
        with pytest.raises(Exception, match="certificate verify failed"):
            hosts.connect(database="default", timeout_seconds=1)
        (tmp_path / "certificate.pem").write_bytes(certificate.read_bytes())
        with soon(), pytest.raises(Exception, match="timed out"):
            hosts.connect(database="default", timeout_seconds=1)
        (tmp_path / "certificate.pem").unlink()
        with pytest.raises(SettingsError, match=r"clickhouse\.tls_ca"):
            hosts.connect(database="default", timeout_seconds=1)


def test_a_part_that_drips_is_not_well() -> None:
    with dripping() as port, soon(), pytest.raises(TimeoutError):
        health.component(f"127.0.0.1:{port}", "streams.metrics_listen", SECONDS)


def test_a_token_is_not_waited_for_without_end() -> None:
    with dripping() as port:
        oauth = OAuth(url=f"http://127.0.0.1:{port}/", client_id="me", client_secret="s", scope="", ca=None)
        with soon(), pytest.raises(ServiceUnavailable, match="does not answer"):
            Tokens(oauth, timeout_seconds=SECONDS).token()


@pytest.mark.parametrize("at_once", [BODY, HEADERS])
def test_a_registry_that_drips_is_silent_each_time_it_is_asked(at_once: bytes) -> None:
    with dripping(at_once) as port:
        registry = ConfluentRegistry(f"http://127.0.0.1:{port}", TopicNames.of("ayaflow."), ask_seconds=SECONDS)
        with contextlib.closing(registry):
            for _ in range(2):
                with soon(), pytest.raises(ServiceUnavailable, match="does not answer"):
                    registry.schema(7)
