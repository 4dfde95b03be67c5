"""The names of a node that is watched: its ring of copies is read with the packets' ring, and names go with batches.

Does no I/O of its own: the ring is the kernel's, and messages go with the batch that they are taken for.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from producer.clock import WallClock
from producer.inspection.pending import Origin
from producer.inspection.reading import NameReading
from producer.kafka.encoding import Encoder
from producer.kafka.outbox import Message
from producer.kernel.ring import Copies
from schemas.packets import PacketEvents

MOST_PENDING = 16_384  # copies and rows that are kept until they are sent; what comes then waits in the ring
SEND_ABOVE = 4_096  # of them; fewer wait for the end of the epoch
KEPT_PART = 4  # of the ring, behind what is safe: whoever comes after us finds there what had no answer yet
READ_ABOVE = 0.25  # part of the ring; without a batch to send it is not read before
LONGEST_WAIT = 0.25  # seconds, in which so much may come
_FOR_EVER_NS = 1 << 62


class CopyReader(Protocol):
    """What we use of kernel.ring.CopyRing."""

    size: int

    def producer_position(self) -> int:
        """Up to here records are reserved."""

    def read(self, position: int, limit: int) -> Copies:
        """Submitted copies from `position` on that begin before `limit`; where none are left, `end` is `position`."""

    def release(self, position: int) -> None:
        """Let the kernel overwrite what lies before."""


class NameMessages(NamedTuple):
    """Messages that go in front of a batch of packets, and what is safe with it."""

    messages: tuple[Message, ...]
    position: int  # of the ring of copies: up to there all is in these messages, or earlier ones
    clock_ns: int  # what had waited too long until then, too; Unix epoch


class Inspects(Protocol):
    """Inspection, or NoInspection."""

    def named(self, events: PacketEvents) -> PacketEvents:
        """The events with names on their flows."""

    def messages(self, node: str, ring_id: int, interfaces: Mapping[int, str], *, is_last: bool) -> NameMessages:
        """What is to be sent with a batch; `is_last`: it ends an epoch. Raises ServiceUnavailable."""

    def step(self, safe: int) -> None:
        """Do what is due. `safe`: all before this position of the ring of copies is in Kafka, or on disk."""

    def finish(self) -> None:
        """No copies come any more."""

    @property
    def longest_wait(self) -> float:
        """Seconds between two steps."""

    @property
    def fault(self) -> str | None:
        """Why no names are read, a sentence; None: they are."""

    @property
    def fill(self) -> float:
        """Part of the ring that is not read."""

    @property
    def safe(self) -> tuple[int, int]:
        """What is sent: up to which position of the ring, and up to when names were waited for."""


class NoInspection:
    """Of a program that copies nothing."""

    longest_wait, fill, safe, fault = float("inf"), 0.0, (0, 0), None

    def named(self, events: PacketEvents) -> PacketEvents:
        """See Inspects."""
        return events

    def messages(self, node: str, ring_id: int, interfaces: Mapping[int, str], *, is_last: bool) -> NameMessages:
        """See Inspects."""
        return NameMessages((), 0, 0)

    def step(self, safe: int) -> None:
        """See Inspects."""

    def finish(self) -> None:
        """See Inspects."""


class Inspection:
    """See Inspects."""

    longest_wait = LONGEST_WAIT

    def __init__(
        self,
        ring: CopyReader,
        reading: NameReading,
        *,
        clock: WallClock,
        encoding: Encoder,
        start: int,
        safe: int,
        safe_ns: int,
    ) -> None:
        """Read again what is safe, for what it leaves open.

        `start`: of the ring, where what is left of it begins. `safe`: copies before that position are in Kafka, or on
        disk, and what had waited too long until `safe_ns`, Unix epoch.
        """
        self._ring, self._reading, self._clock, self._encoding = ring, reading, clock, encoding
        self._position, self._sent, self._sent_ns, self._clock_ns = start, safe, safe_ns, safe_ns
        self._ends: deque[int] = deque()  # of what was read and is not released
        self._finishing = False
        reading.again(self._copies(safe), safe_ns - clock.offset_ns)

    @property
    def safe(self) -> tuple[int, int]:
        """See Inspects."""
        return self._sent, self._sent_ns

    @property
    def fault(self) -> str | None:
        """See Inspects."""
        return self._reading.fault

    @property
    def fill(self) -> float:
        """See Inspects."""
        return (self._ring.producer_position() - self._position) / self._ring.size

    def named(self, events: PacketEvents) -> PacketEvents:
        """See Inspects."""
        self._read()
        return replace(events, batch=self._reading.named(events.batch, self._clock.offset_ns))

    def messages(self, node: str, ring_id: int, interfaces: Mapping[int, str], *, is_last: bool) -> NameMessages:
        """See Inspects."""
        pending = self._reading.pending
        messages: tuple[Message, ...] = ()
        if len(pending) > (0 if is_last else SEND_ABOVE):
            origin = Origin(
                node=node,
                ring_id=ring_id,
                interfaces=interfaces,
                offset_ns=self._clock.offset_ns,
                clock_ns=self._clock_ns,
            )
            messages = tuple(self._reading.take(origin, self._encoding.names))
        if not len(pending):
            self._sent, self._sent_ns = pending.end, self._clock_ns
        return NameMessages(messages, *self.safe)

    def step(self, safe: int) -> None:
        """See Inspects."""
        crowded = self.fill > READ_ABOVE
        if crowded:
            self._read()
        kept = 0 if crowded else self._ring.size // KEPT_PART
        end = None
        while self._ends and self._ends[0] <= min(safe, self._position - kept):
            end = self._ends.popleft()
        if end is not None:
            self._ring.release(end)

    def finish(self) -> None:
        """See Inspects."""
        self._finishing = True

    def _read(self) -> None:
        """All that there is, as long as there is room for what comes of it."""
        end = self._ring.producer_position()
        for copies in self._copies(end):
            self._reading.add(copies)
        if self._position >= end:
            now = self._clock.monotonic()
            self._reading.expire(_FOR_EVER_NS if self._finishing else now)
            self._clock_ns = self._clock.wall_ns(now)

    def _copies(self, end: int) -> Iterator[Copies]:
        """Copies up to there."""
        while self._position < end and len(self._reading.pending) < MOST_PENDING:
            found = self._ring.read(self._position, end)
            if found.end == self._position:  # the kernel is still writing the next one
                return
            self._position = found.end
            self._ends.append(found.end)
            yield found
