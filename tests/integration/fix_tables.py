"""Our tables in a database of its own, and the command line that reads them."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.main import main
from common.settings import ClickHouseSettings
from console.audit import run as audit_run
from console.audit import settle
from tests.integration.fix_clickhouse import our_tables

Run = Callable[..., tuple[int, str, str]]
_databases = iter(range(1_000_000))
_USUAL: dict[str, dict[str, Any]] = {
    "flows": {
        "window_seconds": 10,
        "node": "n1",
        "interface": "eth0",
        "direction": "ingress",
        "protocol": 6,
        "src_addr": "::ffff:10.0.0.1",
        "dst_addr": "::ffff:10.0.0.2",
        "src_port": 40_000,
        "dst_port": 443,
    },
    "names": {
        "window_seconds": 10,
        "node": "n1",
        "kind": "dns",
        "status": "named",
        "client": "::ffff:10.0.0.1",
        "server": "::ffff:10.0.0.53",
        "server_port": 53,
        "protocol": 17,
        "name": "www.example.org",
        "qtype": 1,
        "rcode": 0,
        "count": 1,
        "latency_count": 1,
        "latency_us_sum": 1_000,
        "latency_us_max": 1_000,
    },
}
"""What a row has that a test says nothing about."""


class Tables:
    """Our tables in a database of their own."""

    def __init__(self, url: str, database: str, client: Any) -> None:
        self.url, self.database, self._client = url, database, client

    def flow(self, **values: Any) -> None:
        """One row of flows."""
        self.insert("flows", [values])

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Rows of flows or names at once, all with the same columns; the others are those of one that is usual."""
        more = {"received": int(time.time())} if table == "names" else {}  # what was received in 1970 is gone at once
        whole = [{**_USUAL[table], **more, **row} for row in rows]
        values = [list(row.values()) for row in whole]
        self._client.insert(f"{self.database}.{table}", values, column_names=list(whole[0]))

    def name(self, **values: Any) -> None:
        """One row of names: a DNS transaction that was answered at once."""
        self.insert("names", [values])

    def ledger(self, *, end: float, windows: dict[int, tuple[int, int]], epoch: int = 1, **values: Any) -> None:
        """A ledger row that adds up, unless `values` say otherwise."""
        packets, size = (sum(pair[side] for pair in windows.values()) for side in (0, 1))
        row = {
            "node": "n1",
            "ring_id": 1,
            "epoch": epoch,
            "interface": "eth0",
            "direction": "ingress",
            "seen_packets": packets,
            "seen_bytes": size,
            "emitted_packets": packets,
            "emitted_bytes": size,
            "window_seconds": 10,
            "consumed_packets": [pair[0] for pair in windows.values()],
            "consumed_bytes": [pair[1] for pair in windows.values()],
            **values,
        }
        names = ", ".join((*row, "start_time", "end_time", "consumed_windows"))
        texts = ", ".join(repr(value) for value in row.values())
        self._client.command(
            f"INSERT INTO {self.database}.ledger ({names}) VALUES"
            f" ({texts}, {end - 0.5:.6f}, {end:.6f}, {list(windows)})"
        )

    def end(self, *, at: float, epoch: int, node: str = "n1") -> None:
        """The producer ended, and sent all."""
        self.ledger(end=at, windows={}, epoch=epoch, node=node, interface="", ended=1)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query; `DB` stands for the database."""
        return [tuple(row) for row in self._client.query(sql.replace("DB", self.database)).result_rows]

    def definitions(self) -> list[tuple[Any, ...]]:
        """Names of the tables and views, and how they are made."""
        return self.rows("SELECT name, create_table_query FROM system.tables WHERE database = 'DB' ORDER BY name")

    def command(self, sql: str) -> None:
        """Any statement; `DB` stands for the database."""
        self._client.command(sql.replace("DB", self.database))


@contextlib.contextmanager
def tables_of(url: str) -> Iterator[Tables]:
    """Tables in a database that is gone afterwards."""
    database = f"ayaflow_console_{os.getpid()}_{next(_databases)}"
    with our_tables(ClickHouseSettings(url=url, database=database)) as client:
        yield Tables(url, database, client)


@pytest.fixture(scope="session")
def kept_tables(clickhouse_server: str) -> Iterator[Callable[[], Tables]]:
    """Makes our tables where there are none as we define them: to make them takes longer than most tests do."""
    with contextlib.ExitStack() as stack:
        made: list[tuple[Tables, list[tuple[Any, ...]]]] = []

        def give() -> Tables:
            if not made or made[0][0].definitions() != made[0][1]:  # a test has changed them
                stack.close()
                tables = stack.enter_context(tables_of(clickhouse_server))
                made[:] = [(tables, tables.definitions())]
            return made[0][0]

        yield give


@pytest.fixture
def tables(kept_tables: Callable[[], Tables]) -> Iterator[Tables]:
    """Empty ones."""
    given = kept_tables()
    yield given
    given.command("TRUNCATE ALL TABLES FROM DB SYNC")


@pytest.fixture
def run(tables: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in [name for name in os.environ if name.startswith("AYAFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settle, "PATIENCE_SECONDS", 0.6)  # one more look is enough here
    monkeypatch.setattr(audit_run, "NEIGHBOUR_SECONDS", 0.1)  # there is no Kafka here
    monkeypatch.setenv("AYAFLOW_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("AYAFLOW_CLICKHOUSE_URL", tables.url)
    monkeypatch.setenv("AYAFLOW_CLICKHOUSE_DATABASE", tables.database)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def window() -> int:
    """The start of a window that ended some minutes ago, not the first of its minute."""
    return int(time.time()) // 60 * 60 - 590


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
