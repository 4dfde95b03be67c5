"""Rows of the ledger: what was consumed of an epoch beside what the kernel counted, and what is there already. Pure.

An epoch is written once, when its counters have come. One that was given up is written without them, and its ring may
come back after all: two producers have one name, or a node was away for long. So a row says from which message to which
it goes, as rows of flows do. What comes later replaces it when it goes from the same message on, and else is added.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.batches import RingId
from schemas.flows import LedgerRow
from schemas.packets import EpochCounters

Passage = tuple[str, int, bool]  # interface, direction, primary

Consumed = dict[Passage, dict[int, list[int]]]  # window start -> packets, bytes


def add(consumed: Consumed, passage: Passage, window: int, packets: int, octets: int) -> None:
    """Some more of a window."""
    sums = consumed.setdefault(passage, {}).setdefault(window, [0, 0])
    sums[0] += packets
    sums[1] += octets


class EpochId(NamedTuple):
    """An epoch that nobody else has."""

    node: str
    ring_id: int
    epoch: int


def closed_rows(
    ring: RingId, offsets: tuple[int, int], counters: Mapping[Passage, EpochCounters], consumed: Consumed, seconds: int
) -> tuple[LedgerRow, ...]:
    """Rows of an epoch with the kernel's counters. A passage that they lack was not counted there: its row shows it.

    `offsets`: of the first message that has something of it, and behind the last. `seconds`: length of the windows.
    """
    some = next(iter(counters.values()))
    return tuple(
        _row(
            ring,
            offsets,
            counters.get(passage) or _unknown(some.epoch, passage, some.start_ns, some.end_ns),
            consumed.get(passage, {}),
            seconds,
            closed=True,
        )
        for passage in sorted({*counters, *consumed})
    )


def unclosed_rows(
    ring: RingId, offsets: tuple[int, int], epoch: int, consumed: Consumed, seconds: int
) -> tuple[LedgerRow, ...]:
    """Likewise, without: the ring was given up, or their message is lost. The times are those of windows."""
    rows = []
    for passage, windows in sorted(consumed.items()):
        start_ns, end_ns = min(windows) * 1_000_000_000, (max(windows) + seconds) * 1_000_000_000
        counters = _unknown(epoch, passage, start_ns, end_ns)
        rows.append(_row(ring, offsets, counters, windows, seconds, closed=False))
    return tuple(rows)


def _row(
    ring: RingId,
    offsets: tuple[int, int],
    counters: EpochCounters,
    consumed: Mapping[int, Sequence[int]],
    seconds: int,
    *,
    closed: bool,
) -> LedgerRow:
    windows = sorted(consumed.items())
    return LedgerRow(
        node=ring.node,
        ring_id=ring.ring_id,
        counters=counters,
        closed=closed,
        window_seconds=seconds,
        consumed_windows=tuple(window for window, _ in windows),
        consumed_packets=tuple(sums[0] for _, sums in windows),
        consumed_bytes=tuple(sums[1] for _, sums in windows),
        kafka_offset_start=offsets[0],
        kafka_offset_end=offsets[1],
    )


def _unknown(epoch: int, passage: Passage, start_ns: int, end_ns: int) -> EpochCounters:
    interface, direction, primary = passage
    return EpochCounters.nothing(
        epoch=epoch, start_ns=start_ns, end_ns=end_ns, interface=interface, direction=direction, primary=primary
    )


def to_write(ours: Sequence[LedgerRow], there: Sequence[LedgerRow] | None) -> tuple[LedgerRow, ...]:
    """What is to be written of an epoch of which these rows were made.

    `there`: what the ledger has of it; None: nothing, empty: all, since it was written with the kernel's counters.
    """
    if there is None:
        return tuple(ours)
    if not there:
        return ()
    mine, theirs = ours[0], there[0]
    if mine.kafka_offset_start <= theirs.kafka_offset_start:  # we read all of it
        return tuple(ours) if mine.kafka_offset_end > theirs.kafka_offset_end else ()
    if mine.kafka_offset_start >= theirs.kafka_offset_end and mine.window_seconds == theirs.window_seconds:
        return _added(ours, there)
    return ()  # nobody can tell what of ours is in there


def _added(ours: Sequence[LedgerRow], there: Sequence[LedgerRow]) -> tuple[LedgerRow, ...]:
    """One epoch, of which the first messages are in the one, and those behind in the other."""
    ring, closed = RingId(ours[0].node, ours[0].ring_id), ours[0].closed
    offsets = there[0].kafka_offset_start, ours[0].kafka_offset_end
    consumed: Consumed = {}
    for row in (*there, *ours):
        for sums in zip(row.consumed_windows, row.consumed_packets, row.consumed_bytes, strict=True):
            add(consumed, _passage(row), *sums)
    seconds = ours[0].window_seconds
    if closed:
        return closed_rows(ring, offsets, {_passage(row): row.counters for row in ours}, consumed, seconds)
    return unclosed_rows(ring, offsets, ours[0].counters.epoch, consumed, seconds)


def _passage(row: LedgerRow) -> Passage:
    return row.counters.interface, row.counters.direction, row.counters.primary


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
