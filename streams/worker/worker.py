"""From messages to stored windows: the asynchronous shell around streams.partition. Knows nothing of Faust.

For each partition a task writes what is due (streams.worker.writing). ClickHouse and Kafka are used from a thread, so
that the loop, and with it the consumer's heartbeats, live on. While too much waits, no more messages are taken.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from common import logs
from common.errors import DecodeError, ServiceUnavailable
from common.settings import StreamsSettings
from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from streams.live.feed import LiveFeed
from streams.metrics import Metrics
from streams.partition.state import Partition, Taken
from streams.store.clickhouse import ClickHouseStore
from streams.worker.offsets import Begin, Offsets
from streams.worker.publisher import Publisher
from streams.worker.retrying import BROKER, CLICKHOUSE, KAFKA, REGISTRY, Released, Retrying, pause
from streams.worker.writing import Lane, Writing, acknowledge

log = logs.get("streams")
T = TypeVar("T")

_MOST_BYTES = 512 << 20  # of all open windows, from which on no messages are taken
_LOG_EVERY = 10.0  # seconds between two lines about messages that were set aside
_TICK = 0.2  # seconds between two looks at what is due
_RELEASE_SECONDS = 5.0  # for a running insert, when a partition goes


class Message(Protocol):
    """A message of the packets topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Worker:
    """Takes messages, stores windows. `lag` tells how many messages of a partition lie at or after a position."""

    def __init__(
        self,
        settings: StreamsSettings,
        *,
        codec: Codec,
        store: ClickHouseStore,
        publisher: Publisher,
        offsets: Offsets,
        metrics: Metrics,
        lag: Callable[[int, int], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._codec, self._store, self._publisher, self._metrics = codec, store, publisher, metrics
        self._offsets, self._lag, self._clock = offsets, lag, clock
        self._lanes: dict[int, Lane] = {}
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sink")
        self._live_threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
        self._live = LiveFeed(settings.live_top)
        self._live_task: asyncio.Task[None] | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._again = Retrying(self._threads, clock, metrics.insert_retries.inc)
        self._writing = Writing(store, publisher, metrics, self._again, clock, publish_flows=settings.publish_flows)
        self.dead_letters = 0
        self._said_aside = 0.0

    async def start(self) -> None:
        """Begin with the live statistics; partitions begin with their first message."""
        self._live_task = asyncio.create_task(self._guard(self._publish_live()), name="live")

    async def stop(self) -> None:
        """Finish running inserts; open windows stay in Kafka."""
        await self.release_all()
        if self._live_task:
            self._live_task.cancel()
            await asyncio.gather(self._live_task, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._live_threads.shutdown(wait=False, cancel_futures=True)

    async def release_all(self) -> None:
        """No partition is ours any more."""
        await self.release(list(self._lanes))

    async def release(self, partitions: list[int]) -> None:
        """These partitions are no longer ours: finish a running insert, acknowledge what is stored, forget the rest."""
        lanes = [self._lanes.pop(number) for number in partitions if number in self._lanes]
        for lane in lanes:
            lane.closing.set()
        tasks = [lane.task for lane in lanes if lane.task]
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=_RELEASE_SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for lane in lanes:
            acknowledge(lane, self._clock())

    async def take(self, message: Message, acknowledge: Callable[[], None]) -> None:
        """Add a message. Waits while too much is not stored yet."""
        try:
            lane = await self._lane(message)
            while sum(each.state.nbytes for each in self._lanes.values()) > _MOST_BYTES:
                await pause(lane.closing, _TICK)
                if lane.closing.is_set():
                    return
            lane.messages.append((message.offset, acknowledge))
            try:
                batch = await self._decoded(lane, message.value)
                self._count(lane, lane.state.take(message.offset, batch, self._clock()), batch)
            except DecodeError as error:
                await self._set_aside(lane, message, str(error))
                lane.state.skip(message.offset)
            self._metrics.batches.inc()
        except Released:
            return  # it was not acknowledged: whoever has the partition next reads it

    async def _lane(self, message: Message) -> Lane:
        lane = self._lanes.get(message.partition)
        if lane is None or message.offset == lane.state.position:
            return lane or await self._open(message.partition, message.offset)
        if message.offset > lane.state.position:
            begin = await self._begin(lane)
            if begin.topic_id == lane.state.topic_id:
                self._lose(lane, lane.state.position, min(begin.oldest, message.offset))
                return lane
        log.warning("reading again", partition=message.partition, offset=message.offset, was=lane.state.position)
        await self.release([message.partition])
        return await self._open(message.partition, message.offset)

    async def _begin(self, lane: Lane) -> Begin:
        return await self._again.insist(KAFKA, lane.closing, partial(self._offsets.begin, lane.state.number))

    def _lose(self, lane: Lane, start: int, end: int) -> None:
        """Messages between two offsets are no longer in Kafka, if there are any."""
        if end <= start:
            return
        lane.state.lose(start, end, self._clock())
        self._metrics.lost_messages.inc(end - start)
        log.error(
            "messages were removed from Kafka before they were acknowledged; see kafka.packets_retention_hours",
            partition=lane.state.number,
            from_offset=start,
            to_offset=end,
            messages=end - start,
        )

    async def _decoded(self, lane: Lane, value: bytes | None) -> PacketBatch:
        """The batch of a message. Raises DecodeError; waits while the registry that knows its schema is away."""
        try:
            return self._decode(value)
        except ServiceUnavailable:
            return await self._again.insist(REGISTRY, lane.closing, partial(self._decode, value))

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
        self._live.add(lane.state, batch, taken)

    async def _open(self, partition: int, offset: int) -> Lane:
        seconds = self._settings.window_seconds
        state = Partition(
            partition, position=offset, window_seconds=seconds, node_timeout_seconds=self._settings.node_timeout_seconds
        )
        lane = self._lanes[partition] = Lane(state)
        begin = await self._begin(lane)
        if offset > max(begin.committed, begin.oldest):
            raise ServiceUnavailable(
                f"reading of partition {partition} began at {offset} and not at "
                f"{max(begin.committed, begin.oldest)}, where it ended; start again"
            )
        state.topic_id = begin.topic_id
        find = partial(self._store.other_lengths, state.source, seconds, offset)
        other = await self._again.insist(CLICKHOUSE, lane.closing, find)
        ended = begin.committed
        if ended < 0:  # Kafka forgot it, or this is the first time
            ended = await self._again.insist(CLICKHOUSE, lane.closing, partial(self._store.stored_until, state.source))
        if lane.closing.is_set():
            raise Released
        if ended or begin.committed == 0:
            self._lose(lane, ended, min(begin.oldest, offset))
        if other:
            log.info("window length changed", partition=partition, before=other[0], until_offset=other[1])
            state.window_seconds_before(*other)
        lane.task = asyncio.create_task(self._guard(self._run(lane)), name=f"partition {partition}")
        log.info("reading", partition=partition, offset=offset)
        return lane

    async def _run(self, lane: Lane) -> None:
        while not lane.closing.is_set():
            await self._writing.once(lane)
            await pause(lane.closing, _TICK)

    async def _set_aside(self, lane: Lane, message: Message, error: str) -> None:
        now = self._clock()
        if now - self._said_aside >= _LOG_EVERY:  # the metric and the topic have them all
            log.warning(
                "set a message aside",
                partition=message.partition,
                offset=message.offset,
                error=error,
                topic="dead-letter",
                before=self.dead_letters,
            )
            self._said_aside = now
        send = partial(
            self._publisher.dead_letter,
            message.value,
            message.key,
            partition=message.partition,
            offset=message.offset,
            error=error,
        )
        await self._again.insist(KAFKA, lane.closing, send)
        self._metrics.dead_letters.inc()
        self.dead_letters += 1

    async def _publish_live(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            summaries = self._live.due({number: self._behind(lane) for number, lane in self._lanes.items()})
            loop = asyncio.get_running_loop()
            self._again.report(BROKER, await loop.run_in_executor(self._live_threads, self._send_live, summaries))
            self._metrics.active_connections.set(self._live.active_flows)
            self._gauges()

    def _send_live(self, summaries: list[Callable[[], dict[str, Any]]]) -> str | None:
        """Returns what is wrong with Kafka."""
        try:
            for summary in summaries:
                self._publisher.live(summary())
        except ServiceUnavailable as error:  # the schema registry; the next second has newer figures
            return str(error)
        return self._publisher.check()

    def _behind(self, lane: Lane) -> int:
        return self._lag(lane.state.number, lane.state.position)

    def _gauges(self) -> None:
        health = self.health()
        self._metrics.open_windows.set(health["open_windows"])
        self._metrics.lag_messages.set(health["lag_messages"])
        self._metrics.watermark_delay_seconds.set(health["watermark_delay_seconds"] or 0)
        self._metrics.open_window_bytes.set(sum(lane.state.nbytes for lane in self._lanes.values()))

    async def _guard(self, work: Any) -> None:
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
        now = self._clock()
        lanes, inserted = list(self._lanes.values()), self._writing.last_insert
        watermarks = [lane.state.watermark.value for lane in lanes if lane.state.watermark.value]
        return {
            "ok": not self._again.troubles and not self.failure.done(),
            "stage": "streams",
            "partitions": len(lanes),
            "watermark_delay_seconds": round(max(0.0, now - min(watermarks) / 1e9), 3) if watermarks else None,
            "open_windows": sum(lane.state.open_windows for lane in lanes),
            "lag_messages": sum(self._behind(lane) for lane in lanes),
            "rows_stored": self._writing.rows_stored,
            "last_insert_age_seconds": round(now - inserted, 3) if inserted is not None else None,
            "clickhouse": self._again.troubles.get(CLICKHOUSE, "ok"),
            "kafka": self._again.troubles.get(BROKER) or self._again.troubles.get(KAFKA, "ok"),
            "registry": self._again.troubles.get(REGISTRY, "ok"),
            "dead_letters": self.dead_letters,
        }
