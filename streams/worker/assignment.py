"""The partitions that are ours: each is opened by its first message, and released when it goes to another worker.

Something may be set aside of those of which nothing comes, perhaps for days: they are attended to until they are open.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from functools import partial
from typing import Any

from common import logs
from common.errors import ServiceUnavailable
from common.settings import StreamsSettings
from streams.metrics import Metrics
from streams.partition.opening import AskTable, Begin, Read, follow, open_at, passed_over, read_after, unseen
from streams.partition.state import Partition
from streams.worker.clock import Clock
from streams.worker.lane import Lane
from streams.worker.neighbours import FlowStore, Offsets
from streams.worker.retrying import CLICKHOUSE, OFFSETS, Released, Retrying

log = logs.get("streams")

_RELEASE_SECONDS = 5.0  # for a running insert, when a partition goes


class Assignment:
    """The open partitions. `write` is run as a task for each, `attend` for each of the others that are ours.

    Both until their lane is closing. `acknowledge`: called with a partition and the offset below which all is stored.
    """

    def __init__(
        self,
        settings: StreamsSettings,
        *,
        offsets: Offsets,
        store: FlowStore,
        metrics: Metrics,
        again: Retrying,
        clock: Clock,
        acknowledge: Callable[[int, int], None],
        write: Callable[[Lane], Coroutine[Any, Any, None]],
        attend: Callable[[Lane], Coroutine[Any, Any, None]],
    ) -> None:
        self._settings, self._offsets, self._store, self._metrics = settings, offsets, store, metrics
        self._again, self._clock, self._write, self._attend = again, clock, write, attend
        self._acknowledge = acknowledge
        self._lanes: dict[int, Lane] = {}
        self._unopened: dict[int, Lane] = {}

    @property
    def lanes(self) -> list[Lane]:
        """The open partitions."""
        return list(self._lanes.values())

    @property
    def nbytes(self) -> int:
        """Memory of all open windows."""
        return sum(lane.state.nbytes for lane in self._lanes.values())

    async def lane(self, partition: int, offset: int) -> Lane:
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
        log.warning("reading again", partition=partition, offset=offset, was=lane.state.position)
        await self.release([partition])
        return await self._open(partition, offset)

    async def attend(self, ours: Set[int]) -> None:
        """These are ours now."""
        await self._close([self._unopened.pop(number) for number in [*self._unopened] if number not in ours])
        for number in ours - self._lanes.keys() - self._unopened.keys():
            lane = self._unopened[number] = self._lane(self._state(number, 0))
            lane.task = asyncio.create_task(self._attend(lane), name=f"partition {number}, not open")

    def _lane(self, state: Partition) -> Lane:
        return Lane(state, partial(self._acknowledge, state.number))

    def _state(self, partition: int, offset: int) -> Partition:
        return Partition(
            partition,
            position=offset,
            window_seconds=self._settings.window_seconds,
            node_timeout_seconds=self._settings.node_timeout_seconds,
        )

    async def _open(self, partition: int, offset: int) -> Lane:
        state, seconds = self._state(partition, offset), self._settings.window_seconds
        lane = self._lanes[partition] = self._lane(state)
        if partition in self._unopened:
            await self._close([self._unopened.pop(partition)])
        begin = await self._begin(lane)
        decision = open_at(offset, begin)
        await self._nothing_passed_over(lane, begin.committed, offset, begin)
        lane.acknowledged = max(lane.acknowledged, begin.committed)
        state.topic_id = begin.topic_id
        find = partial(self._store.other_lengths, state.source, seconds, offset)
        other = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, find)
        await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, partial(self._recall, state, seconds))
        if isinstance(decision, AskTable):
            ask = partial(self._store.stored_until, state.source)
            decision = read_after(await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, ask), offset, begin)
        if lane.closing.is_set():
            raise Released
        self._lose(lane, decision)
        if other:
            log.info("window length changed", partition=partition, before=other[0], until_offset=other[1])
            state.window_seconds_before(*other)
        lane.task = asyncio.create_task(self._write(lane), name=f"partition {partition}")
        log.info("reading", partition=partition, offset=offset)
        return lane

    def _recall(self, state: Partition, window_seconds: int) -> None:
        """Who began connections that live on, as our predecessor knew."""
        for rows in self._store.turned(state.source, window_seconds):
            state.initiators.learn(rows)

    async def _begin(self, lane: Lane) -> Begin:
        return await self._again.insist(
            OFFSETS, lane.at(), lane.closing, partial(self._offsets.begin, lane.state.number)
        )

    async def _nothing_passed_over(self, lane: Lane, awaited: int, offset: int, begin: Begin) -> None:
        """Raises ServiceUnavailable when Kafka has a message that was to come before `offset`, and did not."""
        number, start = lane.state.number, unseen(awaited, offset, begin)
        if start is None:
            return
        ask = partial(self._offsets.next_message, number, start)
        first = await self._again.insist(OFFSETS, lane.at(), lane.closing, ask)
        if error := passed_over(number, first, offset):
            raise ServiceUnavailable(error)

    def _lose(self, lane: Lane, decision: Read) -> None:
        """Note and tell what is no longer in Kafka, if there is anything."""
        if not decision.lost:
            return
        start, end, _ = decision.lost
        lane.state.lose(start, end, self._clock.time())
        self._metrics.lost_messages.inc(end - start)
        log.error(
            "somebody moved the consumer group over messages that were not read; set it back to read them"
            if decision.lost.moved
            else "messages were removed from Kafka before they were acknowledged; see kafka.packets_retention_hours",
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

    async def _close(self, lanes: Sequence[Lane]) -> None:
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
