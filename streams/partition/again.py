"""Windows of one Kafka partition made again, with another length: the live app's own code over a part of the log. Pure.

What is written does not depend on when it is written: a window is closed by the fastest clock that messages told so
far, LATE_SECONDS behind it, and what comes later is flushed with one of the next boundaries, or CHUNK messages later.
So a *flush* is a function of the log and of the offset before which it is made. That offset is its name: who is killed
and reads on from the last checkpoint makes the same flushes, and the server keeps the first of a name.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from common.errors import DecodeError
from schemas.flows import FlowColumns
from schemas.packets import PacketBatch
from streams.partition.state import Partition
from streams.partition.storing import KafkaPartition, Known, WindowId, rows_of
from streams.windowing.initiators import Connections

LATE_SECONDS = 60
"""Behind the fastest clock: nodes whose clocks differ by less have each window in one revision."""
CHUNK = 4_096
"""Messages after which what came late is flushed, whatever the clocks say."""
_AHEAD_SECONDS = 300  # of the broker's clock: who is further ahead closes no windows of others
_SLOT_SECONDS = 10  # between two boundaries, or a window
_NODE_TIMEOUT_SECONDS = 10.0  # only for the state's watermark, which closes nothing here


class Span(NamedTuple):
    """Windows that start in [begin, until), seconds since the Unix epoch."""

    begin: int
    until: int


class Checkpoint(NamedTuple):
    """From where on the rest of a partition can be made."""

    offset_end: int  # name of the last flush: what lies below and is of windows up to `boundary` is stored
    boundary: int  # end of the last windows that were closed, seconds since the Unix epoch
    resume: int  # offset to read from
    clock_ns: int  # the fastest so far

    @classmethod
    def at(cls, offset: int) -> "Checkpoint":
        """Nothing is made yet."""
        return cls(offset_end=offset, boundary=0, resume=offset, clock_ns=0)


class Flush(NamedTuple):
    """Rows that are stored by one insert."""

    offset_end: int  # all of it is from below
    windows: tuple[tuple[int, FlowColumns], ...]  # revision, rows; by time

    @property
    def rows(self) -> int:
        """How many."""
        return sum(len(flows) for _, flows in self.windows)

    @property
    def packets(self) -> int:
        """In both directions."""
        return sum(int(flows.packets.sum() + flows.packets_rev.sum()) for _, flows in self.windows)


class Again:
    """One partition, from a checkpoint on."""

    def __init__(
        self,
        source: KafkaPartition,
        span: Span,
        window_seconds: int,
        start: Checkpoint,
        *,
        revisions: Mapping[int, int] | None = None,
        known: Iterable[Connections] = (),
    ) -> None:
        """`revisions`: of what the checkpoint says is stored, start of a window -> the next one.

        `known`: rows of the windows before, oldest first, from which it is learned who began connections.
        """
        self.refused = 0  # messages that streams set aside as dead letters
        self._span, self._seconds, self._start = span, window_seconds, start
        self._clock_ns, self._boundary, self._chunk = start.clock_ns, start.boundary, start.offset_end // CHUNK
        self._revisions = dict(revisions or {})
        self._state = Partition(
            source.number,
            position=start.resume,
            window_seconds=window_seconds,
            node_timeout_seconds=_NODE_TIMEOUT_SECONDS,
            topic_id=source.topic_id,
            wanted=self._wanted,
        )
        for rows in known:
            self._state.initiators.learn(rows)

    def _wanted(self, window: int, offset: int) -> bool:
        if not self._span.begin <= window < self._span.until:
            return False
        stored = offset < self._start.offset_end and window + self._seconds <= self._start.boundary
        return not stored

    def take(self, offset: int, batch: PacketBatch, stamp_ms: int) -> Flush | None:
        """Add a message that Kafka took at `stamp_ms` -> what is to be written before it.

        One that cannot be right is left out, as streams leaves it out.
        """
        told_ns = batch.clock_ns or (batch.base_ns + int(batch.time_offset_ns.max()) if len(batch) else 0)
        self._clock_ns = max(self._clock_ns, min(told_ns, stamp_ms * 1_000_000 + _AHEAD_SECONDS * 1_000_000_000))
        slot = max(_SLOT_SECONDS, self._seconds)
        if offset < self._start.offset_end:  # its flushes are stored
            boundary, chunk = self._boundary, self._chunk
        else:
            chunk = offset // CHUNK
            boundary = max(self._boundary, (self._clock_ns // 1_000_000_000 - LATE_SECONDS) // slot * slot)
        flush = None
        if boundary > self._boundary or chunk != self._chunk:
            self._boundary, self._chunk = boundary, chunk
            flush = self._flush(offset, boundary)
        try:
            self._state.take(offset, batch, stamp_ms / 1e3)
        except DecodeError:
            self.skip(offset)
        for window in self._state.windows.compactable():
            self._state.windows.compact(window, alone=True)
        return flush

    def skip(self, offset: int) -> None:
        """A message that is no PacketBatch."""
        self.refused += 1
        self._state.skip(offset)

    def rest(self, offset_end: int) -> Flush:
        """All that is left, when everything below an offset was taken."""
        self._boundary = max(self._boundary, self._span.until)
        return self._flush(offset_end, self._boundary)

    def checkpoint(self, offset_end: int, stamp_ms: int) -> Checkpoint:
        """After the flush of this name is stored."""
        state = self._state
        state.accounts.stored(state.accounts.closed())  # the ledger has them
        state.losses.written(state.losses.waiting())
        return Checkpoint(
            offset_end=offset_end,
            boundary=self._boundary,
            resume=min(state.committable(stamp_ms / 1e3), offset_end),
            clock_ns=self._clock_ns,
        )

    def _flush(self, offset_end: int, boundary: int) -> Flush:
        made = []
        for window in self._state.windows:
            if window.start + window.seconds > boundary:
                break
            if flows := self._rows(window, offset_end):
                made.append(flows)
        return Flush(offset_end, tuple(made))

    def _rows(self, window: WindowId, offset_end: int) -> tuple[int, FlowColumns] | None:
        job = self._state.begin(window)
        if job is None:
            return None
        flows = rows_of(job, Known(0, 0))
        revision = self._revisions.get(window.start, 0)
        self._revisions[window.start] = revision + 1
        self._state.stored(job, Known(revision + 1, offset_end))
        return None if flows is None else (revision, flows)
