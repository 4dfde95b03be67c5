"""Fakes of what streams.worker has around it, for tests: they obey its Protocols and can be as bad as the real ones.

Nothing here waits or starts a thread: time is moved by ManualClock.advance, and "another thread" is HandThreads.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

from common.backlog import PartitionBacklog, first_offset
from common.errors import ServiceUnavailable
from schemas.flows import FlowColumns, LedgerRow, Loss
from streams.partition.ledger import EpochId
from streams.partition.opening import Begin
from streams.partition.storing import Aside, KafkaPartition, Refused, WindowId
from streams.windowing.initiators import Connections
from streams.worker.neighbours import Look

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
        self.again: list[tuple[KafkaPartition, int, int, int, int]] = []  # begin, until; revision and E of all before

    def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all that is stored of a window, by k."""
        self._called("revisions")
        return sorted(
            (name.revision, offset_end)
            for name, (offset_end, _) in self.blocks.items()
            if (name.partition, name.window) == (partition, window)
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
        self.rollup.setdefault(name, flows)
        if self.lose_answer:
            self.lose_answer = False
            raise ServiceUnavailable("the answer was lost")

    def _put(self, name: Name, offset_end: int, flows: FlowColumns) -> None:
        self.blocks.setdefault(name, (offset_end, flows))

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
        """(k, E) of all of a window that ever was set aside, by k; and of the windows made again in its place."""
        kept = self.kept_aside.items()
        found = [(name.revision, kept[0]) for name, kept in kept if name[:2] == (partition, window)]
        for where, begin, until, revision, offset_end in self.again:
            if where == partition and begin <= window.start < until:
                found.append((revision, offset_end))
        return sorted(found)

    def swap_in(
        self, partition: KafkaPartition, span: tuple[int, int], made: Sequence[tuple[int, FlowColumns]], offset_end: int
    ) -> None:
        """Put windows (revision, rows), made again of all below an offset, in the place of those that start in it."""
        begin, until = span

        def inside(name: Name) -> bool:
            return name.partition == partition and begin <= name.window.start < until

        names = [name for name in (*self.blocks, *self.kept_aside) if inside(name)]
        before = [k for where, since, to, k, _ in self.again if where == partition and since < until and begin < to]
        revision = max([*(name.revision for name in names), *before], default=-1) + 1
        self.again.append((partition, begin, until, revision, offset_end))
        for table in (self.blocks, self.rollup):
            for name in [name for name in table if inside(name)]:
                del table[name]
        for revision, flows in made:
            name = Name(partition, WindowId(flows.window_begin, flows.window_seconds), revision)
            self.blocks[name], self.rollup[name] = (offset_end, flows), flows

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was set aside."""

    value: bytes | None
    key: bytes | None
    partition: int
    offset: int
    error: str
    topic: str | None = None


class MemoryPublisher:
    """The topics that streams writes; a worker.Publisher."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, FlowColumns]] = []  # revision, rows
        self.dead_letters: list[DeadLetter] = []
        self.statistics: list[dict[str, Any]] = []
        self.refuses = False  # takes no flows and no dead letters
        self.trouble: str | None = None
        self.registry_away = False  # live statistics cannot be encoded

    def flows(self, flows: FlowColumns, partition: KafkaPartition, revision: int) -> None:
        """Send one message a row."""
        self._deliver()
        self.sent.append((revision, flows))

    def dead_letter(
        self,
        value: bytes | None,
        key: bytes | None,
        *,
        partition: int,
        offset: int,
        error: str,
        topic: str | None = None,
    ) -> None:
        """Set a message aside."""
        self._deliver()
        letter = DeadLetter(value=value, key=key, partition=partition, offset=offset, error=error, topic=topic)
        self.dead_letters.append(letter)

    def live(self, stats: dict[str, Any]) -> None:
        """Send a node's live statistics."""
        if self.registry_away:
            raise ServiceUnavailable("the schema registry does not answer")
        self.statistics.append(stats)

    def check(self) -> str | None:
        """What is wrong with Kafka."""
        return self.trouble

    def _deliver(self) -> None:
        if self.refuses:
            raise ServiceUnavailable("Kafka did not take a message")


class MemoryOffsets:
    """The offsets of the group; a worker.Offsets."""

    def __init__(self, topic_id: int = 1) -> None:
        self.committed: dict[int, int] = defaultdict(lambda: -1)  # by partition; -1: none
        self.oldest: dict[int, int] = defaultdict(int)
        self.topic_id = topic_id
        self.ours = True  # whether it was we who committed them
        self.held: set[tuple[int, int]] = set()  # partition, offset of messages, as far as it matters
        self.away = False

    def begin(self, partition: int) -> Begin:
        """Where a partition stands."""
        if self.away:
            raise ServiceUnavailable("Kafka does not tell the offsets")
        return Begin(self.committed[partition], self.oldest[partition], self.topic_id, self.ours)

    def next_message(self, partition: int, offset: int) -> int | None:
        """The first at or after an offset."""
        return min((held for number, held in self.held if number == partition and held >= offset), default=None)


class MemoryMember:
    """The partitions that are ours, those that are not fetched, and what may be committed; a worker.Member."""

    def __init__(self) -> None:
        self.paused: set[int] = set()
        self.ours = {0}
        self.acknowledged: dict[int, int] = {}  # by partition: everything below
        self.broker: MemoryBroker | None = None  # where that is committed

    def pause(self, partition: int) -> None:
        """Not now."""
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        """Again."""
        self.paused.discard(partition)

    def assigned(self) -> set[int]:
        """The partitions that the group gave us."""
        return self.ours

    def acknowledge(self, partition: int, offset: int) -> None:
        """All below is stored."""
        self.acknowledged[partition] = offset
        if self.broker:
            self.broker.committed[partition] = offset


class MemoryBroker:
    """The packets topic; a worker.Broker."""

    def __init__(self, topic_id: int = 1) -> None:
        self.topic_id = topic_id
        self.end: dict[int, int] = {}  # offset of the next message, by partition
        self.came: dict[tuple[int, int], float] = {}  # partition, offset -> when; else when it began
        self.begun = 0.0
        self.read: set[int] = set()  # by some member of the group
        self.committed: dict[int, int] = defaultdict(lambda: -1)
        self.away = False

    def look(self, stored: Mapping[int, int]) -> Look:
        """All partitions."""
        if self.away:
            raise ServiceUnavailable("Kafka does not tell how far it is read")
        return Look(self.topic_id, [self._partition(number, stored) for number in sorted(self.end)])

    def _partition(self, number: int, stored: Mapping[int, int]) -> PartitionBacklog:
        committed, end = self.committed[number], self.end[number]
        first = first_offset(0, max(committed, stored.get(number, -1)), end)
        came = self.came.get((number, first), self.begun) if first < end else None
        return PartitionBacklog(
            partition=number,
            begin=0,
            committed=committed,
            first=first,
            end=end,
            oldest_unix_s=came,
            read=number in self.read,
        )
