"""Brings the days of a fleet into the tables: made by a process of their own, inserted by two clients at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather

from streams.store.connection import ONE_BLOCK
from tests.bench.history.traffic import Fleet

INSERTERS = 2
BLOCK = 262_144
"""Rows of an insert."""
_OF_A_ROW = 0.872  # the others are what a second node sees
_SETTINGS = ONE_BLOCK | {"optimize_on_insert": 0}  # as streams.store.clickhouse


@dataclass(slots=True)
class Cost:
    """Of inserts, added up."""

    rows: int = 0
    wall: float = 0.0
    cpu: float = 0.0  # of ClickHouse


class Loader:
    """`connect` makes a client, `cpu` says what ClickHouse has used so far; days lie in `directory` for a moment."""

    def __init__(self, connect: Callable[[], Any], cpu: Callable[[], float], directory: Path) -> None:
        self._clients = [connect() for _ in range(INSERTERS)]
        self._cpu, self._directory = cpu, directory
        self._names = count()

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()

    def alone(self, tables: Sequence[pa.Table]) -> Cost:
        """Insert what is made already, with nothing else to do; in blocks, by all clients at a time."""
        cost = Cost()
        for table in tables:
            self._insert([table.slice(first, BLOCK) for first in range(0, table.num_rows, BLOCK)], cost)
        return cost

    def windows(self, table: pa.Table, rows: int) -> Cost:
        """Insert in blocks of so many rows, by one client."""
        cost, used, begin = Cost(rows=table.num_rows), self._cpu(), time.perf_counter()
        for first in range(0, table.num_rows, rows):
            self._block(self._clients[0], table.slice(first, rows))
        cost.wall, cost.cpu = time.perf_counter() - begin, self._cpu() - used
        return cost

    def days(self, numbers: Sequence[int], rows: int) -> int:
        """Make and insert days, each while the next is made -> rows."""
        cost = Cost()
        with making(self._directory) as make:
            made = [make(number, rows) for number in numbers[:2]]
            for place, number in enumerate(numbers):
                path = made[place].result()
                if place + 2 < len(numbers):
                    made.append(make(numbers[place + 2], rows))
                table = feather.read_table(path, memory_map=True)
                self._insert([table.slice(first, BLOCK) for first in range(0, table.num_rows, BLOCK)], cost)
                del table
                path.unlink()
                print(f"day {number}: {cost.rows:,} rows, {cost.rows / cost.wall:,.0f}/s beside the making", flush=True)
        return cost.rows

    def _insert(self, blocks: Sequence[pa.Table], cost: Cost) -> None:
        used, begin = self._cpu(), time.perf_counter()
        with ThreadPoolExecutor(INSERTERS) as threads:
            shares = [blocks[place::INSERTERS] for place in range(INSERTERS)]
            for done in [threads.submit(self._all, *one) for one in zip(self._clients, shares, strict=True)]:
                done.result()
        cost.rows += sum(block.num_rows for block in blocks)
        cost.wall += time.perf_counter() - begin
        cost.cpu += self._cpu() - used

    def _all(self, client: Any, blocks: Sequence[pa.Table]) -> None:
        for block in blocks:
            self._block(client, block)

    def _block(self, client: Any, block: pa.Table) -> None:
        token = {"insert_deduplication_token": f"bench/{time.time_ns()}/{next(self._names)}"}
        client.insert_arrow("flows", block, settings=_SETTINGS | token)


def day(number: int, rows: int) -> pa.Table:
    """About so many rows of a day."""
    return Fleet().day(number, int(rows * _OF_A_ROW), names=True)


@contextmanager
def making(directory: Path) -> Iterator[Callable[[int, int], "Future[Path]"]]:
    """Days are made by a process beside us, into files."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield lambda number, rows: process.submit(_write, number, rows, directory)


def _write(number: int, rows: int, directory: Path) -> Path:
    path = directory / f"day-{number}.arrow"
    feather.write_feather(day(number, rows), str(path), compression="uncompressed")
    return path
