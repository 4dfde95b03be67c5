"""Closing epochs in time, and what of a closed one is not sent yet. Does no I/O of its own."""

from dataclasses import dataclass

from producer.capture.epochs import ClosedEpoch, Epochs
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.metrics import ProducerMetrics

HEARTBEAT_NS = 1_000_000_000  # of a node that sees nothing
CROWDED = 0.5  # part of the flow table: the next epoch is to be shorter
FEW_ENTRIES = 1_000  # of the flow table; it takes no time to remove them
ACK_SECONDS = 0.05  # after which to look again for what Kafka says
SHORTEST_EPOCH_NS = 100_000_000


@dataclass(slots=True, kw_only=True)
class Unsent:
    """A closed epoch of which not all is sent: events, entries of its flow table, its closing."""

    epoch: ClosedEpoch
    entries_sent: int = 0

    @property
    def entries_left(self) -> int:
        """Entries of its flow table that are not sent."""
        return len(self.epoch.flows) - self.entries_sent

    def ends_with(self, position: int) -> bool:
        """Whether nothing of it is left behind a batch of the ring up to there."""
        return self.epoch.end_position <= position and not self.entries_left


class EpochCloser:
    """Closes the open epoch when it is due, and the one before is safe."""

    def __init__(
        self,
        epochs: Epochs,
        *,
        clock: WallClock,
        timing: Timing,
        metrics: ProducerMetrics,
        position: int,
        coalesced: int,
    ) -> None:
        """`position` of the ring: where reading begins. `coalesced`: entries with numbers below it are safe."""
        self._epochs, self._clock, self._timing, self._metrics = epochs, clock, timing, metrics
        self.unsent: Unsent | None = None
        self.first_epoch = epochs.number
        """Of what comes from the ring next."""
        self._last_end = position
        self._epoch_ns = timing.epoch_ns
        self._due_ns = 0  # monotonic; the open epoch is not closed before
        self._confirmed = 0
        self.finishing = False
        """No packets come any more: the open epoch is the last one."""
        self._finished = False
        if closed := epochs.inherited():
            self.unsent = Unsent(epoch=closed, entries_sent=max(0, coalesced - closed.coalesced_start))
            self.first_epoch = closed.number
            metrics.count(closed.counters)

    @property
    def entries_left(self) -> int:
        """Entries of flow tables that are not sent."""
        return self.unsent.entries_left if self.unsent else 0

    @property
    def is_drained(self) -> bool:
        """Whether the last epoch of all is closed and safe."""
        return self._finished and self._epochs.stored == self._epochs.number - 1

    def confirm(self, epoch: int) -> None:
        """All of this epoch is safe."""
        if epoch != self._confirmed:
            self._epochs.confirm(epoch)
            self._confirmed = epoch

    def finish(self) -> None:
        """Close the last epoch as soon as it may be."""
        self.finishing, self._due_ns = True, 0

    def is_due(self, now: int, read: int) -> bool:
        """Whether the open epoch has passed a full multiple of its length on the wall clock, and may be closed.

        One without a single event, the ring being read up to `read`, may grow as old as a heartbeat.
        """
        if now < self._due_ns or self.unsent is not None or self._epochs.stored != self._epochs.number - 1:
            return False
        if self.finishing:
            return not self._finished
        idle = read == self._last_end and not self._timing.only_flows
        return now >= self._end_of_epoch(max(self._epoch_ns, HEARTBEAT_NS) if idle else self._epoch_ns)

    def close(self) -> None:
        """Close the open epoch."""
        self._finished = self.finishing
        closed = self._epochs.close(last=self.finishing)
        self.unsent = Unsent(epoch=closed)
        self._metrics.count(closed.counters)
        self._metrics.coalesced_entries.inc(len(closed.flows))
        self._last_end = closed.end_position
        crowded = len(closed.flows) > CROWDED * self._timing.flow_entries
        self._epoch_ns = max(self._epoch_ns // 2, SHORTEST_EPOCH_NS) if crowded else self._timing.epoch_ns
        self._due_ns = self._end_of_epoch(self._epoch_ns)

    def sent(self) -> None:
        """All of the closed epoch is on its way."""
        self.unsent = None
        self.first_epoch += 1

    def due_in(self) -> float:
        """Seconds until there is something to do, if no packet comes."""
        due = (self._due_ns - self._clock.monotonic()) / 1e9
        if due <= 0 or self._epochs.unclean > FEW_ENTRIES:  # to be cleaned before the next epoch is due, not then
            return ACK_SECONDS
        return due

    def _end_of_epoch(self, length: int) -> int:
        """When the open epoch, of this length, ends; on the monotonic clock."""
        opened: int = self._epochs.opened_ns
        return opened + length - self._clock.wall_ns(opened) % length
