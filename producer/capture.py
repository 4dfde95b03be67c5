"""From the ring to batches: when an epoch is closed, when a batch is cut, what it carries. Does no I/O of its own."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from common import logs
from common.errors import ServiceUnavailable
from common.settings import ProducerSettings
from producer.batch import Source, Span, build
from producer.clock import WallClock
from producer.epochs import ClosedEpoch, Epochs
from producer.event import Records
from producer.metrics import ProducerMetrics
from producer.outbox import Message
from producer.publish import MAX_MESSAGE_BYTES, Publisher
from schemas.packets import PacketBatch, PacketEvents
from schemas.topics import TopicNames

HEARTBEAT_NS = 1_000_000_000  # of a node that sees nothing
KAFKA_AWAY_NS = 2_000_000_000  # a batch that waits longer: nothing is sent only to say that we live
MAX_CLOSED_EPOCHS = 240  # not yet sent; with more the open epoch grows instead
REGISTRY_RETRY_NS = 1_000_000_000
_MS = 1_000_000

log = logs.get("producer")


class RingReader(Protocol):
    """What we use of ring.Ring."""

    size: int
    stride: int  # octets of a record

    def readable(self, position: int) -> int:
        """End of the submitted records from `position` on."""

    def span(self, start: int, end: int) -> Records:
        """The records between two positions."""

    def release(self, position: int) -> None:
        """Let the kernel overwrite what lies before."""


EncodeBatch = Callable[[PacketBatch], bytes]
"""A message of the packets topic. Raises ServiceUnavailable."""
EncodeEvents = Callable[[PacketEvents], list[bytes]]
"""The messages of the packet-events topic. Raises ServiceUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When things are done."""

    epoch_ns: int
    flush_ns: int
    batch_bytes: int  # of the ring

    @classmethod
    def of(cls, settings: ProducerSettings, epoch_ms: int, ring: RingReader) -> "Timing":
        """From the settings; a batch never takes more than a quarter of the ring, which must go on filling."""
        return cls(
            epoch_ns=epoch_ms * _MS,
            flush_ns=settings.flush_ms * _MS,
            batch_bytes=min(settings.batch_packets, max(1, ring.size // 4 // ring.stride)) * ring.stride,
        )


class Capture:
    """One run of one node. Call `step` again and again; `finish` at the end."""

    def __init__(
        self,
        *,
        ring: RingReader,
        position: int,
        epochs: Epochs,
        clock: WallClock,
        publisher: Publisher,
        source: Source,
        encode_batch: EncodeBatch,
        encode_events: EncodeEvents | None,
        topics: TopicNames,
        timing: Timing,
        metrics: ProducerMetrics,
    ) -> None:
        """`position`: of the ring, where reading begins. `encode_events`: for the record encoding."""
        self._ring, self._epochs, self._clock, self._publisher = ring, epochs, clock, publisher
        self._source, self._topics, self._timing, self._metrics = source, topics, timing, metrics
        self._encode_batch, self._encode_events = encode_batch, encode_events
        self._start = position  # of the next batch
        self._read = position  # records before it are submitted
        self._closed: deque[ClosedEpoch] = deque()  # not yet sent
        self._first_epoch = 1  # of self._closed, or the open one
        self._sequence = 0
        self._clock_ns = 0
        self._last_batch_ns = 0
        self._waiting_since = 0  # monotonic; when the first record of the next batch was read
        self._registry_retry_at = 0
        self._released = position
        self._last_epoch_end = position
        self._finishing = False

    @property
    def ring_fill(self) -> float:
        """Part of the ring that is in use as far as we have read."""
        return (self._read - self._released) / self._ring.size

    def step(self) -> int:
        """Do what is due. Returns how many records were read."""
        self._release()
        before = self._read
        if self._publisher.has_room():
            self._read_ring()
        now = self._clock.monotonic()
        if self._epoch_is_due(now):
            self._close_epoch()
            if self._publisher.has_room():
                self._read_ring()
        if self._is_due():
            self._send(self._read)
        return (self._read - before) // self._ring.stride

    @property
    def oldest_epoch(self) -> int:
        """All events of earlier epochs have been sent."""
        return self._first_epoch

    def name_interfaces(self, names: dict[int, str]) -> None:
        """The interfaces' names by slot; before there are events of a new one."""
        self._source = replace(self._source, interfaces=tuple(names.items()))

    def finish(self) -> None:
        """The hooks are gone: close the last epoch. From now on `step` only sends what is left."""
        self._finishing = True
        self._close_epoch()

    def is_drained(self) -> bool:
        """Whether all has been handed to the publisher, after `finish`."""
        return self._finishing and not self._closed

    def _release(self) -> None:
        released = self._publisher.outbox.released
        if released != self._released:
            self._ring.release(released)
            self._released = released

    def _read_ring(self) -> None:
        """Find out how far records are submitted; send each full batch."""
        while True:
            end = self._ring.readable(self._read)
            if end == self._read:
                return
            if self._read == self._start:
                self._waiting_since = self._clock.monotonic()
            self._read = end
            while self._read - self._start >= self._timing.batch_bytes:
                if not self._publisher.has_room() or not self._send(self._start + self._timing.batch_bytes):
                    return

    def _epoch_is_due(self, now: int) -> bool:
        """Whether the open epoch is old enough; one without a single event may grow as old as a heartbeat."""
        if self._finishing or len(self._closed) >= MAX_CLOSED_EPOCHS:
            return False
        idle = not self._closed and self._read == self._last_epoch_end
        wanted = max(self._timing.epoch_ns, HEARTBEAT_NS) if idle else self._timing.epoch_ns
        return now - self._epochs.opened_ns >= wanted

    def _close_epoch(self) -> None:
        closed = self._epochs.close()
        self._metrics.count(closed.counters)
        self._closed.append(closed)
        self._last_epoch_end = closed.end_position

    def _is_due(self) -> bool:
        """Whether what has been read should be sent now, although it fills no batch."""
        if not self._publisher.has_room():
            return False
        if self._finishing:
            return self._complete() > 0
        now = self._clock.monotonic()
        if self._read > self._start:
            return now - self._waiting_since >= self._timing.flush_ns or self._complete() > 0
        if not self._complete() or self._publisher.waiting_ns() > KAFKA_AWAY_NS:
            return False
        return any(epoch.counters for epoch in self._closed) or now - self._last_batch_ns >= HEARTBEAT_NS

    def _complete(self) -> int:
        """How many closed epochs have been read to their end."""
        return sum(1 for epoch in self._closed if epoch.end_position <= self._read)

    def _send(self, end: int) -> bool:
        """Cut a batch at `end`. False: it could not be encoded now; nothing has changed."""
        now = self._clock.monotonic()
        if now < self._registry_retry_at:
            return False
        boundaries = [epoch.end_position for epoch in self._closed]
        carried = [epoch for epoch in self._closed if epoch.end_position <= end]
        clock_ns = carried[-1].clock_ns if carried else self._clock_ns
        events = build(
            Span(start=self._start, end=end, records=self._ring.span(self._start, end)),
            source=self._source,
            first_epoch=self._first_epoch,
            boundaries=boundaries,
            offset_ns=self._clock.offset_ns,
            sequence=self._sequence,
            clock_ns=clock_ns,
            counters=tuple(row for epoch in carried for row in epoch.counters),
        )
        try:
            value = self._encode_batch(events.batch)
            if len(value) > MAX_MESSAGE_BYTES and end - self._start > self._ring.stride:
                half = (end - self._start) // 2 // self._ring.stride * self._ring.stride
                return self._send(self._start + half) and self._send(end)
            messages = [Message(topic=self._topics.packets, value=value), *self._single(events)]
        except ServiceUnavailable as error:  # the schema registry
            self._registry_retry_at = now + REGISTRY_RETRY_NS
            log.warning("cannot encode; trying again", error=str(error))
            return False
        self._publisher.send(messages, ring_end=end, packets=int(events.batch.packets.sum()))
        self._metrics.events.inc(len(events.batch))
        for epoch in carried:
            self._closed.popleft()
            self._first_epoch = epoch.number + 1
        self._sequence += 1
        self._start, self._clock_ns, self._last_batch_ns, self._waiting_since = end, clock_ns, now, now
        return True

    def _single(self, events: PacketEvents) -> list[Message]:
        if self._encode_events is None or not len(events.batch):
            return []
        return [Message(topic=self._topics.packet_events, value=value) for value in self._encode_events(events)]
