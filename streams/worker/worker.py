"""From messages to stored windows: the asynchronous shell around streams.partition. Knows nothing of Faust.

For each partition a task takes what came (streams.worker.intake) and another writes what is due
(streams.worker.output); no partition waits for another. ClickHouse, Kafka and the registry are used from threads, so
that the loop, and with it the consumer's heartbeats, live on. A partition of which too much waits takes no more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from common import logs
from common.errors import DecodeError, ServiceUnavailable
from common.settings import StreamsSettings
from schemas.packets import PacketBatch
from streams.metrics import Metrics
from streams.partition.state import Partition, Taken
from streams.worker.aside import DeadLetters
from streams.worker.assignment import Assignment, Kind
from streams.worker.clock import Clock, SystemClock
from streams.worker.intake import Intake
from streams.worker.lane import Lane
from streams.worker.live import LiveStatistics
from streams.worker.neighbours import Broker, Decoder, FlowStore, Member, Message, Offsets, PacketTable, Publisher
from streams.worker.nodes import Nodes
from streams.worker.output.keeping import Keeping
from streams.worker.output.operating import Operating, Runner
from streams.worker.output.writing import Writing
from streams.worker.recovery import Recovery
from streams.worker.retrying import (
    ASIDE,
    BROKER,
    CLICKHOUSE,
    FLOWS,
    KAFKA,
    LARGE,
    LEDGER,
    LIVE,
    OFFSETS,
    REGISTRY,
    SERVICES,
    Executors,
    Released,
    Retrying,
    thread,
)
from streams.worker.standstill import Stand
from streams.worker.watching import LOOK_SECONDS, Watch

log = logs.get("streams")

_MOST_BYTES = 512 << 20  # of all open windows, from which on partitions with more than their share take none
_TICK = 0.2  # seconds between two looks at what is due
_ANEW_LOOKS = 3  # until then Kafka has told the group of its new topic, and all partitions are opened anew
_LIVE_SECONDS = 1.0  # between two live statistics
_LARGE_BYTES = 512 << 10  # of a message, from which on a thread decodes it: it may take longer than the loop may stand


class Worker:
    """Takes messages, stores windows."""

    def __init__(
        self,
        settings: StreamsSettings,
        *,
        topic: str,
        codec: Decoder,
        store: FlowStore,
        publisher: Publisher,
        offsets: Offsets,
        metrics: Metrics,
        broker: Broker,
        member: Member,
        clock: Clock | None = None,
        executors: Executors = thread,
        operators: Sequence[Runner] = (),
        packets: PacketTable | None = None,
    ) -> None:
        """`packets`: where each packet is kept; None: nowhere."""
        self._codec, self._metrics, self._member = codec, metrics, member
        self._clock = clock = clock or SystemClock()
        self._again = again = Retrying(clock, metrics.insert_retries.inc, executors)
        self._operating = Operating(operators, store, metrics, again, clock, executors=executors)
        self._writing = Writing(
            store, publisher, metrics, again, clock, publish_flows=settings.publish_flows, operating=self._operating
        )
        self._keeping = Keeping(packets, again, clock)
        self._aside = DeadLetters(publisher, metrics, again, clock)
        self._nodes = Nodes(metrics, clock)
        self._live = LiveStatistics(settings.live_top, publisher, executors("live"))
        self._intake = Intake(self._take, member, self._guard)
        self._watch = Watch(
            broker,
            metrics,
            again.troubles,
            clock,
            executors("broker"),
            window_seconds=settings.window_seconds,
            node_timeout_seconds=settings.node_timeout_seconds,
        )
        self._failures = logs.Limit(clock.monotonic)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        recovery = Recovery(settings, store, member.acknowledge)
        kind = Kind(
            made=recovery.made,
            prepare=recovery.prepare,
            stored_until=recovery.stored_until,
            write=self._write,
            attend=self._attend,
        )
        self._assignment = Assignment(kind, topic=topic, offsets=offsets, metrics=metrics, again=again, clock=clock)

    async def start(self) -> None:
        """Begin with the live statistics and the looks at Kafka; partitions begin with their first message."""
        self._tasks = [
            asyncio.create_task(self._guard(work), name=name)
            for name, work in (("live", self._publish_live()), ("watch", self._look_at_kafka()))
        ]

    async def stop(self) -> None:
        """Finish running inserts; open windows stay in Kafka."""
        self._stopping.set()
        await self.release_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watch.close()
        self._again.close()
        self._operating.close()
        self._live.close()

    @property
    def leaves_threads(self) -> bool:
        """Whether something of it still runs that cannot be ended."""
        return self._operating.is_busy

    async def release_all(self) -> None:
        """No partition is ours any more."""
        await self._intake.drop_all()
        await self._assignment.release_all()

    def take(self, message: Message) -> None:
        """Take a message as soon as those before it of its partition are taken. Raises nothing, waits for nothing."""
        if not self._stopping.is_set():
            self._intake.put(message)

    async def _take(self, message: Message) -> None:
        try:
            lane = await self._assignment.lane(message.partition, message.offset)
            while self._too_much(lane) or lane.blocks.crowded:
                await self._clock.wait(lane.closing, _TICK)
                if lane.closing.is_set():
                    return
            try:
                batch = await self._decoded(lane, message.value)
                taken = self._entered(lane, message.offset, batch)
                if self._keeping.wanted:
                    lane.blocks.add(message.offset, batch, taken.begin, message.timestamp)
                self._count(lane, taken, batch)
                await self._take_more(lane, batch.node)
            except DecodeError as error:
                await self._aside.send(lane, message, str(error))
                lane.state.skip(message.offset)
            self._metrics.batches.inc()
        except Released:
            return  # it was not acknowledged: whoever has the partition next reads it

    async def _take_more(self, lane: Lane, node: str) -> None:
        """What is too much of a message for one turn."""
        while lane.state.has_more:
            await asyncio.sleep(0)
            counters = lane.state.take_more(self._clock.time())
            try:
                self._live.feed.count(node, counters)
            except Exception as error:  # noqa: BLE001  as for their message
                self._live_failed(error)

    def _too_much(self, lane: Lane) -> bool:
        """Whether a partition has to wait for memory: one that has not more than its share never waits for others.

        So all together take less than twice _MOST_BYTES.
        """
        return self._assignment.nbytes > _MOST_BYTES and lane.state.nbytes * len(self._assignment.lanes) >= _MOST_BYTES

    async def _decoded(self, lane: Lane, value: bytes | None) -> PacketBatch:
        """The batch of a message. Raises DecodeError; waits while the registry that knows its schema is away."""
        if value is None or (self._codec.at_hand(value) and len(value) < _LARGE_BYTES):
            return self._decode(value)
        if self._codec.at_hand(value):
            batch = await self._again.once(LARGE, partial(self._decode, value))
            if lane.closing.is_set():
                raise Released
            return batch
        return await self._again.insist(REGISTRY, lane.at(), lane.closing, partial(self._decode, value))

    def _entered(self, lane: Lane, offset: int, batch: PacketBatch) -> Taken:
        """Add a batch to its partition. Raises DecodeError, also of a bug: who ends by it meets it again, for ever."""
        try:
            return lane.state.take(offset, batch, self._clock.time())
        except (DecodeError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError(f"the message cannot be taken: {error!r}") from error

    def _decode(self, value: bytes | None) -> PacketBatch:
        if value is None:
            raise DecodeError("a message without a value")
        try:
            return self._codec.decode_packet_batch(value)
        except (DecodeError, ServiceUnavailable):
            raise
        except Exception as error:
            raise DecodeError(f"the message cannot be decoded: {error!r}") from error

    def _count(self, lane: Lane, taken: Taken, batch: PacketBatch) -> None:
        metrics = self._metrics
        metrics.packets.inc(taken.packets)
        metrics.bytes.inc(taken.bytes)
        metrics.late_packets.inc(taken.late)
        metrics.duplicate_packets.inc(taken.duplicates)
        metrics.late_epoch_packets.inc(taken.after_epoch)
        metrics.coalesced_packets.inc(taken.coalesced)
        if taken.gap_bytes or taken.gap_entries:
            metrics.gaps.inc()
            metrics.lost_events.inc(taken.gap_events or 0)
            metrics.lost_entries.inc(taken.gap_entries)
            log.warning(
                "packets of a node are missing",
                node=batch.node,
                ring_id=batch.ring_id,
                ring_bytes=taken.gap_bytes,
                events="unknown" if taken.gap_events is None else taken.gap_events,
                coalesced_entries=taken.gap_entries,
            )
        try:
            self._live.feed.add(lane.state, batch, taken, self._clock.monotonic())
        except Exception as error:  # noqa: BLE001  its packets are taken, whatever the live view makes of them
            self._live_failed(error)

    async def _write(self, lane: Lane) -> None:
        await self._repeat_and_publish(lane, self._writing.once, _TICK)

    async def _attend(self, lane: Lane) -> None:
        await self._repeat_and_publish(lane, self._writing.bring_in, LOOK_SECONDS)

    async def _repeat_and_publish(self, lane: Lane, work: Callable[[Lane], Awaitable[None]], seconds: float) -> None:
        publishing = self._writing.publishing
        try:
            await asyncio.gather(
                self._guard(self._repeat(lane, work, seconds)),
                self._guard(publishing.run(lane)),
                self._guard(self._operating.run(lane)),
                self._guard(self._keeping.run(lane)),
            )
            await self._guard(publishing.finish(lane))
        finally:
            publishing.leave(lane)
            self._operating.leave(lane)

    async def _repeat(self, lane: Lane, work: Callable[[Lane], Awaitable[None]], seconds: float) -> None:
        try:
            while not lane.closing.is_set():
                await work(lane)
                await self._clock.wait(lane.closing, seconds)
        finally:
            self._writing.leave(lane)

    async def _publish_live(self) -> None:
        while not self._stopping.is_set():
            await self._clock.wait(self._stopping, _LIVE_SECONDS)
            lags = {number: self._watch.behind(number, state.position) for number, state in self._states().items()}
            try:
                trouble = await self._live.send(lags, self._clock.monotonic())
            except Exception as error:  # noqa: BLE001  a view is not worth a component; the next second has newer figures
                self._live_failed(error)
            else:
                self._again.troubles.report(LIVE, None)
                self._again.troubles.report(BROKER, trouble)
            self._gauges()

    def _live_failed(self, error: Exception) -> None:
        if self._failures.due(LIVE):
            log.error("live statistics failed", cause=error)
        self._again.troubles.report(LIVE, repr(error), retried=False)

    async def _look_at_kafka(self) -> None:
        anew = 0  # looks since we read a topic that is no longer there
        while not self._stopping.is_set():
            await self._watch.look(self._states(), self._member.assigned, self._stands)
            if reason := self._watch.standstill:
                raise ServiceUnavailable(f"{reason}; start again")
            if not self._stopping.is_set():
                await self._assignment.attend(self._member.assigned())
            foreign = {state.topic_id for state in self._states().values()} - {0, self._watch.topic_id}
            anew = anew + 1 if self._watch.known and foreign else 0
            if anew >= _ANEW_LOOKS:
                raise ServiceUnavailable("the packets topic was made anew; start again, to read it from its beginning")
            await self._clock.wait(self._stopping, LOOK_SECONDS)

    def _stands(self) -> dict[int, Stand]:
        return {
            lane.state.number: Stand(lane.state.position, lane.told, self._intake.waits(lane.state.number))
            for lane in self._assignment.lanes
        }

    def _states(self) -> dict[int, Partition]:
        return {lane.state.number: lane.state for lane in self._assignment.lanes}

    def _gauges(self) -> None:
        self._nodes.look(lane.state for lane in self._assignment.lanes)
        health = self.health()
        self._metrics.open_windows.set(health["open_windows"])
        self._metrics.watermark_delay_seconds.set(health["watermark_delay_seconds"] or 0)
        self._metrics.open_window_bytes.set(self._assignment.nbytes)
        for service in (*SERVICES, *self._operating.services):
            self._metrics.troubles.labels(service).set(self._again.troubles.count(service))
        self._metrics.unpublished_windows.set(health["unpublished_windows"])
        self._metrics.active_connections.set(self._live.feed.active_flows)
        self._metrics.live_bytes.set(self._live.feed.nbytes)
        self._metrics.live_left_out_rows.set(self._live.feed.left_out)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever a task dies of ends the component: it begins again from what is acknowledged."""
        try:
            await work
        except Released:
            return
        except Exception as error:  # noqa: BLE001  handed on
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the component with this error."""
        if not self.failure.done():
            self.failure.set_exception(error)

    def health(self) -> dict[str, Any]:
        """For /health: what there is, what waits, and what is wrong."""
        now, troubles = self._clock.time(), self._again.troubles
        lanes, inserted = self._assignment.lanes, self._writing.last_insert
        # of partitions that no node sends to any more it stands still for good
        watermarks = [mark.value for mark in (lane.state.watermark for lane in lanes) if mark.value and mark.living]
        error = self._nodes.error
        return {
            "ok": not troubles and not error and not self.failure.done(),
            "stage": "streams",
            "error": error,
            "warnings": self._nodes.warnings,
            "partitions": len(lanes),
            "watermark_delay_seconds": round(now - min(watermarks) / 1e9, 3) if watermarks else None,
            "clocks": self._nodes.clocks,
            "open_windows": sum(len(lane.state.windows) for lane in lanes),
            "oldest_open_window": min(filter(None, (lane.state.windows.oldest for lane in lanes)), default=None),
            **self._watch.told(self._states()),
            "rows_stored": self._writing.rows_stored,
            "last_insert_age_seconds": round(now - inserted, 3) if inserted is not None else None,
            "clickhouse": next(filter(None, map(troubles.of, (CLICKHOUSE, ASIDE, LEDGER))), "ok"),
            "kafka": next(filter(None, map(troubles.of, (BROKER, OFFSETS, KAFKA, FLOWS))), "ok"),
            "registry": troubles.of(REGISTRY) or "ok",
            "unpublished_windows": sum(len(lane.unpublished) for lane in lanes),
            "unpublished_flows": self._writing.publishing.given_up,
            "operators": self._operating.told(),
            "troubles": troubles.told(),
            "dead_letters": self._aside.count,
        }
