"""Cutting the ring into batches. Does no I/O of its own."""

from typing import Protocol

from common.errors import ServiceUnavailable
from producer.capture.batch import Span, build
from producer.capture.closer import EpochCloser
from producer.capture.sender import Sender
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.kafka.encoding import send_divided
from producer.kernel.abi import Records

KAFKA_AWAY_NS = 2_000_000_000  # a batch that waits longer: nothing is sent only to say that we live


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


class RingCutter:
    """Reads a ring, and sends what it has read in batches: full ones at once, others when they are due.

    released <= start <= read, positions of the ring: what lies before them is safe, sent, submitted by the kernel.
    """

    def __init__(
        self, ring: RingReader, *, position: int, closer: EpochCloser, sender: Sender, clock: WallClock, timing: Timing
    ) -> None:
        """`position`: where reading begins."""
        self._ring, self._closer, self._sender, self._clock, self._timing = ring, closer, sender, clock, timing
        self.released = self.start = self.read = position
        self._waiting_since = 0  # monotonic; the first record of the next batch is not older
        self._looked_ns = clock.monotonic()  # at the ring, the last time
        ring.release(position)

    @property
    def fill(self) -> float:
        """Part of the ring that is in use."""
        return (self._ring.producer_position() - self.released) / self._ring.size

    def release(self, position: int) -> None:
        """What lies before `position` is safe."""
        if position != self.released:
            self._ring.release(position)
            self.released = position

    def cut(self, now: int) -> None:
        """Find out how far records are submitted, and send each full batch, as long as there is room."""
        if self._sender.has_room():
            self._cut_full()
            self._looked_ns = now

    def flush(self, waiting_ns: int) -> None:
        """Send what is left, if it is due. `waiting_ns`: how long Kafka has not acknowledged the oldest batch."""
        if self._sender.has_room() and self._is_due(waiting_ns):
            self._send(self.read)

    def _cut_full(self) -> None:
        size = self._timing.batch_bytes
        while (end := self._ring.readable(self.read)) != self.read:
            if self.read == self.start:
                self._waiting_since = self._looked_ns
            self.read = end
            while self.read - self.start >= size:
                if not self._sender.has_room() or not self._send(self.start + size):
                    return

    def _is_due(self, waiting_ns: int) -> bool:
        unsent, has_events = self._closer.unsent, self.read > self.start
        complete = unsent is not None and unsent.epoch.end_position <= self.read
        if self._closer.finishing and complete:
            return has_events or not self._closer.entries_left
        if has_events:
            return complete or self._clock.monotonic() - self._waiting_since >= self._timing.flush_ns
        return complete and not self._closer.entries_left and waiting_ns <= KAFKA_AWAY_NS

    def _send(self, end: int) -> bool:
        """Send a batch that ends there, or several. False: not all could be encoded now; the rest stays."""
        start, stride = self.start, self._ring.stride
        count = (end - start) // stride
        try:
            send_divided(count, lambda _, part_end: self._send_part(start + part_end * stride))
        except ServiceUnavailable:
            return False
        return True

    def _send_part(self, end: int) -> bool:
        """Send one batch. False: it is too large."""
        unsent, sender = self._closer.unsent, self._sender
        closed = unsent.epoch if unsent is not None and unsent.ends_with(end) else None
        events = build(
            Span(start=self.start, end=end, records=self._ring.span(self.start, end)),
            source=sender.source,
            first_epoch=self._closer.first_epoch,
            boundaries=[unsent.epoch.end_position] if unsent else [],
            offset_ns=self._clock.offset_ns,
            sequence=sender.sequence,
            clock_ns=closed.clock_ns if closed else sender.clock_ns,
            counters=closed.counters if closed else (),
            idle_ns=closed.idle_ns if closed else (0, 0),
            coalesced=sender.coalesced,
        )
        if not sender.send(events, closes=closed.number if closed else None):
            return False
        if end > self.start:
            self._waiting_since = self._clock.monotonic()
        self.start = end
        if closed:
            self._closer.sent()
        return True
