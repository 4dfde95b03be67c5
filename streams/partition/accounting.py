"""The open epochs: what was consumed of each so far. Pure.

An epoch is a fraction of a second in which the kernel counted on its own. When its closing record has come, all its
packets have come too, and a row of the ledger for each interface and direction says what became of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from common.recent import Recent
from schemas.batches import RingId
from schemas.flows import LedgerRow
from schemas.packets import I64, EpochCounters, PacketBatch
from streams.partition.ledger import Consumed, EpochId, Passage, add, closed_rows, unclosed_rows
from streams.windowing.windows import Share

_DIRECT = 4096  # combinations of epoch, interface and direction that are counted without sorting
MOST_GIVEN_UP = 4096  # rings that may come back

MOST_COUNTERS = 4096
"""Of a message, that are taken at once: more are taken part by part, and whoever else has work has a turn between."""


def in_parts(counters: tuple[EpochCounters, ...], most: int = MOST_COUNTERS) -> list[tuple[EpochCounters, ...]]:
    """One part or more, by epoch, each epoch as a whole."""
    if len(counters) <= most:
        return [counters]
    rows = sorted(counters, key=lambda row: row.epoch)
    cuts = [0]
    for place in range(1, len(rows)):
        if place - cuts[-1] >= most and rows[place].epoch != rows[place - 1].epoch:
            cuts.append(place)
    return [tuple(rows[begin:end]) for begin, end in pairwise([*cuts, len(rows)])]


@dataclass(slots=True)
class _Epoch:
    first_offset: int  # first message that has something of it
    end_offset: int  # behind the last one
    needed: int | None  # the first of which nothing was to be written yet; None: all was
    consumed: Consumed = field(default_factory=dict)

    @classmethod
    def at(cls, offset: int) -> "_Epoch":
        return cls(first_offset=offset, end_offset=offset + 1, needed=offset)

    def hear(self, offset: int) -> None:
        """A message that has something of it."""
        self.end_offset = offset + 1
        if self.needed is None:
            self.needed = offset


class _Ring:
    """The epochs of a ring."""

    def __init__(self) -> None:
        self.closed_up_to = -1
        self.open: dict[int, _Epoch] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEpoch:
    """An epoch whose rows are to be stored."""

    name: EpochId
    first_offset: int  # the first message that must not be acknowledged before the rows are stored
    rows: tuple[LedgerRow, ...]


class Accounts:
    """The open epochs of the nodes of one partition."""

    def __init__(self) -> None:
        self._rings: dict[RingId, _Ring] = {}
        self._given_up: Recent[RingId, _Ring] = Recent(MOST_GIVEN_UP)
        self._closed: list[ClosedEpoch] = []

    def count(self, batch: PacketBatch, shares: list[Share], offset: int, window_seconds: int) -> int:
        """Add the packets of a batch. Returns how many came after their epoch was closed."""
        ring_id = RingId(batch.node, batch.ring_id)
        ring = self._ring(ring_id)
        late = 0
        for share in shares:
            for number, passage, packets, octets in _by_epoch(batch, share):
                if number <= ring.closed_up_to:
                    late += packets
                    continue
                epoch = ring.open.setdefault(number, _Epoch.at(offset))
                epoch.hear(offset)
                add(epoch.consumed, passage, share.window, packets, octets)
        self.close(ring_id, batch.counters, offset, window_seconds)
        return late

    def _ring(self, ring_id: RingId) -> _Ring:
        """One that was given up and comes back goes on where it was."""
        ring = self._rings.get(ring_id)
        if ring is None:
            ring = self._rings[ring_id] = self._given_up.forget(ring_id) or _Ring()
        return ring

    def open_rings(self) -> list[RingId]:
        """Rings with an epoch of which something is not written."""
        return [ring_id for ring_id, ring in self._rings.items() if ring.open]

    def give_up(self, ring_id: RingId, window_seconds: int) -> list[tuple[int, int]]:
        """Nothing more comes of a ring, most likely: its open epochs are to be written as they are.

        Returns the first and the last message of each: whoever begins to read between the two could not tell what of
        the rest is written.
        """
        ring = self._rings.pop(ring_id, None)
        if ring is None:
            return []
        for number, epoch in ring.open.items():
            if epoch.needed is not None:
                self._closed.append(_unclosed(ring_id, number, epoch, window_seconds))
                epoch.needed = None
        if ring.open:
            self._given_up.use(ring_id, ring)
        return [(epoch.first_offset, epoch.end_offset - 1) for epoch in ring.open.values()]

    def close(self, ring_id: RingId, counters: tuple[EpochCounters, ...], offset: int, window_seconds: int) -> None:
        """Close the epochs of these counters, which came with a message."""
        ring = self._ring(ring_id)
        by_epoch: dict[int, dict[Passage, EpochCounters]] = {}
        for row in counters:
            if row.epoch > ring.closed_up_to:  # else it was closed already: a message that was sent again
                by_epoch.setdefault(row.epoch, {})[row.interface, row.direction, row.primary] = row
        if not by_epoch:
            return
        newest = max(by_epoch)
        for number in sorted({*by_epoch, *(n for n in ring.open if n < newest)}):
            epoch = ring.open.pop(number, None) or _Epoch.at(offset)
            if number in by_epoch:
                epoch.hear(offset)
                self._closed.append(_closed(ring_id, number, epoch, by_epoch[number], window_seconds))
            elif epoch.needed is not None:
                self._closed.append(_unclosed(ring_id, number, epoch, window_seconds))
        ring.closed_up_to = newest

    def closed(self) -> tuple[ClosedEpoch, ...]:
        """The epochs that are to be stored."""
        return tuple(self._closed)

    def stored(self, epochs: tuple[ClosedEpoch, ...]) -> None:
        """These epochs are in the ledger table."""
        done = {id(epoch) for epoch in epochs}
        self._closed = [epoch for epoch in self._closed if id(epoch) not in done]

    def needed(self, is_silent: Callable[[str], bool]) -> list[int]:
        """Offsets that may not be acknowledged yet. Open epochs of nodes that are long silent hold back nothing."""
        epochs = [
            e
            for ring_id, ring in self._rings.items()
            if ring.open and not is_silent(ring_id.node)
            for e in ring.open.values()
        ]
        needed = [epoch.needed for epoch in epochs if epoch.needed is not None]
        return [closed.first_offset for closed in self._closed] + needed

    @property
    def rings(self) -> int:
        """Rings of which something is remembered."""
        return len(self._rings) + len(self._given_up)


def _closed(
    ring: RingId, number: int, epoch: _Epoch, counters: dict[Passage, EpochCounters], window_seconds: int
) -> ClosedEpoch:
    rows = closed_rows(ring, (epoch.first_offset, epoch.end_offset), counters, epoch.consumed, window_seconds)
    return _to_store(ring, number, epoch, rows)


def _unclosed(ring: RingId, number: int, epoch: _Epoch, window_seconds: int) -> ClosedEpoch:
    rows = unclosed_rows(ring, (epoch.first_offset, epoch.end_offset), number, epoch.consumed, window_seconds)
    return _to_store(ring, number, epoch, rows)


def _to_store(ring: RingId, number: int, epoch: _Epoch, rows: tuple[LedgerRow, ...]) -> ClosedEpoch:
    assert epoch.needed is not None
    return ClosedEpoch(name=EpochId(*ring, number), first_offset=epoch.needed, rows=rows)


def _by_epoch(batch: PacketBatch, share: Share) -> list[tuple[int, Passage, int, int]]:
    """(epoch, passage, packets, bytes) of a share."""
    flows, index = batch.flows, share.rows.keys
    epoch = flows.epoch[index]
    lowest = int(epoch.min())
    passages = len(batch.interface_names) * 4
    passage = (flows.interface[index].astype(np.int64) * 2 + flows.direction[index]) * 2 + flows.primary[index]
    if (int(epoch.max()) - lowest + 1) * passages <= _DIRECT:
        code = (epoch - lowest) * passages + passage
        packets, octets = (
            _add_up(code, values, int(code.max()) + 1) for values in (share.rows.packets, share.rows.bytes)
        )
        present = np.flatnonzero(np.bincount(code))
        epochs = present // passages + lowest
        packets, octets = packets[present], octets[present]
        passage = present % passages
    else:
        columns = np.stack([epoch, passage])
        unique, inverse = np.unique(columns, axis=1, return_inverse=True)
        packets, octets = (
            _add_up(inverse.ravel(), values, unique.shape[1]) for values in (share.rows.packets, share.rows.bytes)
        )
        epochs, passage = unique
    return [
        (number, (batch.interface_names[where // 4], where // 2 % 2, bool(where % 2)), count, size)
        for number, where, count, size in zip(
            epochs.tolist(), passage.tolist(), packets.tolist(), octets.tolist(), strict=True
        )
    ]


def _add_up(code: I64, values: I64, size: int) -> I64:
    total = np.zeros(size, np.int64)
    np.add.at(total, code, values)
    return total
