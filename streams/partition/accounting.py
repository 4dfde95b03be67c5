"""The ledger: what was consumed of each epoch, beside what the kernel counted. Pure.

An epoch is a fraction of a second in which the kernel counted on its own. When its closing record has come, all its
packets have come too, and a LedgerRow for each interface and direction says what became of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from schemas.batches import RingId
from schemas.flows import LedgerRow
from schemas.packets import I64, EpochCounters, PacketBatch
from streams.windowing.windows import Share

_DIRECT = 4096  # combinations of epoch, interface and direction that are counted without sorting

_LATEST_NS = 2**32 * 1_000_000_000

Passage = tuple[str, int, bool]  # interface, direction, primary

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
    consumed: dict[Passage, dict[int, list[int]]] = field(default_factory=dict)  # window start -> packets, bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEpoch:
    """An epoch whose rows are to be stored."""

    node: str
    ring_id: int
    epoch: int
    first_offset: int  # the first message that must not be acknowledged before the rows are stored
    rows: tuple[LedgerRow, ...]


class Accounts:
    """The open epochs of the nodes of one partition."""

    def __init__(self) -> None:
        self._open: dict[RingId, dict[int, _Epoch]] = {}
        self._closed_up_to: dict[RingId, int] = {}
        self._closed: list[ClosedEpoch] = []

    def count(self, batch: PacketBatch, shares: list[Share], offset: int, window_seconds: int) -> int:
        """Add the packets of a batch. Returns how many came after their epoch was closed."""
        ring = RingId(batch.node, batch.ring_id)
        done = self._closed_up_to.get(ring, -1)
        epochs = self._open.setdefault(ring, {})
        late = 0
        for share in shares:
            for number, passage, packets, octets in _by_epoch(batch, share):
                if number <= done:
                    late += packets
                    continue
                epoch = epochs.get(number)
                if epoch is None:
                    epoch = epochs[number] = _Epoch(first_offset=offset)
                sums = epoch.consumed.setdefault(passage, {}).setdefault(share.window, [0, 0])
                sums[0] += packets
                sums[1] += octets
        self.close(ring, batch.counters, offset, window_seconds)
        return late

    def close(self, ring: RingId, counters: tuple[EpochCounters, ...], offset: int, window_seconds: int) -> None:
        """Close the epochs of these counters, which came with a message."""
        epochs = self._open.setdefault(ring, {})
        if counters:
            self._close(ring, counters, offset, window_seconds)
        if not epochs:
            del self._open[ring]

    def give_up(self, ring: RingId, window_seconds: int) -> None:
        """Nothing more comes of a ring: its open epochs will not be closed any more."""
        self._closed_up_to.pop(ring, None)
        for number, epoch in self._open.pop(ring, {}).items():
            self._closed.append(_unclosed(ring, number, epoch, window_seconds))

    def _close(self, ring: RingId, counters: tuple[EpochCounters, ...], offset: int, window_seconds: int) -> None:
        done = self._closed_up_to.get(ring, -1)
        by_epoch: dict[int, dict[Passage, EpochCounters]] = {}
        for row in counters:
            if row.epoch > done:  # else it was closed already: a message that was sent again
                by_epoch.setdefault(row.epoch, {})[row.interface, row.direction, row.primary] = row
        if not by_epoch:
            return
        newest = max(by_epoch)
        epochs = self._open[ring]
        for number in sorted({*by_epoch, *(n for n in epochs if n < newest)}):
            epoch = epochs.pop(number, None) or _Epoch(first_offset=offset)
            if number in by_epoch:
                self._closed.append(_closed(ring, number, epoch, by_epoch[number], window_seconds))
            else:
                self._closed.append(_unclosed(ring, number, epoch, window_seconds))
        self._closed_up_to[ring] = newest

    def closed(self) -> tuple[ClosedEpoch, ...]:
        """The epochs that are to be stored."""
        return tuple(self._closed)

    def stored(self, epochs: tuple[ClosedEpoch, ...]) -> None:
        """These epochs are in the ledger table."""
        done = {id(epoch) for epoch in epochs}
        self._closed = [epoch for epoch in self._closed if id(epoch) not in done]

    def needed(self, is_silent: Callable[[str], bool]) -> list[int]:
        """Offsets that may not be acknowledged yet. Open epochs of nodes that are long silent hold back nothing."""
        waiting = [closed.first_offset for closed in self._closed]
        for ring, epochs in self._open.items():
            if not is_silent(ring.node):
                waiting += [epoch.first_offset for epoch in epochs.values()]
        return waiting

    @property
    def rings(self) -> int:
        """Rings of which something is remembered."""
        return len(self._open.keys() | self._closed_up_to.keys())


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


def _closed(
    ring: RingId, number: int, epoch: _Epoch, counters: dict[Passage, EpochCounters], window_seconds: int
) -> ClosedEpoch:
    """An epoch with the kernel's counters. A passage that they lack was not counted there: its row shows it."""
    some = next(iter(counters.values()))
    rows = []
    for passage in sorted({*counters, *epoch.consumed}):
        row = counters.get(passage) or _unknown(number, passage, some.start_ns, some.end_ns)
        rows.append(_row(ring, row, epoch.consumed.get(passage, {}), window_seconds, closed=True))
    return ClosedEpoch(
        node=ring.node, ring_id=ring.ring_id, epoch=number, first_offset=epoch.first_offset, rows=tuple(rows)
    )


def _unclosed(ring: RingId, number: int, epoch: _Epoch, window_seconds: int) -> ClosedEpoch:
    """An epoch whose counters never came: the ring was given up, or the message that had them is lost."""
    rows = []
    for passage in sorted(epoch.consumed):
        windows = epoch.consumed[passage]
        start, end = min(windows) * 1_000_000_000, (max(windows) + window_seconds) * 1_000_000_000
        rows.append(_row(ring, _unknown(number, passage, start, end), windows, window_seconds, closed=False))
    return ClosedEpoch(
        node=ring.node, ring_id=ring.ring_id, epoch=number, first_offset=epoch.first_offset, rows=tuple(rows)
    )


def _row(
    ring: RingId, counters: EpochCounters, consumed: dict[int, list[int]], window_seconds: int, *, closed: bool
) -> LedgerRow:
    windows = sorted(consumed.items())
    return LedgerRow(
        node=ring.node,
        ring_id=ring.ring_id,
        counters=counters,
        closed=closed,
        window_seconds=window_seconds,
        consumed_windows=tuple(window for window, _ in windows),
        consumed_packets=tuple(sums[0] for _, sums in windows),
        consumed_bytes=tuple(sums[1] for _, sums in windows),
    )


def _unknown(epoch: int, passage: Passage, start_ns: int, end_ns: int) -> EpochCounters:
    interface, direction, primary = passage
    return EpochCounters.nothing(
        epoch=epoch, start_ns=start_ns, end_ns=end_ns, interface=interface, direction=direction, primary=primary
    )


_KERNEL = ("seen", "emitted", "coalesced", "non_ip", "malformed", "unknown_link", "ring_full")


def figures(rows: Iterable[LedgerRow]) -> Counter[str]:
    """Packets by figure: the kernel's counters, and what became of them."""
    sums: Counter[str] = Counter()
    for row in rows:
        consumed, lacking = sum(row.consumed_packets), difference(row)
        for name in _KERNEL:
            sums[name] += getattr(row.counters, f"{name}_packets")
        sums["consumed"] += consumed
        sums["missing"] += max(lacking, 0)
        sums["surplus"] += max(-lacking, 0)
        sums["unclosed"] += 0 if row.closed else consumed
    return sums


def difference(row: LedgerRow) -> int:
    """Packets that the kernel handed over, single or coalesced, and streams did not consume (negative: consumed more).

    0 for an epoch without the kernel's counters.
    """
    if not row.closed:
        return 0
    return row.counters.emitted_packets + row.counters.coalesced_packets - sum(row.consumed_packets)
