"""Windows made again take the place of those in flows, whoever is killed or stopped for how long. Real ClickHouse."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from common.times import iso
from schemas.packets import PacketBatch
from streams.partition.again import Again, Checkpoint, Span
from streams.partition.state import Partition
from streams.partition.storing import KafkaPartition, WindowId, WindowJob, store_window
from streams.rewindow.swap import Swap
from streams.store.clickhouse import ClickHouseStore
from streams.store.connection import Connection
from streams.store.repair import Days
from streams.store.rewindow.making import Job
from streams.store.rewindow.swapping import SwapStore
from tests.fix_local import WRITER
from tests.integration.fix_disk import day, ledger_of, start_of, write_without_pauses
from tests.integration.fix_stopped import Killed
from tests.integration.fix_tables import Run, Tables
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch

pytestmark = pytest.mark.clickhouse

SOURCE = KafkaPartition(5, 2)
LIVE = 10  # seconds of a live window
WINDOWS = 6  # in two days
BEGIN = start_of(day(2)) - 3 * LIVE
SPAN = Span(BEGIN, BEGIN + WINDOWS * LIVE)
LATE = [BEGIN + 2 * LIVE, BEGIN + 3 * LIVE]  # windows that get packets when all is stored, one in each day


def messages(late: int) -> list[PacketBatch]:
    """Each of a live window; then those of what comes late."""
    made = []
    for offset in range(WINDOWS):
        at = (BEGIN + LIVE * offset) * SECOND
        packets = [Packet(time_ns=at + i * SECOND, src_port=2000 + i) for i in range(5)]
        made.append(batch(packets, node="n1", ring_start=offset * 5 * STRIDE, clock_ns=at + SECOND))
    for number in range(late):
        packets = [Packet(time_ns=start * SECOND + number, src_port=2000) for start in LATE]
        ring_start = (WINDOWS * 5 + number * len(LATE)) * STRIDE
        made.append(batch(packets, node="n1", ring_start=ring_start, clock_ns=SPAN.until * SECOND))
    return made


class World:
    """Windows of ten seconds of two days, their ledger, and a worker that was there."""

    def __init__(self, tables: Tables, run: Run) -> None:
        self.tables, self.run, self.told = tables, run, list[str]()
        self.settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
        self.packets = 5 * WINDOWS
        with self.worker() as store:
            for job in self.windows(0):
                assert store_window(job, store).rows == 5
        ledger_of(tables, day(0))

    @contextlib.contextmanager
    def worker(self, kind: type[ClickHouseStore] = ClickHouseStore) -> Iterator[ClickHouseStore]:
        made = kind(self.settings, "t.packets")
        yield made
        made.close()

    def windows(self, late: int) -> list[WindowJob]:
        """What a worker has that has read all from the beginning."""
        state = Partition(SOURCE.number, position=0, window_seconds=LIVE, node_timeout_seconds=1e9, topic_id=5)
        for offset, message in enumerate(messages(late)):
            state.take(offset, message, 0.0)
        found = [state.begin(WindowId(BEGIN + LIVE * n, LIVE)) for n in range(WINDOWS)]
        return [job for job in found if job is not None]

    def late(self, late: int) -> None:
        """A worker reads all once more, and finds so many messages that came late."""
        with self.worker() as store:
            for job in self.windows(late):
                store_window(job, store)
        self.packets = 5 * WINDOWS + late * len(LATE)

    @contextlib.contextmanager
    def store(self, connection: Connection | None = None) -> Iterator[SwapStore]:
        made = SwapStore(self.settings)
        if connection:
            made._connection = connection
            made.days = Days(connection, self.settings)
        yield made
        made.close()

    def made(self, id_: str, seconds: int) -> Job:
        """Windows that were made again and proved, of all but what came late."""
        job = Job(
            id=id_,
            state="swapping",
            topic_id=SOURCE.topic_id,
            span=SPAN,
            window_seconds=seconds,
            filter="",
            into="",
            offsets={SOURCE.number: (0, WINDOWS)},
            bucket_seconds=LIVE,
        )
        again = Again(SOURCE, SPAN, seconds, Checkpoint.at(0))
        with self.store() as store:
            store.make_shadow(job)
            for offset, message in enumerate(messages(0)):
                if flush := again.take(offset, message, BEGIN * 1000):
                    store.insert(job, SOURCE, flush)
            store.insert(job, SOURCE, again.rest(WINDOWS))
            assert store.against_ledger(job) == []
            return store.save(job)

    def swap(self, id_: str, connection: Connection | None = None) -> Job:
        """As the same command does that is given again."""
        with self.store(connection) as store:
            (job,) = store.jobs(id_)
            return Swap(store, job, self.told.append).run()

    def lengths(self) -> dict[int, set[int]]:
        """Of windows, by day ago."""
        rows = self.tables.rows("SELECT DISTINCT toDate(window_begin), window_seconds FROM DB.flows")
        return {ago: {seconds for when, seconds in rows if when == day(ago)} for ago in (3, 2)}

    def assert_true(self) -> None:
        """Flows, rollups, ledger and constraints; and nothing is left of what was made."""
        ((stored,),) = self.tables.rows("SELECT sum(packets + packets_rev) FROM DB.flows")
        assert stored == self.packets
        assert self.constraints() == []
        assert self.tables.rows("SHOW TABLES FROM DB LIKE '%again%'") == []
        assert self.tables.rows("SHOW TABLES FROM DB LIKE 'rewindow\\\\_%'") == [("rewindow_progress",)]
        code, out, _ = self.run("audit", "--rollups", "--since", "4d")
        assert code == 0, out

    def assert_audited(self) -> None:
        """By the ledger, which does not know of what came late in these tests."""
        code, out, err = self.run("audit", "--since", iso(start_of(day(3))), "--until", iso(start_of(day(1))))
        assert code == 0, out + err

    def constraints(self) -> list[str]:
        with self.store() as store:
            return [name for ago in (3, 2) for name in store.days.left(day(ago))]


@pytest.fixture
def world(tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch) -> World:
    write_without_pauses(monkeypatch)
    return World(tables, run)


class Late(ClickHouseStore):
    """Of a worker that is stopped when it has asked what is stored, before its first insert."""

    meanwhile: Callable[[], None] | None = None

    def insert(self, *what: Any) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        super().insert(*what)


@pytest.mark.parametrize("seconds", [1, LIVE])
def test_a_worker_that_was_stopped_for_longer_than_a_swap_stores_nothing_twice(world: World, seconds: int) -> None:
    world.made("0123456789_1", seconds)

    def meanwhile() -> None:
        world.swap("0123456789_1")
        world.late(1)  # another worker has its partition

    with world.worker(Late) as store:
        assert isinstance(store, Late)
        store.meanwhile = meanwhile
        for job in world.windows(1):
            store_window(job, store)
    world.assert_true()
    ((revisions,),) = world.tables.rows("SELECT groupUniqArray(revision) FROM DB.flows WHERE window_seconds = 10")
    assert 1 in revisions  # the names went on where they were


class Cut(Connection):
    """Of who is killed before its statement of this number, or only stopped there while something happens."""

    def __init__(self, settings: ClickHouseSettings, number: int, then: Callable[[], None] | None = None) -> None:
        super().__init__(settings, None)
        self.left, self._then = number, then

    def command(self, sql: str, *what: Any, **parameters: Any) -> None:
        self._count()
        super().command(sql, *what, **parameters)

    def insert(self, *what: Any) -> None:
        self._count()
        super().insert(*what)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0 and not self._then:
            raise Killed
        if self.left == -1 and self._then:
            self._then()


ALL = 63  # statements: 30 for each day, and what is done at the end


def points(*few: int) -> list[Any]:
    """A swap's statements by number: 6 replaces a day, 28 writes that down, with 36 and 58 for the other one."""
    wide = (pytest.mark.wide, pytest.mark.timeout(1_800))
    return [pytest.param(few, id="few"), pytest.param(range(ALL), id="all", marks=wide)]


@pytest.mark.parametrize("numbers", points(1, 5, 7, 12, 28))
def test_a_swap_that_is_killed_anywhere_goes_on_and_ends(world: World, numbers: Iterable[int]) -> None:
    world.made("0123456789_1", 1)
    kills = 0
    for number in numbers:
        with contextlib.suppress(Killed):
            world.swap("0123456789_1", Cut(world.settings, number))
            break
        kills += 1
        ((stored,),) = world.tables.rows("SELECT sum(packets + packets_rev) FROM DB.flows")
        assert stored == world.packets, number
    assert kills > 4
    world.swap("0123456789_1")
    assert world.lengths() == {3: {1}, 2: {1}}
    world.assert_true()
    world.assert_audited()


@pytest.mark.parametrize("numbers", points(6, 7, 8, 62))
def test_a_swap_that_is_killed_anywhere_is_given_up_and_each_day_is_true(world: World, numbers: Iterable[int]) -> None:
    """Until it ends before it is killed: each time with windows of another length."""
    found = set()
    for number, seconds in zip(numbers, itertools.cycle((1, 2, 5)), strict=False):
        before, job = world.lengths(), world.made(f"{number:010}_1", seconds)
        with contextlib.suppress(Killed):
            world.swap(job.id, Cut(world.settings, number))
        code, _, err = world.run("rewindows", "--give-up", job.id)
        assert code == 0, err
        world.assert_true()
        new = {ago for ago in (3, 2) if world.lengths()[ago] == {seconds}}
        assert all(world.lengths()[ago] == before[ago] for ago in {3, 2} - new)
        with world.store() as store:
            (job,) = store.jobs(job.id)
        assert {day(ago) for ago in new} == set(job.days_done)
        assert job.state == ("swapped" if new == {3, 2} else "failed")
        assert all(str(day(ago)) in err or job.state == "swapped" for ago in new)
        assert new or "Nothing was changed" in err
        found.add(frozenset(new))
    assert found == {frozenset(), frozenset({3}), frozenset({3, 2})}
    world.assert_audited()


@pytest.mark.parametrize("numbers", points(5, 6))
@pytest.mark.parametrize("given_up", [False, True], ids=["by the same", "by giving it up"])
def test_a_command_that_was_only_stopped_does_nothing_when_another_has_ended(
    world: World, numbers: Iterable[int], *, given_up: bool
) -> None:
    """Not even where packets came late meanwhile."""
    late = 0

    def meanwhile() -> None:
        nonlocal late
        if given_up:
            assert world.run("rewindows", "--give-up", job.id)[0] == 0
        else:
            world.swap(job.id)
        late += 1
        world.late(late)

    for number in numbers:
        job, before = world.made(f"{number:010}_1", (1, 2, 5)[late % 3]), late
        with contextlib.suppress(ServiceUnavailable):
            world.swap(job.id, Cut(world.settings, number, meanwhile))
        assert late == before + 1
        world.assert_true()
