"""The tables at volume: what they take by column, and what the questions cost; other layouts beside them.

HISTORY_ROWS (10,000,000) is how many rows, 3.3 million a day. 100 million take about a quarter of an hour of two cores
and 3 GB; HISTORY_DIR keeps them for the next run.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.rollups import ROLLUPS
from tests.bench.history.layouts import COLUMNS, LAYOUTS, QUESTIONS
from tests.bench.history.questions import Asked, questions
from tests.bench.history.traffic import BEGIN, DAY, Fleet
from tests.bench.places import temporary_directory
from tests.bench.process import cpu_seconds
from tests.bench.results import Row
from tests.fix_local import WRITER, running_clickhouse

_A_DAY = 3_333_333
_OF_A_ROW = 0.872  # the others are what a second node sees
_BLOCK = 262_144
_TABLES = ("flows", *ROLLUPS)
_REPEATS = 3


def run() -> Iterator[Row]:
    wanted = int(os.environ.get("HISTORY_ROWS", "10000000"))
    days = max(1, round(wanted / _A_DAY))
    with contextlib.ExitStack() as stack:
        kept = os.environ.get("HISTORY_DIR")
        directory = Path(kept) if kept else stack.enter_context(temporary_directory())
        directory.mkdir(parents=True, exist_ok=True)
        url, server = stack.enter_context(running_clickhouse(directory))
        client = clickhouse_connect.get_client(
            dsn=url, **WRITER, autogenerate_session_id=False, send_receive_timeout=600
        )
        stack.callback(client.close)
        client.command("CREATE DATABASE IF NOT EXISTS ayaflow")
        settings = ClickHouseSettings(flows_retention_days=20_000, rollup_retention_days=20_000)
        for migration in migrations(settings):
            for statement in migration.statements:
                client.command(statement)
        client.database = "ayaflow"
        yield from _load(client, server.pid, days, min(wanted, _A_DAY))
        yield from _sizes(client)
        rare, busy = _addresses(client, days)
        end = datetime.fromtimestamp(BEGIN + days * DAY, UTC)
        for asked in questions(end, days, rare, busy):
            yield from _ask(client, server.pid, directory, asked)
        yield from _layouts(client, rare)


def _load(client: Any, pid: int, days: int, a_day: int) -> Iterator[Row]:
    fleet, rows, cpu, wall = Fleet(), 0, 0.0, 0.0
    there = int(client.query("SELECT uniqExact(toDate(window_begin)) FROM flows").result_rows[0][0])
    for number in range(there, days):
        table = fleet.day(number, int(a_day * _OF_A_ROW), names=True)
        begin, used = time.perf_counter(), cpu_seconds(pid)
        for first in range(0, table.num_rows, _BLOCK):
            client.insert_arrow("flows", table.slice(first, _BLOCK), settings={"optimize_on_insert": 0})
        rows += table.num_rows
        wall, cpu = wall + time.perf_counter() - begin, cpu + cpu_seconds(pid) - used
        print(f"day {number + 1} of {days}: {rows:,} rows, {rows / cpu:,.0f} a CPU second", flush=True)
    begin, used = time.perf_counter(), cpu_seconds(pid)
    for name in _TABLES:
        client.command(f"OPTIMIZE TABLE {name} FINAL")
    if rows:
        yield Row(what="inserted, with all rollups", value=rows / cpu, unit="rows a CPU second of ClickHouse")
        yield Row(what="inserted, with all rollups, wall", value=rows / wall, unit="rows/s", at_least=250_000)
        yield Row(what="merged to one part a day", value=(cpu_seconds(pid) - used) / rows * 1e6, unit="CPU µs a row")


def _sizes(client: Any) -> Iterator[Row]:
    found = {
        name: (int(rows), int(size))
        for name, rows, size in client.query(
            "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts "
            "WHERE active AND database = 'ayaflow' GROUP BY table"
        ).result_rows
    }
    flows = found["flows"][0]
    yield Row(what="flows", value=flows, unit="rows")
    names = _column_bytes(client, "flows")
    named = sum(names[column] for column in ("domain", "domain_source", "domain_count", "ja4", "alpn")) / flows
    indexes = client.query(
        "SELECT sum(data_compressed_bytes) FROM system.data_skipping_indices "
        "WHERE table = 'flows' AND database = 'ayaflow'"
    ).result_rows[0][0]
    of_flows = found["flows"][1] / flows
    yield Row(what="flows, on disk, with domain and indexes", value=of_flows, unit="bytes a row", at_most=23)
    without = of_flows - named - int(indexes) / flows
    yield Row(what="flows, on disk, without domain and indexes", value=without, unit="bytes a row", at_most=19)
    yield Row(
        what="all tables", value=sum(found[name][1] for name in _TABLES) / flows, unit="bytes a flow row", at_most=30
    )
    for name in ROLLUPS:
        rows, size = found[name]
        share = 20 if name in {"hosts_1h", "services_1h", "flows_1d"} else None
        yield Row(what=f"{name}, rows", value=100 * rows / flows, unit="% of flows", at_most=share)
        yield Row(what=f"{name}, on disk", value=size / flows, unit="bytes a flow row")
    for name in _TABLES:
        columns = sorted(_column_bytes(client, name).items(), key=lambda column: -column[1])
        for column, size in columns[:12]:
            yield Row(what=f"{name}.{column}", value=size / found[name][0], unit="bytes a row of its table")


def _column_bytes(client: Any, table: str) -> dict[str, int]:
    rows = client.query(
        "SELECT column, sum(column_data_compressed_bytes + column_marks_bytes) FROM system.parts_columns "
        f"WHERE active AND database = 'ayaflow' AND table = '{table}' GROUP BY column"
    ).result_rows
    return {str(name): int(size) for name, size in rows}


def _addresses(client: Any, days: int) -> tuple[str, str]:
    """One that has about five rows a day, and the busiest pod."""
    found = client.query(
        "SELECT addr FROM hosts_1h GROUP BY addr "
        f"ORDER BY abs(toInt64(sum(records)) - {5 * days}), cityHash64(addr) LIMIT 1"
    ).result_rows[0][0]
    text = str(found)
    return text if ":" in text else f"::ffff:{text}", "::ffff:10.244.0.2"


def _ask(client: Any, pid: int, directory: Path, asked: Asked) -> Iterator[Row]:
    took = []
    for repeat in range(1 + _REPEATS):
        if not repeat:
            _forget(directory)
        begin, used = time.perf_counter(), cpu_seconds(pid)
        result = client.query(asked.sql, parameters=dict(asked.parameters), settings={"max_threads": 2})
        took.append((1000 * (time.perf_counter() - begin), 1000 * (cpu_seconds(pid) - used)))
    read = int(result.summary.get("read_rows", 0))
    wall, cpu = min(took[1:])
    yield Row(what=f"{asked.what}, warm", value=wall, unit="ms", at_most=asked.at_most)
    yield Row(what=f"{asked.what}, warm, CPU", value=cpu, unit="ms")
    yield Row(what=f"{asked.what}, cold", value=took[0][0], unit="ms")
    yield Row(what=f"{asked.what}, read", value=read, unit="rows")


def _layouts(client: Any, rare: str) -> Iterator[Row]:
    for layout in LAYOUTS:
        client.command("DROP TABLE IF EXISTS layout SYNC")
        client.command(
            f"CREATE TABLE layout ({layout.columns}) ENGINE = MergeTree PARTITION BY toDate(window_begin) "
            f"ORDER BY ({layout.key})"
        )
        client.command(f"INSERT INTO layout SELECT {', '.join(COLUMNS)} FROM flows SETTINGS max_insert_threads = 1")
        client.command("OPTIMIZE TABLE layout FINAL")
        yield from _layout(client, "layout", layout.name, rare)
        client.command("DROP TABLE layout SYNC")
    yield from _layout(client, "flows", "flows", rare)


def _layout(client: Any, table: str, name: str, rare: str) -> Iterator[Row]:
    sizes = _column_bytes(client, table)
    rows = int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])
    size = sum(sizes[column] for column in COLUMNS) / rows
    yield Row(what=f"{name}: the thirteen columns that all have", value=size, unit="bytes a row")
    for what, sql in QUESTIONS.items():
        took = []
        for _ in range(_REPEATS):
            begin = time.perf_counter()
            client.query(sql.format(table=table, addr=rare), settings={"max_threads": 2})
            took.append(1000 * (time.perf_counter() - begin))
        yield Row(what=f"{name}: {what}, warm", value=min(took), unit="ms")


def _forget(directory: Path) -> None:
    """Drop what the page cache has of our own files, and of nobody else's."""
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
