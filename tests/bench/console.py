"""How long the console's answers take over many stored flows, and what it costs: `python -m tests.bench.console`.

Makes the flows inside an embedded ClickHouse of its own (INSERT SELECT from numbers(), so that the rollups are filled
by their views as always), starts a console beside it, and asks each kind of question several times over HTTP. With
Kafka's jars it also runs the live view with many clients. Writes a table to standard output.

    python -m tests.bench.console --rows 50000000 --days 7 [--data-dir DIR] [--repeat 7] [--live]

With --data-dir the flows stay there, and the next run asks them again without making them.
"""

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import clickhouse_connect
from confluent_kafka import Producer

from common import settings as settings_module
from schemas.avro.codec import Codec
from schemas.clickhouse.ddl import migrations
from tests.fix_local import REPOSITORY, free_port, running_clickhouse, running_kafka, temporary_directory

WINDOW = 10  # seconds
NODES = 4
LATE = 997  # of so many windows of a node, one has a second revision
_FLOWS = """
INSERT INTO flows (window_start, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port,
    dst_port, packets, bytes, packets_rev, bytes_rev, tcp_flags, tcp_flags_rev, min_ttl, max_ttl, min_packet_bytes,
    max_packet_bytes, first_offset_us, last_offset_us, kafka_partition, kafka_offset_end, revision)
WITH
    {first:UInt32} + intDiv(number, {each:UInt32}) AS window,       -- counted from the epoch, in windows
    number % {each:UInt32} AS slot, slot % {nodes:UInt8} AS n,
    cityHash64(intDiv(window, 6), slot) AS connection,              -- lasts a minute
    (connection % 10007) / 10007 AS u, (intDiv(connection, 10007) % 10007) / 10007 AS v,
    toUInt32(1 + 200 * u * u) AS client, toUInt32(1 + 20000 * pow(v, 6)) AS server,
    cityHash64(number) AS h, toUInt64(exp(7 + 9 * pow((h % 10007) / 10007, 3))) AS size,
    [443, 443, 443, 443, 80, 53, 53, 22, 9092, 123][1 + server % 10] AS port
SELECT window * 10, 10, concat('node', toString(n)), 'eth0', if(server % 3 = 0, 'ingress', 'egress'),
    if(port IN (53, 123), 17, 6), IPv4ToIPv6(toIPv4(toUInt32(167772160 + n * 65536 + client))),
    IPv4ToIPv6(toIPv4(toUInt32(3221225984 + server))), 32768 + intDiv(connection, 65537) % 28000, port,
    1 + intDiv(size, 900), size, 1 + intDiv(size, 300), size * 3, if(port IN (53, 123), 0, 24),
    if(port IN (53, 123), 0, 24), 57, 64, 60, least(size, 1514), h % 5000000, 5000000 + h % 4999999, n, window, 0
FROM numbers({from:UInt64}, {count:UInt64})
"""
_LATE = """
INSERT INTO flows (window_start, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port,
    dst_port, packets, bytes, kafka_partition, kafka_offset_end, revision)
SELECT window_start, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port, dst_port,
    1, 60, kafka_partition, kafka_offset_end + 1, 1
FROM flows WHERE cityHash64(window_start, node) % {late:UInt32} = 0 AND cityHash64(src_port) % 8 = 0
"""
_LEDGER = """
INSERT INTO ledger (node, ring_id, epoch, interface, direction, start_time, end_time, seen_packets, seen_bytes,
    emitted_packets, emitted_bytes, consumed_windows, consumed_packets, consumed_bytes, window_seconds)
WITH side.4 AS part
SELECT node, 1, toUnixTimestamp(window_start) * 2 + part, interface, side.1,
    addMilliseconds(toDateTime64(window_start, 6, 'UTC'), 500 * part),
    addMilliseconds(toDateTime64(window_start, 6, 'UTC'), 500 * part + 500),
    intDiv(side.2, 20) + if(part = 0, side.2 % 20, 0) AS p, intDiv(side.3, 20) + if(part = 0, side.3 % 20, 0) AS b,
    p, b, [window_start], [p], [b], 10
FROM (
    SELECT node, interface, window_start, [
        ('ingress', sum(if(direction = 'ingress', packets, packets_rev)),
                    sum(if(direction = 'ingress', bytes, bytes_rev))),
        ('egress', sum(if(direction = 'egress', packets, packets_rev)),
                   sum(if(direction = 'egress', bytes, bytes_rev)))] AS sides
    FROM flows WHERE toDate(window_start) = {day:Date} GROUP BY node, interface, window_start
) ARRAY JOIN arrayFlatten(arrayMap(side -> arrayMap(part -> (side.1, side.2, side.3, part), range(20)), sides)) AS side
"""
Asked = tuple[str, Sequence[tuple[str, dict[str, str]]]]
"""A line of the table: what it is, and the requests that are sent at once."""


def questions(until: datetime) -> list[Asked]:
    """Each kind of question the API has, and the dashboard's page, over an hour, a day and all."""
    end = until.isoformat()
    spans = {
        name: {"since": (until - timedelta(hours=hours)).isoformat(), "until": end}
        for name, hours in (("1 h", 1), ("24 h", 24), ("7 d", 168))
    }
    paths = "src_addr,protocol,dst_port,dst_addr"

    def page(span: str, by: str, chosen: str = "") -> Sequence[tuple[str, dict[str, str]]]:
        common = {**spans[span], "filter": chosen}
        return [
            ("/api/series", {**common, "by": by, "limit": "8", "points": "200"}),
            ("/api/top", {**common, "by": by, "limit": "20"}),
            ("/api/top", {**common, "by": paths, "limit": "40"}),
        ]

    asked: list[Asked] = [
        *(
            (f"Explore page, {span}, by {by}{', ' + chosen if chosen else ''}", page(span, by, chosen))
            for span, by, chosen in (
                ("1 h", "src_addr", ""),
                ("24 h", "src_addr", ""),
                ("24 h", "dst_port", ""),
                ("24 h", "protocol", ""),
                ("24 h", "src_addr", "dst_port = https"),
                ("24 h", "src_addr", "addr in 10.0.0.0/24"),
                ("24 h", "src_addr", "bytes > 1M"),
                ("7 d", "src_addr", ""),
            )
        ),
        *(
            (
                f"top by {by}, {span}{', ' + chosen if chosen else ''}",
                [("/api/top", {**spans[span], "by": by, "filter": chosen})],
            )
            for span, by, chosen in (
                ("24 h", "pair", ""),
                ("24 h", "addr", ""),
                ("24 h", "node,interface", ""),
                ("24 h", "src_port", ""),
                ("24 h", "port", ""),
                ("24 h", "src_addr", "src_port = 40000"),
                ("24 h", "src_addr", "bytes > 1M"),
                ("24 h", "src_addr", "bytes > 100 and dst_port = ssh"),
                ("1 h", "src_addr", "bytes > 1M"),
            )
        ),
        *(
            (f"history, {span}{', ' + chosen if chosen else ''}", [("/api/history", {**spans[span], "filter": chosen})])
            for span, chosen in (
                ("24 h", ""),
                ("24 h", "addr = 10.0.0.7"),
                ("24 h", "bytes > 1M"),
                ("24 h", "bytes > 1T"),
            )
        ),
        *(
            (
                f"flows, newest 1000, {span}{', ' + chosen if chosen else ''}",
                [("/api/flows", {**spans[span], "filter": chosen})],
            )
            for span, chosen in (("1 h", ""), ("24 h", ""))
        ),
        *(
            (
                f"flows, largest 1000, {span}{', ' + chosen if chosen else ''}",
                [("/api/flows", {**spans[span], "sort": "bytes", "filter": chosen})],
            )
            for span, chosen in (("1 h", ""), ("24 h", ""), ("24 h", "dst_port = ssh"), ("24 h", "bytes > 1M"))
        ),
        ("nodes, 24 h", [("/api/nodes", spans["24 h"])]),
        ("audit, 1 h", [("/api/audit", spans["1 h"])]),
        ("audit, 24 h", [("/api/audit", spans["24 h"])]),
    ]
    return asked


def fill(url: str, rows: int, days: int) -> datetime:
    """Make the flows, unless there are so many already; returns the end of the newest window."""
    host, port = url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(
        host=host, port=int(port), autogenerate_session_id=False, send_receive_timeout=600
    )
    loaded = settings_module.load(flags={"clickhouse.url": url})
    client.command("CREATE DATABASE IF NOT EXISTS ayaflow")
    for migration in migrations(loaded.clickhouse):
        for statement in migration.statements:
            client.command(statement)
    with contextlib.closing(
        clickhouse_connect.get_client(
            host=host, port=int(port), database="ayaflow", autogenerate_session_id=False, send_receive_timeout=600
        )
    ) as client:
        windows = days * 86_400 // WINDOW
        each = rows // windows
        if not int(client.query("SELECT count() FROM flows").result_rows[0][0]):
            # whole days before this hour
            first = (int(time.time()) // 3600 * 3600 - days * 86_400) // WINDOW
            step = 86_400 // WINDOW * each // 8
            for start in range(0, windows * each, step):
                began = time.monotonic()
                client.command(
                    _FLOWS,
                    parameters={
                        "first": first,
                        "each": each,
                        "nodes": NODES,
                        "from": start,
                        "count": min(step, windows * each - start),
                    },
                )
                print(
                    f"made {start + step:,} of {windows * each:,} rows, {step / (time.monotonic() - began):,.0f}/s",
                    file=sys.stderr,
                )
            client.command(_LATE, parameters={"late": LATE})
        if not int(client.query("SELECT count() FROM ledger").result_rows[0][0]):
            for day in client.query("SELECT DISTINCT toString(toDate(window_start)) FROM flows").result_rows:
                client.command(_LEDGER, parameters={"day": day[0]})
        for table in ("flows", "flows_1m", "flows_1h", "ledger"):
            count, size = client.query(
                f"SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND table = '{table}'"
            ).result_rows[0]
            print(f"{table}: {count:,} rows, {size / 1e6:,.0f} MB, {size / max(count, 1):.1f} bytes a row")
        newest = client.query("SELECT toUnixTimestamp(max(window_start)) + 10 FROM flows").result_rows[0][0]
    return datetime.fromtimestamp(newest, UTC)


@contextlib.contextmanager
def running_console(clickhouse: str, kafka: str) -> Iterator[tuple[str, int]]:
    """A console as `ayaflow console` runs it -> (url, process id)."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "console",
            "--log-level",
            "error",
            "--set",
            f"console.listen=127.0.0.1:{port}",
            "--set",
            "console.query_seconds=120",
            "--set",
            f"clickhouse.url={clickhouse}",
            "--set",
            f"kafka.bootstrap_servers={kafka}",
        ],
        cwd=REPOSITORY,
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)


async def ask(session: aiohttp.ClientSession, requests: Sequence[tuple[str, dict[str, str]]]) -> int:
    """Send them at once; returns the bytes of all answers."""

    async def one(path: str, parameters: Mapping[str, str]) -> int:
        async with session.get(path, params=parameters) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path} {dict(parameters)}: {answer.status} {body[:300].decode()}")
            return len(body)

    return sum(await asyncio.gather(*(one(*request) for request in requests)))


async def measure(url: str, server: int, asked: Sequence[Asked], repeat: int, report: Callable[[str], None]) -> None:
    """A line of the table for each question; `server` is ClickHouse's process, whose CPU time is told."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=120)) as session:
        await answering(session)
        for name, requests in asked:
            took = []
            size = 0
            error, cpu = "", cpu_seconds(server)
            for _ in range(repeat):
                began = time.perf_counter()
                try:
                    size = await ask(session, requests)
                except RuntimeError as problem:
                    error = str(problem)
                    break
                took.append(time.perf_counter() - began)
            if error:
                report(f"| {name} | {error} | | | | |")
            else:
                ordered = sorted(took)
                cpu = (cpu_seconds(server) - cpu) / len(took)
                wall = (ordered[0], statistics.median(took), ordered[-(-95 * len(ordered) // 100) - 1])
                cells = " | ".join(f"{1000 * one:,.0f}" for one in (cpu, *wall))
                report(f"| {name} | {cells} | {size / 1000:,.0f} |")


async def answering(session: aiohttp.ClientSession) -> None:
    """Wait for the console."""
    for _ in range(300):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get("/api/fields"):
                return
        await asyncio.sleep(0.1)
    raise RuntimeError("the console does not answer")


# --- the live view ---------------------------------------------------------------------------------------------


def live_message(node: str, second: int, start: datetime) -> dict[str, Any]:
    """A LiveStats message with 50 connections."""
    moment = start + timedelta(seconds=second)
    return {
        "node": node,
        "time": moment,
        "interval_ms": 1000,
        "active_flows": 500,
        "open_windows": 1,
        "lag_messages": 0,
        "interfaces": [
            {
                "interface": "eth0",
                "direction": direction,
                "packets": 1000,
                "bytes": 900_000,
                "non_ip_packets": 0,
                "malformed_packets": 0,
                "ring_full_packets": 0,
            }
            for direction in ("ingress", "egress")
        ],
        "top": [
            {
                "interface": "eth0",
                "direction": "egress",
                "protocol": 6,
                "src_addr": f"10.0.0.{port % 200}",
                "dst_addr": "2001:db8::1",
                "src_port": 40_000 + port,
                "dst_port": 443,
                "vlan_id": 0,
                "icmp_type": 0,
                "icmp_code": 0,
                "packets": second % 10 * 10,
                "bytes": second % 10 * 1000 * port,
                "packets_rev": 0,
                "bytes_rev": 0,
                "first_seen": moment - timedelta(seconds=second % 10),
                "last_seen": moment,
            }
            for port in range(50)
        ],
    }


def feed(bootstrap: str) -> None:
    """Each second a message of each node, for ever; a process of its own, not to be measured with the clients."""
    producer, codec, start = Producer({"bootstrap.servers": bootstrap}), Codec(), datetime.now(UTC)
    for second in itertools.count(1):
        for node in range(NODES):
            producer.produce("ayaflow.live", codec.encode_live_stats(live_message(f"node{node}", second, start)))
        producer.flush(5)
        time.sleep(1)


async def live(url: str, clients: int, each: float, seconds: int) -> list[float]:
    """Seconds of each answer of /api/live: `clients` ask `each` times a second."""
    done = asyncio.Event()
    took: list[float] = []

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        due = time.monotonic() + number / clients / each
        while not done.is_set():
            await asyncio.sleep(max(0, due - time.monotonic()))
            began = time.perf_counter()
            await ask(session, [("/api/live", {})])
            took.append(time.perf_counter() - began)
            due += 1 / each

    async def ended(work: Awaitable[Any]) -> None:
        await asyncio.sleep(seconds)
        done.set()
        await work

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        await answering(session)
        while b'"node"' not in await (await session.get("/api/live")).read():  # noqa: ASYNC110  another process
            await asyncio.sleep(0.5)
        await ended(asyncio.gather(*(client(session, number) for number in range(clients))))
    return sorted(took)


def cpu_seconds(pid: int) -> float:
    """Of all its threads since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[int, int]:
    """MB resident now, and at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("Vm")}
    return found["VmRSS"], found["VmHWM"]


def machine() -> str:
    """In a line."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores {model}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", default="", help="questions whose name has this in it")
    parser.add_argument("--live", action="store_true", help="the live view, instead of the stored flows")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = chosen.data_dir or stack.enter_context(temporary_directory())
        directory.mkdir(parents=True, exist_ok=True)
        clickhouse, server = stack.enter_context(running_clickhouse(directory))
        print(machine())
        if chosen.live:
            kafka, _ = stack.enter_context(running_kafka(directory))
            url, console = stack.enter_context(running_console(clickhouse, kafka))
            feeding = multiprocessing.get_context("spawn").Process(target=feed, args=(kafka,), daemon=True)
            feeding.start()
            for each in (1.0, 5.0):
                took = asyncio.run(live(url, 100, each, 20))
                p50, p95, p99 = (1000 * took[int(len(took) * part)] for part in (0.5, 0.95, 0.99))
                print(
                    f"/api/live, 100 clients, {100 * each:.0f} requests/s: {len(took)} answers,"
                    f" p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, largest {1000 * took[-1]:.1f} ms"
                )
        else:
            until = fill(clickhouse, chosen.rows, chosen.days)
            url, console = stack.enter_context(running_console(clickhouse, "127.0.0.1:1"))
            print("\n| question | ClickHouse CPU, ms | fastest, ms | p50, ms | p95, ms | answer, kB |")
            print("|---|---:|---:|---:|---:|---:|")
            asked = [one for one in questions(until) if chosen.only in one[0]]
            asyncio.run(measure(url, server.pid, asked, chosen.repeat, lambda line: print(line, flush=True)))
        for name, pid in (("ClickHouse", server.pid), ("console", console)):
            print("{}: {} MB resident, {} MB at most".format(name, *memory(pid)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
