"""All that is known of one Kafka partition between its consumer and the flows table. Pure; no I/O, no clock of its own.

take() adds a message, take_more() what was too much of it for one turn; due() says which windows are to be written; the
caller runs storing.store_window on the jobs and hands the outcome to stored(); committable() says how far offsets may
be acknowledged.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from schemas.batches import Extent, RingId, check
from schemas.flows import Loss
from schemas.packets import EpochCounters, PacketBatch
from streams.partition.accounting import Accounts, ClosedEpoch, in_parts
from streams.partition.losses import Losses
from streams.partition.open_windows import OpenWindows
from streams.partition.progress import committable
from streams.partition.rings import Rings, Shared, Verdict
from streams.partition.steady import Steady
from streams.partition.storing import KafkaPartition, Known, WindowId, WindowJob
from streams.partition.watermark import Watermark
from streams.windowing.initiators import Initiators
from streams.windowing.keys import Names, pack
from streams.windowing.naming import Naming
from streams.windowing.rows import Rows
from streams.windowing.tunnels import Tunnels
from streams.windowing.windows import Share, split

LEDGER_DELAY = 0.5  # seconds that closed epochs wait for more


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a message brought; for the live view and the metrics."""

    window_seconds: int  # length of the windows of these shares
    begin: int  # entries before this one have been seen already
    shares: list[Share]
    rows: list[Rows]  # those of the shares, with packed keys
    packets: int  # new ones
    bytes: int
    duplicates: int  # packets seen before, dropped
    late: int  # packets of windows that were written already
    after_epoch: int  # packets that came after their epoch was closed
    coalesced: int  # of the new packets, those that the kernel had added up
    gap_bytes: int  # bytes of the node's ring that never came
    gap_events: int | None  # events in them; None: not known
    gap_entries: int  # coalesced entries that never came
    counters: tuple[EpochCounters, ...]  # those of its epochs; more of them come by take_more


class _Part(NamedTuple):
    """Counters that came with a message and are not taken yet."""

    offset: int
    ring: RingId
    counters: tuple[EpochCounters, ...]


class Partition:
    """The state of one partition, from `position` on."""

    def __init__(
        self,
        number: int,
        *,
        position: int,
        window_seconds: int,
        node_timeout_seconds: float,
        topic_id: int = 0,
        wanted: Callable[[int, int], bool] | None = None,
    ) -> None:
        """`wanted`: whether what the message at an offset brings to the window that starts then is kept; None: all."""
        self.number = number
        self._wanted = wanted
        self.topic_id = topic_id  # see storing.KafkaPartition
        self.position = position  # the next offset to be consumed
        self.acked = position  # everything below is acknowledged
        self.names, self.interfaces, self.tunnels = Names[str](), Names[str](), Tunnels()
        self.naming = Naming()
        self.initiators = Initiators()
        self._seconds = window_seconds
        self._earlier: tuple[int, int] | None = None
        self._rings = Rings()
        self.accounts = Accounts()
        self.watermark = Watermark(timeout_seconds=node_timeout_seconds, window_seconds=window_seconds)
        self.windows = OpenWindows()
        self._steady = Steady()
        self._ledger_since: float | None = None
        self._more: deque[_Part] = deque()  # of the message that was taken last
        self.losses = Losses("messages")

    def window_seconds_before(self, seconds: int, offset: int) -> None:
        """Messages below `offset` were windowed with another length by our predecessor: so they are again."""
        self._earlier = (seconds, offset)

    def take(self, offset: int, batch: PacketBatch, now: float) -> Taken:
        """Add a message. Raises DecodeError, with nothing changed, when it cannot be right.

        Where it has very many counters, only the first are taken: see take_more.
        """
        assert offset >= self.position, "offsets only go up; after a rebalance a new Partition begins"
        latest_ns = check(batch)
        while self._more:
            self.take_more(now)
        wall, now = now, self._steady.time(now)
        verdict = self._rings.judge(Extent.of(batch), offset, now)
        self.position = offset + 1
        seconds = self._length_at(offset)
        self._note_gaps(batch, verdict, offset, wall)
        self._give_up_rings(now)
        ring = RingId(batch.node, batch.ring_id)
        counters, *others = in_parts(batch.counters)
        if others:
            self._more.extend(_Part(offset, ring, each) for each in others)
            batch = replace(batch, counters=counters)
        self.watermark.hear(ring, batch.clock_ns, latest_ns, now, wall)
        shares = split(batch, seconds, verdict.begin)
        if self._wanted:
            shares = [share for share in shares if self._wanted(share.window, offset)]
        late, rows = 0, list[Rows]()
        if shares:
            numbers = np.array([self.interfaces.number(name) for name in batch.interface_names], np.int32)
            node, tunnels = self.names.number(batch.node), self.tunnels.numbers(batch.flows)
            keys = pack(batch.flows, node=node, interfaces=numbers, tunnels=tunnels)
            about = self.naming.numbers(batch)
            rows = [share.rows.packed(keys, about) for share in shares]
            for share, packed in zip(shares, rows, strict=True):
                window_id = WindowId(share.window, seconds)
                late += self.windows.add(window_id, offset, packed, now, self.watermark.value)
            self._forget_names()
        after_epoch = self.accounts.count(batch, shares, offset, seconds)
        self._note_closed(now)
        self._end(ring, counters)
        packets = sum(int(share.rows.packets.sum()) for share in shares)
        return Taken(
            window_seconds=seconds,
            begin=verdict.begin,
            shares=shares,
            rows=rows,
            packets=packets,
            bytes=sum(int(share.rows.bytes.sum()) for share in shares),
            late=late,
            after_epoch=after_epoch,
            duplicates=int(batch.packets[: verdict.begin].sum()),
            coalesced=packets if batch.coalesced else 0,
            gap_bytes=verdict.gap_bytes,
            gap_events=verdict.gap_events,
            gap_entries=verdict.gap_entries,
            counters=counters,
        )

    @property
    def has_more(self) -> bool:
        """Whether something of the message that was taken last is not taken yet; it is not acknowledged before."""
        return bool(self._more)

    def take_more(self, now: float) -> tuple[EpochCounters, ...]:
        """Take some more counters of it -> these. Those that are left are taken before the next message."""
        offset, ring, counters = self._more.popleft()
        self.accounts.close(ring, counters, offset, self._length_at(offset))
        self._note_closed(self._steady.time(now))
        self._end(ring, counters)
        return counters

    def _end(self, ring: RingId, counters: tuple[EpochCounters, ...]) -> None:
        if any(row.ended for row in counters):
            self._rings.ended(ring)
            self.watermark.leave(ring)

    def _note_gaps(self, batch: PacketBatch, verdict: Verdict, offset: int, wall: float) -> None:
        now_ns = int(wall * 1e9)
        time_ns = min(batch.clock_ns or batch.base_ns or now_ns, now_ns)  # or nobody would ask for it for a year
        for kind, end, gap, lost in (
            ("events", batch.ring_start, verdict.gap_bytes, verdict.gap_events),
            ("entries", batch.coalesced_start, verdict.gap_entries, verdict.gap_entries),
        ):
            if gap:
                loss = Loss(
                    time_ns=time_ns,
                    kind=kind,
                    node=batch.node,
                    ring_id=batch.ring_id,
                    start=end - gap,
                    end=end,
                    lost=lost,
                )
                self.losses.note(loss, offset if verdict.anchor is None else verdict.anchor)
        if batch.idle_end_ns:
            loss = Loss(
                time_ns=time_ns,
                kind="idle",
                node=batch.node,
                ring_id=batch.ring_id,
                start=batch.idle_start_ns,
                end=batch.idle_end_ns,
                lost=None,
            )
            self.losses.note(loss, offset)

    def skip(self, offset: int) -> None:
        """A message that is no PacketBatch was read, and set aside."""
        self.position = max(self.position, offset + 1)

    def _forget_names(self) -> None:
        """Where there are many, all but those of open windows, of which some may be being written."""
        for member, names in (("node", self.names), ("interface", self.interfaces), ("tunnel", self.tunnels)):
            if names.crowded:
                rows = [piece.rows.keys[member] for piece in self.windows.pieces()]
                names.keep(np.concatenate([np.zeros(0, np.uint32), *rows]))
        if self.naming.crowded:
            pieces = [piece.rows for piece in self.windows.pieces()]
            nothing = np.zeros(0, np.uint64)
            self.naming.keep(
                *(np.concatenate([nothing, *(getattr(rows, name) for rows in pieces)]) for name in ("domain", "hello"))
            )

    def _give_up_rings(self, now: float) -> None:
        self._give_up(self._rings.replaced(now))
        self._note_closed(now)

    def _give_up(self, rings: list[RingId]) -> None:
        for ring in rings:
            for first, last in self.accounts.give_up(ring, self._seconds):
                self._rings.tie(first, last)

    def _note_closed(self, now: float) -> None:
        if self._ledger_since is None and self.accounts.closed():
            self._ledger_since = now

    def shared_names(self, now: float) -> list[Shared]:
        """Node names by which several producers call themselves now."""
        return self._rings.shared(self._steady.time(now))

    def _length_at(self, offset: int) -> int:
        if self._earlier and offset < self._earlier[1]:
            return self._earlier[0]
        return self._seconds

    @property
    def source(self) -> KafkaPartition:
        """Where its offsets are from."""
        return KafkaPartition(self.topic_id, self.number)

    def due(self, now: float) -> list[WindowJob]:
        """The windows to be written now, oldest first. A window is busy until stored() or failed() is called for it."""
        wall, now = now, self._steady.time(now)
        watermark = self.watermark.advance(now, wall, self._seconds)
        found = self.windows.due(
            now,
            watermark,
            position=self.position,
            # longer than the slowest clock that counts takes: a node that is ahead would keep them open till our clock
            # is there
            patience=self.watermark.laggard_seconds,
            other_bytes=self.naming.nbytes,
        )
        return [self._job(window_id) for window_id in found]

    def begin(self, window_id: WindowId) -> WindowJob | None:
        """A window before its time; None when it has nothing or is busy. Then as with due()."""
        return self._job(window_id) if self.windows.can_begin(window_id) else None

    def _job(self, window_id: WindowId) -> WindowJob:
        pieces, known = self.windows.begin(window_id)
        return WindowJob(
            partition=self.source,
            window=window_id,
            offset_end=self.position,
            pieces=pieces,
            node_names=self.names.all(),
            interface_names=self.interfaces.all(),
            tunnels=self.tunnels.table(),
            naming=self.naming.table(),
            initiators=self.initiators,
            known=known,
        )

    def stored(self, job: WindowJob, known: Known) -> None:
        """A job is done: what lies below `known.offset_end` is in the table. Raises StraddlesOffset, see storing."""
        self.windows.stored(job.window, known)

    def failed(self, job: WindowJob) -> None:
        """A job was given up; its window is written again later."""
        self.windows.failed(job.window)

    def closed_epochs(self, now: float) -> tuple[ClosedEpoch, ...]:
        """The epochs to be written to the ledger now."""
        now = self._steady.time(now)
        self._give_up([ring for ring in self.accounts.open_rings() if self._rings.is_gone(ring.node, now)])
        self._give_up_rings(now)
        if self._ledger_since is None or now - self._ledger_since < LEDGER_DELAY:
            return ()
        return self.accounts.closed()

    def epochs_stored(self, epochs: tuple[ClosedEpoch, ...], now: float) -> None:
        """These epochs are in the ledger."""
        self.accounts.stored(epochs)
        self._ledger_since = self._steady.time(now) if self.accounts.closed() else None

    def committable(self, now: float, unpublished: Sequence[int] = ()) -> int:
        """The offset from which a successor must read; never goes back.

        `unpublished`: offsets of messages of which something is stored and not sent yet.
        """
        now = self._steady.time(now)
        needed = [*unpublished, *self._not_stored(), *self._taking(), *self._rings.anchors(now)]
        needed += self.accounts.needed(lambda node: self._rings.is_silent(node, now))
        self.acked = max(self.acked, committable(self.position, needed, self._rings.spans()))
        self._rings.forget_below(self.acked)
        return self.acked

    @property
    def stored_until(self) -> int:
        """Everything of the messages below this offset is stored, though they may not be acknowledged yet."""
        needed = [*self._not_stored(), *self._taking(), *(epoch.first_offset for epoch in self.accounts.closed())]
        return min(needed, default=self.position)

    def _taking(self) -> list[int]:
        """The offset of a message of which only a part was taken."""
        return [self._more[0].offset] if self._more else []

    def _not_stored(self) -> list[int]:
        """Offsets of messages of which windows or losses are not in the table."""
        return self.windows.needed + self.losses.needed

    @property
    def nbytes(self) -> int:
        """Memory of the open windows."""
        return self.windows.nbytes + self.naming.nbytes
