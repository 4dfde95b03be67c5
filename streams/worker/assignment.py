"""The partitions of a topic that are ours: each is opened by its first message, and released when it goes elsewhere.

Something may be set aside of those of which nothing comes, perhaps for days: they are attended to until they are open.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from common import logs
from common.errors import ServiceUnavailable
from streams.metrics import Metrics
from streams.partition.losses import Losses
from streams.partition.opening import AskTable, Begin, Read, follow, open_at, passed_over, read_after, unseen
from streams.worker.clock import Clock
from streams.worker.neighbours import Offsets
from streams.worker.retrying import CLICKHOUSE, OFFSETS, Released, Retrying
from streams.worker.troubles import Place

log = logs.get("streams")

_RELEASE_SECONDS = 5.0  # for a running insert, when a partition goes


class State(Protocol):
    """What is known of a partition."""

    number: int
    topic_id: int
    position: int  # the next offset to be consumed
    losses: Losses

    @property
    def nbytes(self) -> int:
        """Memory of what waits to be stored."""


class Owned(Protocol):
    """A partition that is ours; streams.worker.lane.Lane is one."""

    acknowledged: int  # below this offset nothing is to be told
    task: asyncio.Task[None] | None

    @property
    def state(self) -> State:
        """What is known of it."""

    @property
    def closing(self) -> asyncio.Event:
        """It is no longer ours."""

    def at(self) -> Place:
        """It, as a place where something may go wrong."""

    def acknowledge(self, now: float) -> None:
        """The messages of which everything is stored."""


L = TypeVar("L", bound=Owned)
Work = Callable[[L], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[L]):
    """What is done with the partitions of a topic. `write` and `attend` run until their lane is closing."""

    made: Callable[[int, int], L]  # from a partition and the offset of its first message
    prepare: Callable[[L, int], None]  # ask the tables what a predecessor knew; in a thread, and tried again
    stored_until: Callable[[L], int]  # likewise: the highest offset below which something is stored; 0: none is known
    write: Work[L]  # a task for each that is open
    attend: Work[L]  # for each of the others that are ours


class Assignment(Generic[L]):
    """The partitions of one topic."""

    def __init__(
        self, kind: Kind[L], *, topic: str, offsets: Offsets, metrics: Metrics, again: Retrying, clock: Clock
    ) -> None:
        self._kind, self._topic, self._offsets, self._metrics = kind, topic, offsets, metrics
        self._again, self._clock = again, clock
        self._lanes: dict[int, L] = {}
        self._unopened: dict[int, L] = {}

    @property
    def lanes(self) -> list[L]:
        """The open partitions."""
        return list(self._lanes.values())

    @property
    def nbytes(self) -> int:
        """Memory of all that waits."""
        return sum(lane.state.nbytes for lane in self._lanes.values())

    async def lane(self, partition: int, offset: int) -> L:
        """The partition of a message that came.

        Raises Released when it goes meanwhile, ServiceUnavailable when reading has to begin elsewhere.
        """
        lane = self._lanes.get(partition)
        if lane is None:
            return await self._open(partition, offset)
        if offset == lane.state.position:
            return lane
        begin = await self._begin(lane)
        decision = follow(lane.state.position, lane.state.topic_id, offset, begin)
        if isinstance(decision, Read):
            await self._nothing_passed_over(lane, lane.state.position, offset, begin)
            self._lose(lane, decision)
            return lane
        log.warning("reading again", topic=self._topic, partition=partition, offset=offset, was=lane.state.position)
        await self.release([partition])
        return await self._open(partition, offset)

    async def attend(self, ours: Set[int]) -> None:
        """These are ours now."""
        await self._close([self._unopened.pop(number) for number in [*self._unopened] if number not in ours])
        for number in ours - self._lanes.keys() - self._unopened.keys():
            lane = self._unopened[number] = self._kind.made(number, 0)
            lane.task = asyncio.create_task(self._kind.attend(lane), name=f"{self._topic} {number}, not open")

    async def _open(self, partition: int, offset: int) -> L:
        lane = self._lanes[partition] = self._kind.made(partition, offset)
        if partition in self._unopened:
            await self._close([self._unopened.pop(partition)])
        begin = await self._begin(lane)
        decision = open_at(offset, begin)
        await self._nothing_passed_over(lane, begin.committed, offset, begin)
        lane.acknowledged = max(lane.acknowledged, begin.committed)
        lane.state.topic_id = begin.topic_id
        await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, partial(self._kind.prepare, lane, offset))
        if isinstance(decision, AskTable):
            ask = partial(self._kind.stored_until, lane)
            decision = read_after(await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, ask), offset, begin)
        if lane.closing.is_set():
            raise Released
        self._lose(lane, decision)
        lane.task = asyncio.create_task(self._kind.write(lane), name=f"{self._topic} {partition}")
        log.info("reading", topic=self._topic, partition=partition, offset=offset)
        return lane

    async def _begin(self, lane: L) -> Begin:
        ask = partial(self._offsets.begin, lane.state.number)
        return await self._again.insist(OFFSETS, lane.at(), lane.closing, ask)

    async def _nothing_passed_over(self, lane: L, awaited: int, offset: int, begin: Begin) -> None:
        """Raises ServiceUnavailable when Kafka has a message that was to come before `offset`, and did not."""
        number, start = lane.state.number, unseen(awaited, offset, begin)
        if start is None:
            return
        ask = partial(self._offsets.next_message, number, start)
        first = await self._again.insist(OFFSETS, lane.at(), lane.closing, ask)
        if error := passed_over(number, first, offset):
            raise ServiceUnavailable(f"{self._topic}: {error}")

    def _lose(self, lane: L, decision: Read) -> None:
        """Note and tell what will not be read, if there is anything."""
        if not decision.lost:
            return
        start, end, moved = decision.lost
        lane.state.losses.messages(start, end, self._clock.time())
        self._metrics.lost_messages.inc(end - start)
        log.error(
            "somebody moved the consumer group over messages that were not read: what they brought is not stored"
            if moved
            else "messages were removed from Kafka before they were acknowledged; see kafka.packets_retention_hours",
            topic=self._topic,
            partition=lane.state.number,
            from_offset=start,
            to_offset=end,
            messages=end - start,
        )

    async def release_all(self) -> None:
        """None is ours any more."""
        await self.release([*self._lanes])
        await self.attend(frozenset())

    async def release(self, partitions: list[int]) -> None:
        """These are no longer ours: finish a running insert, acknowledge what is stored, forget the rest."""
        lanes = [self._lanes.pop(number) for number in partitions if number in self._lanes]
        await self._close(lanes)
        for lane in lanes:
            lane.acknowledge(self._clock.time())

    async def _close(self, lanes: Sequence[L]) -> None:
        for lane in lanes:
            lane.closing.set()
        tasks = [lane.task for lane in lanes if lane.task]
        if tasks:
            done = asyncio.Event()
            ends = asyncio.gather(*tasks, return_exceptions=True)
            ends.add_done_callback(lambda _: done.set())
            await self._clock.wait(done, _RELEASE_SECONDS)
            for task in tasks:
                task.cancel()
            await ends
