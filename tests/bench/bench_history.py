"""The tables at volume: what they take by column, and what the questions cost; other layouts beside them.

HISTORY_ROWS (10,000,000) is about how many rows, 3.3 million a day and a day more, so that ranges end within a day as
they do for people. Beyond ten million the questions are asked of these, and again of all: what they cost at a
thousand million follows from both. 100 million take half an hour of two cores, and 5 GB; HISTORY_DIR keeps them for the
next run.
"""

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.rollups import ROLLUPS
from tests.bench.history import loading
from tests.bench.history.layouts import (
    COLUMNS,
    LAYOUTS,
    OF_PACKETS,
    PACKET_COLUMNS,
    PACKET_KEY,
    PACKETS,
    QUESTIONS,
    SAMPLE,
)
from tests.bench.history.loading import Loader
from tests.bench.history.questions import Asked, questions
from tests.bench.history.traffic import BEGIN, DAY
from tests.bench.places import temporary_directory
from tests.bench.process import cpu_seconds
from tests.bench.results import Row
from tests.fix_local import WRITER, running_clickhouse

_A_DAY = 3_333_333
_FIRST = 10_000_000
_ENDS = 15 * 3600 + 7 * 60 + 30
"""The range ends in the last day, so many seconds after its begin."""
_WINDOW_ROWS, _WINDOWS = 77, 200
_TABLES = ("flows", *ROLLUPS)
_WAITED_ON = {"flows_1d", "hosts_1h", "services_1m"}
"""Rollups that answer for weeks."""
_REPEATS = 3
_BILLION = 1_000_000_000


@dataclass(slots=True)
class Server:
    """A ClickHouse of our own."""

    url: str
    pid: int
    directory: Path

    def connect(self, database: str = "ayaflow") -> Any:
        return clickhouse_connect.get_client(
            dsn=self.url, **WRITER, database=database, autogenerate_session_id=False, send_receive_timeout=600
        )

    def cpu(self) -> float:
        return cpu_seconds(self.pid)


def run() -> Iterator[Row]:
    wanted = int(os.environ.get("HISTORY_ROWS", str(_FIRST)))
    with contextlib.ExitStack() as stack:
        kept = os.environ.get("HISTORY_DIR")
        directory = Path(kept) if kept else stack.enter_context(temporary_directory())
        directory.mkdir(parents=True, exist_ok=True)
        url, process = stack.enter_context(running_clickhouse(directory))
        server = Server(url, process.pid, directory)
        client = server.connect("default")
        stack.callback(client.close)
        client.command("CREATE DATABASE IF NOT EXISTS ayaflow")
        settings = ClickHouseSettings(flows_retention_days=20_000, rollup_retention_days=20_000)
        for migration in migrations(settings):
            for statement in migration.statements:
                client.command(statement)
        client.database = "ayaflow"
        sizes = sorted({min(wanted, _FIRST), wanted})
        hosts: tuple[str, str] = ("", "")
        before: dict[str, tuple[int, float]] = {}  # question -> rows of flows, and milliseconds
        for number, size in enumerate(sizes):
            days = max(1, round(size / _A_DAY))
            yield from _load(client, server, days + 1, min(wanted, _A_DAY), alone=not number)
            flows = int(client.query("SELECT count() FROM flows").result_rows[0][0])
            yield from _sizes(client, flows)
            hosts = hosts if number else _addresses(client, days)
            end = datetime.fromtimestamp(BEGIN + days * DAY + _ENDS, UTC)
            for asked in questions(end, days, *hosts):
                yield from _ask(client, server, asked, flows, before)
            if not number:
                yield from _layouts(client, hosts[0])
                yield from _packets(client)


def _load(client: Any, server: Server, days: int, a_day: int, *, alone: bool) -> Iterator[Row]:
    there = int(client.query("SELECT uniqExact(toDate(window_begin)) FROM flows").result_rows[0][0])
    missing = range(there, days)
    if not missing:
        return
    loader = Loader(server.connect, server.cpu, server.directory)
    with contextlib.closing(loader):
        if alone:
            yield from _insert(loader, [loading.day(number, a_day) for number in missing])
        else:
            loader.days(missing, a_day)
    used = server.cpu()
    rows = _merge(client, server)
    yield Row(what=f"merged to one part a day, {rows / 1e6:.3g} M rows", value=server.cpu() - used, unit="s of CPU")


def _insert(loader: Loader, tables: Sequence[Any]) -> Iterator[Row]:
    windows = _WINDOWS * _WINDOW_ROWS
    small = loader.windows(tables[0].slice(0, windows), _WINDOW_ROWS)
    large = loader.alone([tables[0].slice(windows), *tables[1:]])
    print(f"{large.rows:,} rows, {large.rows / large.wall:,.0f}/s, {large.rows / large.cpu:,.0f} a CPU s", flush=True)
    what = f"with all rollups, {loading.INSERTERS} clients, blocks of {loading.BLOCK:,} rows"
    yield Row(what=f"inserted, {what}", value=large.rows / large.wall, unit="rows/s", at_least=250_000)
    yield Row(what=f"inserted, {what}, CPU", value=large.rows / large.cpu, unit="rows a CPU second of ClickHouse")
    what = f"a window of {_WINDOW_ROWS} rows inserted"
    yield Row(what=what, value=1000 * small.wall / _WINDOWS, unit="ms")
    yield Row(what=f"{what}, CPU", value=1000 * small.cpu / _WINDOWS, unit="ms of CPU of ClickHouse")


def _merge(client: Any, server: Server) -> int:
    """One part a day in all tables, as they are when nobody writes to a day any more -> rows of flows."""
    found = client.query(
        "SELECT table, partition, count() AS parts FROM system.parts WHERE active AND database = 'ayaflow' "
        f"AND table IN {_TABLES} GROUP BY table, partition HAVING parts > 1 ORDER BY partition, table"
    ).result_rows
    with ThreadPoolExecutor(loading.INSERTERS) as threads:

        def merge(table: str, partition: str) -> None:
            with contextlib.closing(server.connect()) as own:
                own.command(f"OPTIMIZE TABLE {table} PARTITION '{partition}' FINAL")

        for done in [threads.submit(merge, table, partition) for table, partition, _ in found]:
            done.result()
    return int(client.query("SELECT count() FROM flows").result_rows[0][0])


def _sizes(client: Any, flows: int) -> Iterator[Row]:
    found = {
        name: (int(rows), int(size))
        for name, rows, size in client.query(
            "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts "
            "WHERE active AND database = 'ayaflow' GROUP BY table"
        ).result_rows
    }
    of = f"{flows / 1e6:.3g} M rows"
    names = _column_bytes(client, "flows")
    named = sum(names[column] for column in ("domain", "domain_source", "domain_count", "ja4", "alpn")) / flows
    indexes = client.query(
        "SELECT sum(data_compressed_bytes) FROM system.data_skipping_indices "
        "WHERE table = 'flows' AND database = 'ayaflow'"
    ).result_rows[0][0]
    of_flows = found["flows"][1] / flows
    what = f"flows, on disk, with domain and indexes, {of}"
    yield Row(what=what, value=of_flows, unit="bytes a row", at_most=23)
    without = of_flows - named - int(indexes) / flows
    yield Row(what=f"flows, on disk, without domain and indexes, {of}", value=without, unit="bytes a row", at_most=19)
    total = sum(found[name][1] for name in _TABLES) / flows
    yield Row(what=f"all tables, {of}", value=total, unit="bytes a flow row", at_most=30)
    for name in ROLLUPS:
        rows, size = found[name]
        share = 20 if name in _WAITED_ON else None
        yield Row(what=f"{name}, {of}", value=100 * rows / flows, unit="% of flows", at_most=share)
        yield Row(what=f"{name}, on disk, {of}", value=size / flows, unit="bytes a flow row")
    if flows > 2 * _FIRST:
        return
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


def _ask(client: Any, server: Server, asked: Asked, flows: int, before: dict[str, tuple[int, float]]) -> Iterator[Row]:
    took, read = [], 0
    for repeat in range(1 + _REPEATS):
        if not repeat:
            _forget(server.directory)
        begin, used = time.perf_counter(), server.cpu()
        read = _answered(client, asked)
        took.append((1000 * (time.perf_counter() - begin), 1000 * (server.cpu() - used)))
    wall, cpu = min(took[1:])
    what = f"{asked.what}; of {flows / 1e6:.3g} M rows"
    yield Row(what=f"{what}, warm", value=wall, unit="ms", at_most=asked.at_most)
    yield Row(what=f"{what}, warm, CPU", value=cpu, unit="ms")
    yield Row(what=f"{what}, cold", value=took[0][0], unit="ms")
    yield Row(what=f"{what}, read", value=read, unit="rows")
    if asked.what in before:
        rows, earlier = before[asked.what]
        slope = (wall - earlier) / (flows - rows)
        yield Row(
            what=f"{asked.what}; of 1 G rows, by the slope, warm",
            value=max(wall, wall + slope * (_BILLION - flows)),
            unit="ms",
        )
    before[asked.what] = (flows, wall)


def _answered(client: Any, asked: Asked) -> int:
    """Ask all that a question takes -> rows that were read."""
    read, steps = 0, asked.steps()
    sql, parameters = next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            result = client.query(sql, parameters=dict(parameters), settings={"max_threads": 2})
            read += int(result.summary.get("read_rows", 0))
            sql, parameters = steps.send(list(result.named_results()))
    return read


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


def _packets(client: Any) -> Iterator[Row]:
    """A row a packet, and our flows of the same connections beside it."""
    for table in ("layout", "sample"):
        client.command(f"DROP TABLE IF EXISTS {table} SYNC")
    client.command("CREATE TABLE sample AS flows")
    client.command(f"INSERT INTO sample SELECT * FROM flows WHERE {SAMPLE} SETTINGS max_insert_threads = 1")
    columns = ", ".join(f"{name} {kind}" for name, kind in PACKET_COLUMNS.items())
    client.command(
        f"CREATE TABLE layout ({columns}) ENGINE = MergeTree PARTITION BY toDate(time) ORDER BY ({PACKET_KEY})"
    )
    client.command(f"INSERT INTO layout {PACKETS.format(table='sample')} SETTINGS max_insert_threads = 1")
    for table in ("layout", "sample"):
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    flows, packets = (
        int(client.query(f"SELECT count() FROM {table}").result_rows[0][0]) for table in ("sample", "layout")
    )
    name = f"{flows / 1e6:.3g} M flow rows of a sample"
    rare = client.query(
        "SELECT src_addr FROM sample GROUP BY 1 ORDER BY abs(count() - 5), cityHash64(src_addr) LIMIT 1"
    )
    of_sample = yield from _layout(client, "sample", name, str(rare.result_rows[0][0]))
    size = sum(_column_bytes(client, "layout").values())
    name = f"{packets / 1e6:.3g} M rows, a row a packet of the sample"
    yield Row(what=f"{name}: all columns", value=size / flows, unit="bytes a flow row")
    yield Row(what=f"{name}: all columns", value=size / packets, unit="bytes a packet")
    assert of_sample == (yield from _asked(client, "layout", name, str(rare.result_rows[0][0]), OF_PACKETS))
    for table in ("layout", "sample"):
        client.command(f"DROP TABLE {table} SYNC")


def _layout(client: Any, table: str, name: str, rare: str) -> Generator[Row, None, list[Any]]:
    sizes = _column_bytes(client, table)
    rows = int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])
    size = sum(sizes[column] for column in COLUMNS) / rows
    yield Row(what=f"{name}: the thirteen columns that all have", value=size, unit="bytes a row")
    return (yield from _asked(client, table, name, rare, QUESTIONS))


def _asked(
    client: Any, table: str, name: str, rare: str, questions_of: Mapping[str, str]
) -> Generator[Row, None, list[Any]]:
    """-> What is answered, but of series: a packet may be in other five minutes than its window."""
    answers = []
    for what, sql in questions_of.items():
        took = []
        for _ in range(_REPEATS):
            begin = time.perf_counter()
            found = client.query(sql.format(table=table, addr=rare), settings={"max_threads": 2}).result_rows
            took.append(1000 * (time.perf_counter() - begin))
        answers.append([] if "series" in what else sorted(found))
        yield Row(what=f"{name}: {what}, warm", value=min(took), unit="ms")
    return answers


def _forget(directory: Path) -> None:
    """Drop what the page cache has of our own files, and of nobody else's."""
    for folder, _, names in os.walk(directory):  # files come and go meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                descriptor = os.open(Path(folder, name), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
