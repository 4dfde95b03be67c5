"""Time, threads and tables of streams, for tests: they obey its Protocols and can be as bad as the real ones.

Nothing here waits or starts a thread: time is moved by ManualClock.advance, and "another thread" is HandThreads.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple, ParamSpec, TypeVar

from common.errors import ServiceUnavailable
from schemas.flows import FlowColumns, LedgerRow, Loss
from streams.partition.ledger import EpochId
from streams.partition.storing import MADE_AGAIN, Aside, KafkaPartition, Refused, WindowId
from streams.windowing.initiators import Connections

P = ParamSpec("P")
T = TypeVar("T")

_TURNS = 200  # of the event loop, after which nothing of a test is left to do that can be done


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self._now

    def monotonic(self) -> float:
        """The same."""
        return self._now

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set or the clock was moved so far."""
        alarm = asyncio.Event()
        entry = (self._now + seconds, alarm)
        self._waiting.append(entry)
        either = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(alarm.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.remove(entry)
            for future in either:
                future.cancel()

    async def advance(self, seconds: float) -> None:
        """Move it, and let everybody do what there is to do then."""
        await settle()
        self._now += seconds
        for until, alarm in self._waiting:
            if until <= self._now:
                alarm.set()
        await settle()


async def settle() -> None:
    """Until all tasks wait for the clock or for a thread that is held."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class HandThreads:
    """Executors by service. Work is done at once; that of a service that is held, when it is let go."""

    def __init__(self) -> None:
        self._held: dict[str, list[Callable[[], None]]] = {}

    def __call__(self, service: str) -> Executor:
        """The executor of a service."""
        return _ByHand(service, self._held)

    def hold(self, service: str) -> None:
        """From now on the service is slow: what is asked of it has begun and does not end."""
        self._held.setdefault(service, [])

    def waiting(self, service: str) -> int:
        """How much of its work has begun and not ended."""
        return len(self._held.get(service, ()))

    async def let_go(self, service: str) -> None:
        """It does what was asked, and is quick again."""
        for work in self._held.pop(service, []):
            work()
        await settle()


class _ByHand(Executor):
    def __init__(self, service: str, held: dict[str, list[Callable[[], None]]]) -> None:
        self._service, self._held = service, held

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do it, now or when the service is let go."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  whoever asked gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        if self._service in self._held:
            self._held[self._service].append(work)
        else:
            work()
        return future


class Name(NamedTuple):
    """Of an insert into the flows table."""

    partition: KafkaPartition
    window: WindowId
    revision: int


class MemoryStore:
    """The flows, losses and ledger tables, with the server's part of streams.partition.storing; a worker.FlowStore."""

    def __init__(self) -> None:
        self.blocks: dict[Name, tuple[int, FlowColumns]] = {}  # E, rows
        self.rollup: dict[Name, FlowColumns] = {}  # what the views made of them
        self._names: set[Name] = set()  # that it knows, also when the rows are gone
        self.losses: list[tuple[KafkaPartition, Loss]] = []
        self.ledger: dict[tuple[str, int, int, str, int, bool], LedgerRow] = {}
        self.calls: list[str] = []
        self.away = False  # nobody answers
        self.lose_answer = False  # of the next insert, which is done
        self.die = False  # in the next insert, between the table and its rollup
        self.kept_aside: dict[Name, tuple[int, FlowColumns, str]] = {}  # E, rows, what was wrong
        self.still_aside: set[Name] = set()
        self.refuses: set[int] = set()  # starts of windows
        self.refuses_ledger = False
        self.kept_from = 0  # windows that start before are too old for the table
        self.shows_expired = False  # for a moment, until a server merges
        self.again: list[
            tuple[KafkaPartition, int, int, dict[WindowId, int], int]
        ] = []  # begin, until; names before, E

    def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all that is stored of a window, by k."""
        self._called("revisions")
        return sorted(
            (name.revision, offset_end)
            for name, (offset_end, _) in self.blocks.items()
            if (name.partition, name.window) == (partition, window) and name.revision < MADE_AGAIN
        )

    def insert(self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> None:
        """Store rows under a name, unless something has it."""
        self._called("insert")
        name = Name(partition, WindowId(flows.window_begin, flows.window_seconds), revision)
        if name.window.start in self.refuses:
            raise Refused("a constraint is violated")
        if self.expired(name.window) and not self.shows_expired:
            return
        self._put(name, offset_end, flows)
        if self.die:
            self.die = False
            raise ServiceUnavailable("the server died")
        if name in self.blocks:  # else its rows were replaced, and it knows the name, too
            self.rollup.setdefault(name, flows)
        if self.lose_answer:
            self.lose_answer = False
            raise ServiceUnavailable("the answer was lost")

    def _put(self, name: Name, offset_end: int, flows: FlowColumns) -> None:
        if name not in self._names:
            self._names.add(name)
            self.blocks[name] = offset_end, flows

    def drop(self, name: Name) -> None:
        """Its rows are gone, and with them the name: as DROP PARTITION does it."""
        del self.blocks[name]
        self._names.discard(name)

    def expired(self, window: WindowId) -> bool:
        """Whether the table does not keep rows so old."""
        return window.start < self.kept_from

    def rows(self, partition: KafkaPartition, window: WindowId, revision: int) -> FlowColumns:
        """What is stored under a name."""
        self._called("rows")
        return self.blocks[Name(partition, window, revision)][1]

    def complete(self, partition: KafkaPartition, window: WindowId, revision: int, offset_end: int) -> FlowColumns:
        """What is stored under a name; the rollup has it, too."""
        flows = self.rows(partition, window, revision)
        self.rollup.setdefault(Name(partition, window, revision), flows)
        return flows

    def set_aside(
        self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int, error: str
    ) -> None:
        """Keep rows that the table refuses beside it, under their name."""
        self._called("set_aside")
        name = Name(partition, WindowId(flows.window_begin, flows.window_seconds), revision)
        self.kept_aside[name] = offset_end, flows, error
        self.still_aside.add(name)

    def aside(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all of a window that ever was set aside, by k; and of what was made again in its place."""
        kept = self.kept_aside.items()
        found = [(name.revision, kept[0]) for name, kept in kept if name[:2] == (partition, window)]
        for where, begin, until, highest, offset_end in self.again:
            if where == partition and begin <= window.start < until:
                found.append((highest.get(window, -1), offset_end))
        return sorted(found)

    def swap_in(
        self, partition: KafkaPartition, span: tuple[int, int], made: Sequence[tuple[int, FlowColumns]], offset_end: int
    ) -> None:
        """Put windows (revision, rows), made again of all below an offset, in the place of those that start in it."""
        begin, until = span

        def inside(name: Name) -> bool:
            return name.partition == partition and begin <= name.window.start < until

        highest: dict[WindowId, int] = {}
        for name in sorted(name for name in self.blocks if inside(name) and name.revision < MADE_AGAIN):
            highest[name.window] = name.revision
        self.again.append((partition, begin, until, highest, offset_end))
        for name in [name for name, (end, _) in self.blocks.items() if inside(name) and end <= offset_end]:
            del self.blocks[name]
        for revision, flows in made:
            window = WindowId(flows.window_begin, flows.window_seconds)
            used = revision <= highest.get(window, -1)
            name = Name(partition, window, revision if used else MADE_AGAIN + revision)
            self.blocks[name] = offset_end, flows
        self.rollup = {name: flows for name, flows in self.rollup.items() if not inside(name)}
        self.rollup |= {name: flows for name, (_, flows) in self.blocks.items() if inside(name)}

    def all_aside(self, partition: int) -> list[Aside]:
        """What is set aside of a partition and not in the table yet."""
        names = sorted(name for name in self.still_aside if name.partition.number == partition)
        return [Aside(*name, self.kept_aside[name][0]) for name in names]

    def rows_aside(self, aside: Aside) -> FlowColumns:
        """What was set aside under a name."""
        return self.kept_aside[Name(*aside[:3])][1]

    def brought_in(self, aside: Aside) -> None:
        """The table has it now."""
        self._called("brought_in")
        self.still_aside.discard(Name(*aside[:3]))

    def other_lengths(self, partition: KafkaPartition, window_seconds: int, offset: int) -> tuple[int, int] | None:
        """The window length that was used before ours, and the offset up to which it stored; None: the same."""
        self._called("other_lengths")
        ends = [
            (offset_end, name.window.seconds)
            for name, (offset_end, _) in self.blocks.items()
            if name.partition == partition and name.window.seconds != window_seconds and offset_end > offset
        ]
        return max(ends)[::-1] if ends else None

    def stored_until(self, partition: KafkaPartition) -> int:
        """The highest offset below which something is stored; 0: nothing."""
        self._called("stored_until")
        return max((end for name, (end, _) in self.blocks.items() if name.partition == partition), default=0)

    def turned(self, partition: KafkaPartition, window_seconds: int) -> Sequence[Connections]:
        """All rows of the last windows."""
        self._called("turned")
        names = sorted(name for name in self.blocks if name.partition == partition)
        since = names[-1].window.start - max(600, 3 * window_seconds) if names else 0
        return [self.blocks[name][1] for name in names if name.window.start > since]

    def insert_losses(self, losses: Sequence[Loss], partition: KafkaPartition) -> None:
        """Store losses."""
        self._called("insert_losses")
        self.losses += [(partition, loss) for loss in losses if (partition, loss) not in self.losses]

    def stored_epochs(self, epochs: Sequence[EpochId]) -> dict[EpochId, tuple[LedgerRow, ...]]:
        """Those of some epochs that are in the ledger, with their rows where these lack the kernel's counters."""
        self._called("stored_epochs")
        found: dict[EpochId, tuple[LedgerRow, ...]] = {}
        for key, row in self.ledger.items():
            name = EpochId(*key[:3])
            if name in epochs:
                found[name] = () if row.closed else (*found.get(name, ()), row)
        return found

    def insert_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Store ledger rows."""
        self._called("insert_ledger")
        if self.refuses_ledger:
            raise Refused("a constraint is violated")
        for row in rows:
            of = row.counters
            key = row.node, row.ring_id, of.epoch, of.interface, of.direction, of.primary
            if key not in self.ledger or self.ledger[key].kafka_offset_end <= row.kafka_offset_end:
                self.ledger[key] = row

    @property
    def packets(self) -> int:
        """Of all rows, in both directions."""
        return sum(int(flows.packets.sum() + flows.packets_rev.sum()) for _, flows in self.blocks.values())

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise ServiceUnavailable("ClickHouse does not answer")
