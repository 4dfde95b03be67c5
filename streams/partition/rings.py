"""Which entries of a batch are new: gaps and duplicates by (node, ring_id, place). Pure.

A ring has two series of places: positions in the ring buffer, and the numbers of coalesced entries. Both only go up,
and are judged alike. A producer that was killed sends again what Kafka may already have; the place says so. What is
known about a ring must survive our own restart too, so the last message of each series that was understood on its
own (its anchor) is not acknowledged until a newer one has come: whoever reads on from there knows the ring before it
sees what may be a duplicate. A message that was cut or dropped because of its anchor ties itself to it: see `spans`
and streams.partition.progress.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from common.errors import DecodeError
from schemas.packets import PacketBatch

ANCHOR_SECONDS = 600.0  # a series that says nothing for so long no longer holds back acknowledgements


class Extent(NamedTuple):
    """What a batch holds of its node's ring.

    Equal numbers of coalesced entries: the entries are from the ring, and so many coalesced ones were sent before, or,
    with 0, the batch does not say.
    """

    node: str
    ring_id: int
    start: int  # position in the ring
    end: int
    coalesced_start: int  # number of a coalesced entry
    coalesced_end: int
    entries: int

    @classmethod
    def of(cls, batch: PacketBatch) -> "Extent":
        """That of a batch."""
        return cls(
            batch.node,
            batch.ring_id,
            batch.ring_start,
            batch.ring_end,
            batch.coalesced_start,
            batch.coalesced_end,
            len(batch),
        )

    @property
    def coalesced(self) -> bool:
        """Whether the entries are coalesced ones."""
        return self.coalesced_end > self.coalesced_start

    @property
    def from_ring(self) -> int:
        """Entries that are places of the ring."""
        return 0 if self.coalesced else self.entries

    @property
    def stride(self) -> int:
        """Bytes of the ring that each entry takes; 0: they are not all of one size, or there are none."""
        size, entries = self.end - self.start, self.from_ring
        return size // entries if entries and not size % entries else 0

    def check(self) -> None:
        """Raises DecodeError when there is no such extent."""
        if (
            self.end < self.start
            or (self.from_ring and self.end == self.start)
            or self.coalesced_end < self.coalesced_start
        ):
            raise DecodeError(
                f"a PacketBatch with {self.entries} packets from ring position {self.start} to {self.end}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to take of a batch."""

    begin: int  # entries before this one have been seen already
    gap_bytes: int = 0  # bytes of the ring that were skipped before this batch
    gap_events: int | None = 0  # the events that were in them; None: not known how many
    gap_entries: int = 0  # coalesced entries that were skipped
    anchor: int | None = None  # with a gap: the message that a successor must know to find it again
    new_ring: bool  # the node's ring is not the one before: its epochs begin anew


@dataclass(slots=True)
class _Series:
    expected: int  # place after the last entry that was taken
    anchor: int | None = None  # offset of the last message that needed none before it
    heard: float = 0.0

    def begin(self, start: int, end: int, entries: int) -> int:
        """How many entries of a batch are known. Raises DecodeError when that cannot be told."""
        if start >= self.expected:
            return 0
        if end <= self.expected or not entries:
            return entries
        if (end - start) % entries or (self.expected - start) % ((end - start) // entries):
            raise DecodeError("a PacketBatch repeats part of an earlier one, and its entries are not of one size")
        return (self.expected - start) // ((end - start) // entries)

    def move(self, start: int, end: int, offset: int, now: float, spans: dict[int, int]) -> int:
        """Take note of a batch. Returns how much was skipped before it."""
        self.heard = now
        if start >= self.expected:
            gap = start - self.expected
            self.expected, self.anchor = end, offset
            return gap
        self.expected = max(self.expected, end)
        if self.anchor is not None:
            spans[self.anchor] = offset
        return 0


@dataclass(slots=True)
class _Ring:
    ring_id: int
    positions: _Series  # each batch tells them
    numbers: _Series | None  # None: nothing is known of coalesced entries yet
    stride: int  # bytes that an event takes; 0: not known yet

    @classmethod
    def first(cls, extent: Extent, offset: int, now: float) -> "_Ring":
        """A ring of which nothing was known before a batch."""
        numbers = None
        if extent.coalesced_end:
            numbers = _Series(expected=extent.coalesced_end, anchor=offset, heard=now)
        elif not extent.start:  # from the ring's beginning: there was none before
            numbers = _Series(expected=0)
        positions = _Series(expected=extent.end, anchor=offset, heard=now)
        return cls(ring_id=extent.ring_id, positions=positions, numbers=numbers, stride=extent.stride)

    def series(self) -> list[_Series]:
        return [self.positions] if self.numbers is None else [self.positions, self.numbers]


@dataclass(slots=True)
class Rings:
    """The rings of the nodes of one partition."""

    _rings: dict[str, _Ring] = field(default_factory=dict)
    _spans: dict[int, int] = field(default_factory=dict)

    def judge(self, extent: Extent, offset: int, now: float) -> Verdict:
        """Decide on the batch at `offset` and remember it. Raises DecodeError when its places are impossible."""
        extent.check()
        ring = self._rings.get(extent.node)
        if ring is None or ring.ring_id != extent.ring_id:
            self._rings[extent.node] = _Ring.first(extent, offset, now)
            return Verdict(begin=0, new_ring=True)
        if extent.coalesced:
            numbers = ring.numbers
            begin = numbers.begin(extent.coalesced_start, extent.coalesced_end, extent.entries) if numbers else 0
        else:
            begin = ring.positions.begin(extent.start, extent.end, extent.entries)
        anchors = [series.anchor for series in ring.series() if series.anchor is not None]
        gap_entries = 0
        if ring.numbers is None and extent.coalesced_end:
            ring.numbers = _Series(expected=extent.coalesced_end, anchor=offset, heard=now)
        elif ring.numbers is not None and extent.coalesced_end:
            gap_entries = ring.numbers.move(extent.coalesced_start, extent.coalesced_end, offset, now, self._spans)
        gap = ring.positions.move(extent.start, extent.end, offset, now, self._spans)
        stride = ring.stride = ring.stride or extent.stride
        return Verdict(
            begin=begin,
            gap_bytes=gap,
            gap_events=(gap // stride if stride else None) if gap else 0,
            gap_entries=gap_entries,
            anchor=min(anchors, default=None) if gap or gap_entries else None,
            new_ring=False,
        )

    def anchors(self, now: float) -> list[int]:
        """Offsets that must not be acknowledged yet, up to two a node that is not long silent."""
        return [
            series.anchor
            for ring in self._rings.values()
            for series in ring.series()
            if series.anchor is not None and now - series.heard <= ANCHOR_SECONDS
        ]

    def ended(self, node: str) -> None:
        """Nothing comes of this ring any more: nobody has to know it to understand what follows."""
        if ring := self._rings.get(node):
            for series in ring.series():
                series.anchor = None

    def silent(self, now: float) -> set[str]:
        """Nodes that have not been heard of for long."""
        return {node for node, ring in self._rings.items() if now - ring.positions.heard > ANCHOR_SECONDS}

    def spans(self) -> dict[int, int]:
        """Anchor -> the last message that can only be understood after it."""
        return self._spans

    def forget_below(self, offset: int) -> None:
        """Offsets below this one are acknowledged."""
        for first in [first for first, last in self._spans.items() if last < offset]:
            del self._spans[first]
