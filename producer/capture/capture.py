"""From the ring to batches: when an epoch is closed, when a batch is cut, what it carries. Does no I/O of its own."""

from dataclasses import dataclass, replace
from typing import Protocol

from common.errors import ServiceUnavailable
from common.settings import CaptureSettings, ProducerSettings
from producer.capture.batch import Source, Span, build, build_coalesced
from producer.capture.detail import Detail, KernelSwitches
from producer.capture.epochs import ClosedEpoch, Epochs
from producer.clock import WallClock
from producer.kafka.encoding import Encoding
from producer.kafka.outbox import Batch, Message
from producer.kafka.publisher import Publisher
from producer.kernel.abi import Records
from producer.metrics import ProducerMetrics
from schemas.packets import PacketEvents

HEARTBEAT_NS = 1_000_000_000  # of a node that sees nothing
KAFKA_AWAY_NS = 2_000_000_000  # a batch that waits longer: nothing is sent only to say that we live
CROWDED = 0.5  # part of the flow table: the next epoch is to be shorter
FEW_ENTRIES = 1_000  # of the flow table; it takes no time to remove them
ACK_SECONDS = 0.05  # after which to look again for what Kafka says
SHORTEST_EPOCH_NS = 100_000_000
ONLY_FLOWS_EPOCH_NS = 1_000_000_000  # an entry of the flow table is of one second: shorter epochs would divide it
_MS = 1_000_000


class RingReader(Protocol):
    """What we use of ring.Ring."""

    size: int
    stride: int  # octets of a record

    def producer_position(self) -> int:
        """Up to here records are reserved."""

    def readable(self, position: int) -> int:
        """End of the submitted records from `position` on."""

    def span(self, start: int, end: int) -> Records:
        """The records between two positions."""

    def release(self, position: int) -> None:
        """Let the kernel overwrite what lies before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When things are done."""

    epoch_ns: int
    flush_ns: int
    batch_bytes: int  # of the ring
    batch_entries: int  # of the flow table
    flow_entries: int  # that the kernel's flow table has room for
    only_flows: bool = False  # capture.detail: flow

    @classmethod
    def of(cls, settings: ProducerSettings, capture: CaptureSettings, ring: RingReader) -> "Timing":
        """From the settings; a batch never takes more than a quarter of the ring, which must go on filling."""
        return cls(
            epoch_ns=max(capture.epoch_ms * _MS, ONLY_FLOWS_EPOCH_NS if capture.detail == "flow" else 0),
            flush_ns=settings.flush_ms * _MS,
            batch_bytes=min(settings.batch_packets, max(1, ring.size // 4 // ring.stride)) * ring.stride,
            batch_entries=settings.batch_packets,
            flow_entries=capture.flow_entries,
            only_flows=capture.detail == "flow",
        )


class Capture:
    """One run of one ring. Call `step` again and again; `finish` at the end."""

    def __init__(
        self,
        *,
        ring: RingReader,
        position: int,
        coalesced: int = 0,
        epochs: Epochs,
        clock: WallClock,
        publisher: Publisher,
        source: Source,
        switches: KernelSwitches,
        encoding: Encoding,
        timing: Timing,
        metrics: ProducerMetrics,
    ) -> None:
        """`position`: of the ring, where reading begins. `coalesced`: entries of flow tables below it are safe."""
        self._ring, self._epochs, self._clock, self._publisher = ring, epochs, clock, publisher
        self._source, self._encoding, self._timing, self._metrics = source, encoding, timing, metrics
        self._start = position  # of the next batch
        self._read = position  # records before it are submitted
        self._closed = epochs.inherited()  # closed, but not all of it is sent
        start = self._closed.coalesced_start if self._closed else coalesced
        self._entries_sent = max(0, coalesced - start)  # of its flow table
        self._first_epoch = self._closed.number if self._closed else epochs.number  # of what comes from the ring next
        self._coalesced_end = coalesced
        self._sequence = 0
        self._clock_ns = 0
        self._waiting_since = 0  # monotonic; the first record of the next batch is not older
        self._looked_ns = clock.monotonic()  # at the ring, the last time
        self._released = position
        self._last_epoch_end = position
        self._epoch_ns = timing.epoch_ns
        self._due_ns = 0  # monotonic; the open epoch is not closed before
        self._confirmed = 0
        self._finishing = self._finished = False
        ring.release(position)
        self.detail = Detail(switches, clock, only_flows=timing.only_flows)
        if self._closed:
            metrics.count(self._closed.counters)

    @property
    def position(self) -> int:
        """Of the ring: what lies before it is safe."""
        return self._released

    @property
    def ring_fill(self) -> float:
        """Part of the ring that is in use."""
        return (self._ring.producer_position() - self._released) / self._ring.size

    def step(self) -> int:
        """Do what is due. Returns how many records were read."""
        now = self._clock.monotonic()
        self.detail.live(now)
        self._release()
        self.detail.choose(now, self.ring_fill)
        before = self._read
        if self._publisher.has_room():
            self._read_ring()
            self._looked_ns = now
        if now >= self._due_ns and self._epoch_is_due(now):
            self._close_epoch()
            if self._publisher.has_room():
                self._read_ring()
        if self._is_due():
            self._send(self._read)
        self._send_entries()
        return (self._read - before) // self._ring.stride

    def patience(self, longest: float) -> float:
        """Seconds until `step` has something to do: `longest` when a packet may come at any time."""
        if not self._timing.only_flows or self._read != self._released or self._entries_left():
            return longest
        due = (self._due_ns - self._clock.monotonic()) / 1e9
        if due <= 0 or self._epochs.unclean > FEW_ENTRIES:  # to be cleaned before the next epoch is due, not then
            return ACK_SECONDS
        return due

    def name_interfaces(self, names: dict[int, str]) -> None:
        """The interfaces' names by slot; before there are events of a new one."""
        self._source = replace(self._source, interfaces=tuple(names.items()))

    def finish(self) -> None:
        """The hooks are gone: close the last epoch as soon as it may be. From now on `step` only sends what is left."""
        self._finishing, self._due_ns = True, 0

    def is_drained(self) -> bool:
        """Whether all is safe, after `finish`."""
        return self._finished and self._epochs.stored == self._epochs.number - 1

    def _release(self) -> None:
        outbox = self._publisher.outbox
        if outbox.released != self._released:
            self._ring.release(outbox.released)
            self._released = outbox.released
        if outbox.epoch != self._confirmed:
            self._epochs.confirm(outbox.epoch)
            self._confirmed = outbox.epoch

    def _read_ring(self) -> None:
        """Find out how far records are submitted; send each full batch."""
        while True:
            end = self._ring.readable(self._read)
            if end == self._read:
                return
            if self._read == self._start:
                self._waiting_since = self._looked_ns
            self._read = end
            while self._read - self._start >= self._timing.batch_bytes:
                if not self._publisher.has_room() or not self._send(self._start + self._timing.batch_bytes):
                    return

    def _epoch_is_due(self, now: int) -> bool:
        """Whether the open epoch has passed a full multiple of its length on the wall clock, and may be closed.

        One without a single event may grow as old as a heartbeat.
        """
        if self._closed is not None or self._epochs.stored != self._epochs.number - 1:
            return False
        if self._finishing:
            return not self._finished
        idle = self._read == self._last_epoch_end and not self._timing.only_flows
        return now >= self._end_of_epoch(max(self._epoch_ns, HEARTBEAT_NS) if idle else self._epoch_ns)

    def _end_of_epoch(self, length: int) -> int:
        """When the open epoch, of this length, ends; on the monotonic clock."""
        opened: int = self._epochs.opened_ns
        return opened + length - self._clock.wall_ns(opened) % length

    def _close_epoch(self) -> None:
        self._finished = self._finishing
        closed = self._closed = self._epochs.close()
        self._entries_sent = 0
        self._metrics.count(closed.counters)
        self._metrics.coalesced_entries.inc(len(closed.flows))
        self._last_epoch_end = closed.end_position
        crowded = len(closed.flows) > CROWDED * self._timing.flow_entries
        self._epoch_ns = max(self._epoch_ns // 2, SHORTEST_EPOCH_NS) if crowded else self._timing.epoch_ns
        self._due_ns = self._end_of_epoch(self._epoch_ns)

    def _is_due(self) -> bool:
        """Whether what has been read should be sent now, although it fills no batch."""
        if not self._publisher.has_room():
            return False
        complete = self._closed is not None and self._closed.end_position <= self._read
        if self._finishing and complete:
            return self._read > self._start or not self._entries_left()
        now = self._clock.monotonic()
        if self._read > self._start:
            return now - self._waiting_since >= self._timing.flush_ns or complete
        return complete and not self._entries_left() and self._publisher.waiting_ns() <= KAFKA_AWAY_NS

    def _entries_left(self) -> int:
        """Entries of the closed epoch's flow table that are not sent."""
        return len(self._closed.flows) - self._entries_sent if self._closed else 0

    def _send(self, end: int) -> bool:
        """Cut a batch of the ring at `end`. False: it could not be encoded now; nothing has changed."""
        closed = self._closed
        complete = closed is not None and closed.end_position <= end and not self._entries_left()
        events = build(
            Span(start=self._start, end=end, records=self._ring.span(self._start, end)),
            source=self._source,
            first_epoch=self._first_epoch,
            boundaries=[closed.end_position] if closed else [],
            offset_ns=self._clock.offset_ns,
            sequence=self._sequence,
            clock_ns=closed.clock_ns if closed and complete else self._clock_ns,
            counters=closed.counters if closed and complete else (),
            coalesced=self._coalesced_end,
        )
        try:
            messages = self._encoding.messages(events)
        except ServiceUnavailable:
            return False
        if messages is None:
            half = (end - self._start) // 2 // self._ring.stride * self._ring.stride
            return self._send(self._start + half) and self._send(end)
        if end > self._start:
            self._waiting_since = self._clock.monotonic()
        self._start = end
        self._hand_over(messages, events, closed if complete else None)
        return True

    def _send_entries(self) -> None:
        """The flow table of the closed epoch, once all its events have been sent."""
        size = self._timing.batch_entries
        while (
            (closed := self._closed) is not None
            and self._entries_left()
            and self._start >= closed.end_position
            and self._publisher.has_room()
        ):
            begin = self._entries_sent
            end = min(begin + size, len(closed.flows))
            last = end == len(closed.flows)
            events = build_coalesced(
                closed.flows[begin:end],
                start=closed.coalesced_start + begin,
                source=self._source,
                epoch=closed.number,
                ring_position=self._start,
                offset_ns=self._clock.offset_ns,
                sequence=self._sequence,
                clock_ns=closed.clock_ns if last else self._clock_ns,
                counters=closed.counters if last else (),
            )
            try:
                messages = self._encoding.messages(events)
            except ServiceUnavailable:
                return
            if messages is None:
                size = (end - begin) // 2
                continue
            self._entries_sent = end
            self._hand_over(messages, events, closed if last else None)

    def _hand_over(self, messages: list[Message], events: PacketEvents, closed: ClosedEpoch | None) -> None:
        """Give a batch to the publisher. `closed`: the epoch whose closing it carries."""
        batch = events.batch
        self._coalesced_end = max(self._coalesced_end, batch.coalesced_end)
        self._publisher.send(
            Batch(
                ring_id=batch.ring_id,
                ring_end=self._start,
                coalesced_end=self._coalesced_end,
                epoch=closed.number if closed else 0,
                packets=int(batch.packets.sum()),
                messages=tuple(messages),
            )
        )
        self._metrics.events.inc(len(batch))
        self._metrics.message_bytes.inc(sum(len(message.value) for message in messages))
        self._sequence += 1
        self._clock_ns = batch.clock_ns
        if closed:
            self._closed = None
            self._first_epoch = closed.number + 1
