"""A day of a rollup without nodes is given what it lacks, while others store, whoever is killed. Real ClickHouse."""

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from common.settings import ClickHouseSettings
from streams.partition.storing import KafkaPartition, Refused, WindowId, store_window
from streams.store import repair
from streams.store.clickhouse import ClickHouseStore
from streams.store.connection import Connection
from streams.store.repair import Days, holding
from streams.store.rollups import mending, sql
from streams.store.rollups.mending import Mending
from tests.fix_local import WRITER
from tests.integration.fix_disk import day, start_of, write_without_pauses
from tests.integration.fix_stopped import Killed, Stopped
from tests.integration.fix_tables import Run, Tables
from tests.integration.test_deduplication import SOURCE, jobs
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.clickhouse

BEGIN = start_of(day(2)) + 3_600
HELD = f"hold_{day(2):%Y%m%d}_repair_a"
OTHER = KafkaPartition(5, 3)


class Cut(Connection):
    """A connection of who is killed at its statement of this number: before it, or when it has run."""

    def __init__(self, settings: ClickHouseSettings, number: int, *, has_run: bool = False) -> None:
        super().__init__(settings, None)
        self.left, self._has_run = number, has_run

    def command(self, sql: str, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        self.left -= 1
        if self.left > -1 or (self.left == -1 and self._has_run):
            super().command(sql, settings, **parameters)
        if self.left < 0:
            raise Killed


class World:
    """Windows of a day, stored an hour ago by a worker that is no more, of which flows_1d lacks all."""

    def __init__(self, tables: Tables, run: Run) -> None:
        self.tables, self._run = tables, run
        self.settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
        self.jobs = jobs(BEGIN)[:2]
        with self.worker() as store:
            for job in self.jobs:
                store_window(job, store)
        self.forget()

    def forget(self) -> None:
        self.tables.command(
            "ALTER TABLE DB.flows UPDATE inserted = inserted - 3600 WHERE 1 SETTINGS mutations_sync = 2"
        )
        self.lose()

    def lose(self) -> None:
        self.tables.command("ALTER TABLE DB.flows_1d DELETE WHERE 1 SETTINGS mutations_sync = 2")
        assert not self.is_exact()

    @contextlib.contextmanager
    def worker(self, connection: Connection | None = None) -> Iterator[ClickHouseStore]:
        made = ClickHouseStore(self.settings, "t.packets")
        made._mending = Mending(connection or made._connection, self.settings, pause=lambda _: None)
        yield made
        made.close()

    def start(self) -> None:
        """A worker that reads the partition from its beginning."""
        with self.worker() as store:
            for job in self.jobs:
                assert store_window(job, store).rows == 0

    def holds(self) -> list[str]:
        connection = Connection(self.settings, None)
        with contextlib.closing(connection):
            return Days(connection, self.settings).left(day(2))

    def is_exact(self) -> bool:
        """By `ayaflow audit --rollups`."""
        code, out, _ = self._run("audit", "--rollups", "--since", "4d", "--format", "json")
        wrong = {each["table"] for each in map(json.loads, out.splitlines()) if not each["equal"]}
        assert wrong <= {"flows_1d"}
        assert code == bool(wrong)
        return not wrong


@pytest.fixture
def world(tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch) -> World:
    write_without_pauses(monkeypatch)
    return World(tables, run)


def test_what_is_lacking_is_there_once_while_others_go_on_storing(world: World) -> None:
    enough, stored, refused = threading.Event(), 0, 0

    def others() -> None:
        nonlocal stored, refused
        with world.worker() as store:
            while not enough.is_set() or stored < 3:
                try:
                    made = replace(flows(5, WindowId(BEGIN + 10 * stored, 10)), node_names=("n2",))
                    store.insert(made, OTHER, 0, 40)
                except Refused:
                    refused += 1
                else:
                    stored += 1

    storing = threading.Thread(target=others)
    storing.start()
    try:
        for _ in range(3):
            world.tables.command("ALTER TABLE DB.flows_1d DELETE WHERE packets_rev > 0 SETTINGS mutations_sync = 2")
            world.start()
    finally:
        enough.set()
        storing.join(HANG_SECONDS)
    assert not storing.is_alive()
    assert world.is_exact()
    assert world.holds() == []
    assert world.tables.rows("SELECT sum(packets) FROM DB.flows WHERE kafka_partition = 3") == [(5 * stored,)]


def test_what_is_just_being_stored_may_seem_to_lack_and_never_makes_up_for_what_does(world: World) -> None:
    """What a question reads of the rollup is fixed first, however long that takes."""
    slowly = sql._differences("flows_1d").replace(" WHERE ", " WHERE (SELECT sleep(0.5)) = 0 AND ", 1)
    world.start()
    enough, connection = threading.Event(), Connection(world.settings, None)

    def others() -> None:
        with world.worker() as store:
            for number in itertools.count():
                if enough.is_set():
                    break
                store.insert(flows(5, WindowId(BEGIN + 10 * number, 10)), OTHER, 0, 40)

    storing = threading.Thread(target=others)
    storing.start()
    more = [0]
    try:
        while max(more) <= 0:
            question = f"SELECT sum(d_records) FROM ({slowly})"
            more.append(connection.query(question, lambda rows: int(rows[0][0]), start=start_of(day(2))))
    finally:
        enough.set()
        storing.join(HANG_SECONDS)
        connection.close()
    assert min(more) == 0


@pytest.mark.parametrize("has_run", [False, pytest.param(True, marks=pytest.mark.wide)], ids=["before it", "after it"])
def test_a_worker_that_is_killed_at_any_statement_leaves_it_to_the_next(world: World, *, has_run: bool) -> None:
    points = 0
    while True:
        connection = Cut(world.settings, points, has_run=has_run)
        with world.worker(connection) as store, contextlib.suppress(Killed):
            store_window(world.jobs[0], store)
        connection.close()
        if connection.left >= 0:  # it came to its end
            break
        world.start()
        assert world.holds() == [], points
        assert world.is_exact(), points
        world.lose()
        points += 1
    assert points >= 3


@pytest.mark.parametrize("point", [pytest.param(0, marks=pytest.mark.wide), 1, pytest.param(2, marks=pytest.mark.wide)])
def test_who_was_only_stopped_while_it_held_the_day_adds_nothing_a_second_time(world: World, point: int) -> None:
    connection = Stopped(world.settings, point, world.start)
    with world.worker(connection) as store:
        store_window(world.jobs[0], store)
    connection.close()
    assert world.holds() == []
    assert world.is_exact()


def test_of_two_workers_that_find_the_same_one_makes_way(world: World) -> None:
    with world.worker() as store:  # as if they were another partition's
        rows = [store.rows(SOURCE, job.window, 0) for job in world.jobs]
        for job, made in zip(world.jobs, rows, strict=True):
            store.insert(made, OTHER, 0, job.offset_end)
    world.forget()
    start = threading.Barrier(2)

    def completes(partition: KafkaPartition) -> None:
        with world.worker() as store:
            start.wait()
            for job in world.jobs:
                store.complete(partition, job.window, 0, job.offset_end)

    both = [threading.Thread(target=completes, args=(partition,)) for partition in (SOURCE, OTHER)]
    for each in both:
        each.start()
    for each in both:
        each.join(HANG_SECONDS)
    assert not any(each.is_alive() for each in both)
    assert world.is_exact()
    assert world.holds() == []


def test_a_day_that_somebody_else_holds_is_left_to_him(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "_TRIES", 2)
    world.tables.command(f"ALTER TABLE DB.flows ADD CONSTRAINT {HELD} CHECK toDate(window_begin) != '{day(2)}'")
    world.start()
    assert world.holds() == [HELD]
    assert not world.is_exact()
    code, _, err = world._run("repair", "--from", str(day(2)), "--to", str(day(1)))
    assert code == 0, err
    assert world.is_exact()
    assert world.holds() == []


def test_repair_waits_for_a_worker_and_lets_a_day_go_that_one_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(world.settings, None)
    with contextlib.closing(connection):
        days = Days(connection, world.settings)
        with holding(days, day(2), "5_2_a", ""):
            monkeypatch.setattr(repair, "_INSERT_SECONDS", 0.3)
            with holding(days, day(2), "repair_a", "repair_", patient=True):
                assert world.holds() == [HELD]
        assert world.holds() == []
        days.hold(day(2), "5_2_a", "")
    code, _, err = world._run("repair", "--from", str(day(2)), "--to", str(day(1)))
    assert code == 0, err
    assert world.holds() == []
    assert world.is_exact()
