"""From messages of the names topic to stored rows: the asynchronous shell around streams.names.partition.

A worker of its own, with threads and connections of its own: flows wait for nothing that happens to names.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from common import logs
from common.backlog import PartitionBacklog
from common.errors import DecodeError, ServiceUnavailable
from schemas.flows import Loss
from schemas.names import NameBatch
from streams.metrics import Metrics
from streams.names.partition import Block, Extents, NamePartition
from streams.names.storing import NameStore, Stored, bring_in, store_block
from streams.partition.storing import KafkaPartition, Refused
from streams.worker.aside import DeadLetters
from streams.worker.assignment import Assignment, Kind
from streams.worker.clock import Clock, SystemClock
from streams.worker.intake import Intake
from streams.worker.neighbours import Member, Message, Offsets, Publisher
from streams.worker.output import refusals
from streams.worker.retrying import ASIDE, BROKER, CLICKHOUSE, REGISTRY, SERVICES, Executors, Released, Retrying, thread
from streams.worker.troubles import Place

log = logs.get("streams")
T = TypeVar("T")

_TICK = 0.5  # seconds between two looks at what is due
_LOOK_SECONDS = 10.0  # between two looks at how far we are behind
_KNOWN_SECONDS = 60.0  # for so long one is worth something


class NameMessage(Message, Protocol):
    """A message of the names topic."""

    timestamp: float  # when Kafka took it, seconds since the Unix epoch


class Decoder(Protocol):
    """Reads the values of messages."""

    def at_hand(self, message: bytes) -> bool:
        """Whether it can be decoded without asking the registry."""

    def decode_name_batch(self, message: bytes) -> NameBatch:
        """Raises DecodeError; ServiceUnavailable when the registry that knows its schema does not answer."""


class Behind(Protocol):
    """How far the group is behind in the topic."""

    def look(self, stored: Mapping[int, int]) -> Sequence[PartitionBacklog]:
        """All partitions. Raises ServiceUnavailable."""


class Tables(NameStore, Protocol):
    """The tables names, names_ledger and losses."""

    def stored_until(self, partition: KafkaPartition) -> int:
        """The offset behind the last block of the last week; 0: there is none."""

    def insert_losses(self, losses: list[Loss], partition: KafkaPartition) -> None:
        """Store losses; one that is there already is replaced by its like."""


@dataclass(slots=True, eq=False)
class _Lane:
    """A partition, and the task that writes what is due; an Owned of streams.worker.assignment."""

    state: NamePartition
    tell: Callable[[int], None]  # that all below an offset is stored
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    acknowledged: int = -1
    next_bring_in: float = 0.0  # on the monotonic clock: when to look what is set aside

    def at(self) -> Place:
        return Place(self.state.number)

    def acknowledge(self, now: float) -> None:
        offset = self.state.committable(now)
        if offset > self.acknowledged:
            self.acknowledged = offset
            self.tell(offset)


class NameWorker:
    """Takes messages, stores names."""

    def __init__(
        self,
        *,
        topic: str,
        window_seconds: int,
        codec: Decoder,
        store: Tables,
        publisher: Publisher,
        offsets: Offsets,
        behind: Behind,
        metrics: Metrics,
        member: Member,
        clock: Clock | None = None,
        executors: Executors = thread,
    ) -> None:
        self._topic, self._seconds = topic, window_seconds
        self._codec, self._store, self._metrics, self._member = codec, store, metrics, member
        self._clock = clock = clock or SystemClock()
        self._again = Retrying(clock, metrics.insert_retries.inc, lambda service: executors(f"names: {service}"))
        self._aside = DeadLetters(publisher, metrics, self._again, clock, topic=topic)
        self._intake = Intake(self._take, member, self._guard)
        kind = Kind(
            made=self._made,
            prepare=self._prepare,
            stored_until=lambda lane: store.stored_until(lane.state.source),
            write=self._write,
            attend=self._attend,
        )
        self._assignment: Assignment[_Lane] = Assignment(
            kind, topic=topic, offsets=offsets, metrics=metrics, again=self._again, clock=clock
        )
        self._stopping = asyncio.Event()
        self._behind, self._looking = behind, executors("names: backlog")
        self._lag, self._looked = 0, -math.inf
        self._looks: asyncio.Task[None] | None = None
        self._rows_stored = 0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Begin to look how far we are behind; partitions begin with their first message."""
        self._looks = asyncio.create_task(self._guard(self._look()), name="names: backlog")

    async def stop(self) -> None:
        """Finish running inserts; what is not stored stays in Kafka."""
        self._stopping.set()
        if self._looks:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        self._looking.shutdown(wait=False, cancel_futures=True)
        await self.release_all()
        self._again.close()

    async def release_all(self) -> None:
        """No partition is ours any more: finish running inserts, acknowledge what is stored, forget the rest."""
        await self._intake.drop_all()
        await self._assignment.release_all()

    def take(self, message: Message) -> None:
        """Take a message as soon as those before it of its partition are taken. Raises nothing, waits for nothing."""
        if not self._stopping.is_set():
            self._intake.put(message)

    async def _take(self, message: Any) -> None:
        try:
            lane = await self._assignment.lane(message.partition, message.offset)
            while lane.state.full:
                await self._clock.wait(lane.closing, _TICK)
                if lane.closing.is_set():
                    return
            try:
                batch = await self._decoded(lane, message.value)
                self._enter(lane, message, batch)
            except DecodeError as error:
                await self._aside.send(lane, message, str(error))
                lane.state.skip(message.offset)
            self._metrics.name_batches.inc()
        except Released:
            return  # it was not acknowledged: whoever has the partition next reads it

    async def _decoded(self, lane: _Lane, value: bytes | None) -> NameBatch:
        if value is None or self._codec.at_hand(value):
            return self._decode(value)
        return await self._again.insist(REGISTRY, lane.at(), lane.closing, partial(self._decode, value))

    def _decode(self, value: bytes | None) -> NameBatch:
        if value is None:
            raise DecodeError("a message without a value")
        return self._sound(partial(self._codec.decode_name_batch, value))

    def _enter(self, lane: _Lane, message: NameMessage, batch: NameBatch) -> None:
        received_s = min(max(0, int(message.timestamp or 0)), 2**32 - 1)
        taken = self._sound(partial(lane.state.take, message.offset, received_s, batch, self._clock.time()))
        self._metrics.names.inc(taken.rows)
        self._metrics.duplicate_names.inc(taken.repeated)
        if taken.gap_bytes or taken.missing:
            self._metrics.gaps.inc()
            log.warning(
                "names of a node are missing",
                node=batch.node,
                ring_id=batch.ring_id,
                ring_bytes=taken.gap_bytes,
                copies=taken.missing,
            )

    @staticmethod
    def _sound(work: Callable[[], T]) -> T:
        """Raises DecodeError, also of a bug: who ends by a message meets it again, for ever."""
        try:
            return work()
        except (DecodeError, ServiceUnavailable, MemoryError):
            raise
        except Exception as error:
            raise DecodeError(f"the message cannot be taken: {error!r}") from error

    def _made(self, partition: int, offset: int) -> _Lane:
        state = NamePartition(partition, position=offset, window_seconds=self._seconds)
        return _Lane(state, partial(self._member.acknowledge, partition))

    def _prepare(self, lane: _Lane, offset: int) -> None:
        lane.state.expect(self._store.blocks(lane.state.source, offset))

    async def _write(self, lane: _Lane) -> None:
        await self._guard(self._repeat(lane, self._once))

    async def _attend(self, lane: _Lane) -> None:
        await self._guard(self._repeat(lane, self._bring_in))

    async def _repeat(self, lane: _Lane, work: Callable[[_Lane], Coroutine[Any, Any, None]]) -> None:
        try:
            while not lane.closing.is_set():
                await work(lane)
                await self._clock.wait(lane.closing, _TICK)
        finally:
            self._again.troubles.report(ASIDE, None, lane.at())

    async def _once(self, lane: _Lane) -> None:
        """Everything that is due now."""
        await self._write_losses(lane)  # before what makes the table say that we were further
        while not lane.closing.is_set() and (block := lane.state.due(self._clock.time())) is not None:
            work = partial(store_block, block, self._store)
            stored: Stored = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, work)
            if stored.aside:
                self._set_aside(lane, block, stored)
            lane.state.stored(block, stored.end)
            self._metrics.name_rows_stored.inc(stored.rows)
            self._rows_stored += stored.rows
            lane.acknowledge(self._clock.time())
        await self._bring_in(lane)
        lane.acknowledge(self._clock.time())

    def _set_aside(self, lane: _Lane, block: Block, stored: Stored) -> None:
        self._metrics.refused_name_rows.inc(stored.aside)
        log.error(
            "set names aside that ClickHouse refuses; they are in the table refused until it takes them",
            partition=lane.state.number,
            from_offset=block.messages.start,
            to_offset=block.messages.end,
            rows=stored.aside,
            error=stored.error,
        )
        self._again.troubles.report(ASIDE, _sentence(block.messages, stored.error), lane.at())

    async def _bring_in(self, lane: _Lane) -> None:
        """Now and then, try to store what was set aside of this partition, also by others."""
        if self._clock.monotonic() < lane.next_bring_in:
            return
        lane.next_bring_in = self._clock.monotonic() + refusals.BRING_IN_SECONDS
        look = partial(self._store.all_aside, lane.state.number)
        trouble = ""
        for each in await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, look):
            work = partial(refusals.or_refused, partial(bring_in, each, self._store))
            found = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, work)
            if isinstance(found, Refused):
                trouble = trouble or _sentence(each.messages, str(found))
            else:
                log.info("names that were set aside are stored", partition=lane.state.number, rows=found)
        self._again.troubles.report(ASIDE, trouble or None, lane.at())

    async def _write_losses(self, lane: _Lane) -> None:
        if losses := lane.state.losses.waiting():
            store = partial(self._store.insert_losses, losses, lane.state.source)
            await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, store)
            lane.state.losses.written(losses)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            states = [lane.state for lane in self._assignment.lanes]
            stored = {state.number: state.acked for state in states}
            try:
                found = await loop.run_in_executor(self._looking, partial(self._behind.look, stored))
            except Exception as error:  # noqa: BLE001  who does not see says so, and looks again
                self._again.troubles.report(
                    BROKER, str(error) if isinstance(error, ServiceUnavailable) else repr(error)
                )
            else:
                self._again.troubles.report(BROKER, None)
                positions = {lane.state.number: lane.state.position for lane in self._assignment.lanes}
                waiting = (each for each in found if each.oldest_unix_s is not None)
                self._lag = sum(max(0, each.end - positions.get(each.partition, each.first)) for each in waiting)
                self._looked = self._clock.monotonic()
            lag = self.lag_messages
            self._metrics.names_lag_messages.set(math.nan if lag is None else lag)
            await self._assignment.attend(self._member.assigned())
            await self._clock.wait(self._stopping, _LOOK_SECONDS)

    @property
    def lag_messages(self) -> int | None:
        """Messages of the topic that nobody has read; None: not known."""
        return self._lag if self._clock.monotonic() - self._looked <= _KNOWN_SECONDS else None

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever a task dies of ends the component: it begins again from what is acknowledged."""
        try:
            await work
        except Released:
            return
        except Exception as error:  # noqa: BLE001  handed on
            if not self.failure.done():
                self.failure.set_exception(error)

    @property
    def troubled(self) -> bool:
        """Whether something is wrong."""
        return bool(self._again.troubles) or self.failure.done()

    def health(self) -> dict[str, Any]:
        """For /health."""
        troubles = self._again.troubles
        return {
            "partitions": len(self._assignment.lanes),
            "lag_messages": self.lag_messages,
            "rows_stored": self._rows_stored,
            "dead_letters": self._aside.count,
            "troubles": [{**each, "topic": self._topic} for each in troubles.told()],
            "errors": [error for service in SERVICES if (error := troubles.of(service))],
        }


def _sentence(messages: Extents, error: str) -> str:
    where = f"names of messages {messages.start} to {messages.end - 1}"
    return f"{where} are set aside in the table refused, since ClickHouse refuses them: {error}"
