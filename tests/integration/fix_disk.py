"""Tables whose disk is looked after, and rows of any day."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from common.settings import ClickHouseSettings
from console.audit import rollups as by_day
from streams import metrics
from streams.disk.keeper import Keeper
from streams.disk.plan import Limits
from streams.store import repair
from streams.store.disk import ClickHouseDisk
from tests.fix_local import WRITER
from tests.integration.fix_tables import Tables


def today() -> date:
    return datetime.now(UTC).date()


def day(ago: int) -> date:
    return today() - timedelta(days=ago)


def start_of(when: date) -> int:
    return int(datetime(when.year, when.month, when.day, tzinfo=UTC).timestamp())


def fill(tables: Tables, ago: int, rows: int, *, seed: int = 0, padding: int = 0) -> None:
    """Rows of flows of one day, of two nodes, with addresses and sizes that do not compress.

    `padding`: octets of a name in each, which rollups do not have.
    """
    values = {
        "window_begin": f"{start_of(day(ago))} + intDiv(number * 8640, {rows}) * 10",
        "window_seconds": "10",
        "node": "if(number % 3 = 0, 'n2', 'n1')",
        "interface": "'eth0'",
        "direction": "if(number % 2 = 0, 'ingress', 'egress')",
        "protocol": "6",
        "src_addr": f"toIPv6(concat('2001:db8::', hex({_random(seed, 1, 65_536)})))",
        "dst_addr": "toIPv6('2001:db8::1')",
        "src_port": _random(seed, 2, 65_536),
        "dst_port": "443",
        "packets": _random(seed, 3, 100),
        "bytes": _random(seed, 4, 100_000),
        "packets_rev": _random(seed, 5, 100),
        "bytes_rev": _random(seed, 6, 100_000),
        "first_offset_us": _random(seed, 7, 5_000_000),
        "last_offset_us": _random(seed, 8, 10_000_000),
        "domain": f"randomPrintableASCII({padding})",
    }
    tables.command(
        f"INSERT INTO DB.flows ({', '.join(values)}) SELECT {', '.join(values.values())} FROM numbers({rows})"
    )


def _random(seed: int, column: int, below: int) -> str:
    return f"cityHash64(number, {seed}, {column}) % {below}"


def bytes_on_disk(tables: Tables) -> int:
    ((size,),) = tables.rows("SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'DB' AND active")
    return int(size)


def days_of(tables: Tables, table: str) -> list[date]:
    rows = tables.rows(
        "SELECT DISTINCT partition FROM system.parts "
        f"WHERE database = 'DB' AND table = '{table}' AND active AND rows > 0 ORDER BY 1"
    )
    return [date.fromisoformat(partition) for (partition,) in rows]


@contextlib.contextmanager
def keeper(
    tables: Tables, clock: Callable[[], float] = time.monotonic, *, cap: int = 0, **settings: Any
) -> Iterator[Keeper]:
    """Who looks after the disk of these tables; call its look(). `cap`: as max_bytes, and may be smaller."""
    own: Mapping[str, Any] = {"url": tables.url, "database": tables.database, **WRITER, **settings}
    clickhouse = ClickHouseSettings(**own)
    made = Keeper(
        ClickHouseDisk(clickhouse),
        Limits(cap=cap or clickhouse.max_bytes, reserve=clickhouse.reserve_bytes),
        clickhouse.retention,
        metrics.create(CollectorRegistry()),
        clock,
    )
    try:
        yield made
    finally:
        made.close()


def ledger_of(tables: Tables, until: date) -> None:
    """A ledger that fits the flows: an epoch a window and place; the nodes ended with this day's beginning."""
    sides = ", ".join(
        f"('{side}', sum(if(direction = '{side}', packets, packets_rev)), "
        f"sum(if(direction = '{side}', bytes, bytes_rev)))"
        for side in ("ingress", "egress")
    )
    values = {
        "node": "node",
        "ring_id": "1",
        "epoch": "n",
        "interface": "interface",
        "direction": "side.1",
        "start_time": "toDateTime64(window_begin, 6, 'UTC')",
        "end_time": "toDateTime64(window_begin, 6, 'UTC') + 9.9",
        **dict.fromkeys(("seen_packets", "emitted_packets"), "side.2"),
        **dict.fromkeys(("seen_bytes", "emitted_bytes"), "side.3"),
        "window_seconds": "10",
        "consumed_windows": "[window_begin]",
        "consumed_packets": "[side.2]",
        "consumed_bytes": "[side.3]",
    }
    tables.command(
        f"INSERT INTO DB.ledger ({', '.join(values)}) SELECT {', '.join(values.values())} FROM ("
        "SELECT node, interface, window_begin, dense_rank() OVER (PARTITION BY node ORDER BY window_begin) AS n, "
        f"[{sides}] AS sides FROM DB.flows GROUP BY node, interface, window_begin) ARRAY JOIN sides AS side"
    )
    for node, last in tables.rows("SELECT node, max(epoch) FROM DB.ledger GROUP BY node"):
        tables.ledger(end=start_of(until), windows={}, epoch=last + 1, node=node, interface="", ended=1)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def write_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands may change tables, and do not wait between two days, or for who holds one."""
    for name, value in WRITER.items():
        monkeypatch.setenv(f"AYAFLOW_CLICKHOUSE_{name.upper()}", value)
    monkeypatch.setattr(by_day, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(repair, "_PAUSE_SECONDS", 0.01)
