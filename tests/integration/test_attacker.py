"""A script that attacks a whole `ayaflow up` from the machine itself and over Kafka: it gets nothing, and all go on."""

import contextlib
import csv
import io
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlencode, urlsplit

import pytest
import yaml
from confluent_kafka import Producer

from schemas.avro.codec import Codec
from tests.fix_local import environment
from tests.hostile.strangers import NAMES, Stranger
from tests.integration.fix_clickhouse import http
from tests.integration.fix_host import OUTSIDE, READER, SECRET, Host
from tests.integration.fix_up import Installation, first_line, started
from tests.integration.test_clickhouse_doors import bomb
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]

LINES = 300  # that are held open at each server
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
FORMULA = "=cmd|' /C calc'!A0"


class Attacker:
    """What it tries; `loot` is all that it was answered."""

    def __init__(self, up: Installation, host: Host) -> None:
        self.up, self.host, self.loot = up, host, list[bytes]()
        settings = yaml.safe_load(up.config.read_text())
        self.kafka = settings["kafka"]["bootstrap_servers"]
        listens = (settings[part]["metrics_listen"] for part in ("producer", "streams"))
        self.servers = [up.console, up.clickhouse, *(f"http://{listen}" for listen in listens)]
        self._held: list[socket.socket] = []

    def statements(self) -> None:
        """Files, functions, engines, other servers: as who may read, and with guessed passwords."""
        for statement in OUTSIDE:
            sql = statement.format(file=self.host.file, written=self.host.untouched, port=self.host.port)
            self.loot.append(http(self.up.clickhouse, sql.encode(), **READER)[2])
        for password in ("", "ayaflow", "default", "of-the-tests"):
            status, _, body = http(self.up.clickhouse, b"SELECT 1", user="ayaflow", password=password)
            assert status in {401, 403}, (password, body)

    def pages(self) -> None:
        """A page of another origin, and names that lead here."""
        for server in self.servers[:2]:
            for headers in (
                {"Sec-Fetch-Site": "cross-site"},
                {"Origin": "https://example.org"},
                {"Host": "rebound.example.org"},
            ):
                for path in ("/?query=SELECT+1", "/api/flows", "/api/health", "/ping", "/openapi.json"):
                    status, body = asked(server + path, headers)
                    self.loot.append(body)
                    assert status in {400, 403, 404}, (server, path, headers)

    def bombs(self) -> None:
        """Some kilobytes that are 800 MB."""
        for kind in ("zstd", "gzip", "lz4", "br"):
            headers = {"Content-Encoding": kind}
            assert http(self.up.clickhouse, bomb(kind), headers, **READER)[0] == 400
            with contextlib.suppress(OSError):
                asked(self.up.console + "/api/flows", headers, bomb(kind))

    def lines(self) -> None:
        """Connections on which half a request comes, and then nothing."""
        for server in self.servers:
            place = urlsplit(server)
            for number in range(LINES):
                line = socket.create_connection((place.hostname or "", place.port or 0), timeout=HANG_SECONDS)
                with contextlib.suppress(OSError):
                    line.sendall(
                        (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx")[
                            number % 3
                        ]
                    )
                self._held.append(line)

    def names(self) -> None:
        """Whoever may write to Kafka may be a node of any name."""
        client = Producer({"bootstrap.servers": self.kafka, "log_level": 0})
        with Codec() as codec:
            for name in (*NAMES, FORMULA, "@SUM(1)", "\x1b]8;;http://x\x07"):
                stranger = Stranger(name, time.time(), interface=name[:200])
                for batch in (*stranger.batches(2), stranger.end()):
                    client.produce("ayaflow.packets", codec.encode_packet_batch(batch), key=b"x")
        assert client.flush(HANG_SECONDS) == 0

    def asks(self) -> list[str]:
        """Of each server, what it must go on answering."""
        paths = ("/api/live", "/?query=SELECT+1", "/health", "/health")
        return [server + path for server, path in zip(self.servers, paths, strict=True)]

    def close(self) -> None:
        for line in self._held:
            line.close()


def asked(url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=HANG_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def at_once(url: str) -> bool:
    """Within three seconds: seen once, since the machine may be busy."""
    began = time.monotonic()
    asked(url)
    return time.monotonic() - began < 3


@pytest.fixture
def attacker(installation: Installation, host: Host) -> Iterator[Attacker]:
    with started(installation) as process:
        assert first_line(process, installation) == f"ready {installation.console}\n"
        with contextlib.closing(Attacker(installation, host)) as made:
            yield made
        assert process.poll() is None


def said(up: Installation, *words: str) -> str:
    """What a command writes, to a pipe."""
    command = [sys.executable, "-m", "cli.main", "--config", str(up.config), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=HANG_SECONDS, check=True)
    return done.stdout


def test_an_attacker_gets_nothing_and_leaves_all_answering(attacker: Attacker) -> None:
    up = attacker.up
    for attack in (attacker.names, attacker.statements, attacker.pages, attacker.bombs, attacker.lines):
        attack()
        for place in attacker.asks():
            until(partial(at_once, place), partial(str, (attack.__name__, place)))
    assert attacker.host.unharmed()
    assert not [each for each in attacker.loot if SECRET.encode() in each or b"root:" in each]

    def stored() -> bool:
        query = urlencode({"query": "SELECT uniqExact(node) FROM ayaflow.flows"})
        return int(asked(f"{up.clickhouse}/?{query}")[1]) >= len(NAMES) + 3

    until(stored)
    for text in (
        said(up, "flows", "--since", "1h", "--limit", "1000", "--format", "csv"),
        said(up, "query", "SELECT node FROM flows", "--format", "csv"),
        asked(f"{up.console}/api/flows?limit=1000&format=csv")[1].decode(),
    ):
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert any("cmd|" in cell for cell in cells)
        assert not [cell for cell in cells if cell.startswith(FORMULA_STARTS) and not cell.lstrip("+-").isdigit()]
    table = said(up, "flows", "--since", "1h", "--limit", "1000")
    assert all(each.isprintable() for each in table.splitlines())
