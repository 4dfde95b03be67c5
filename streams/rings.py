"""Which entries of a batch are new: gaps and duplicates by (node, ring_id, ring position). Pure.

A producer that was killed sends again what Kafka may already have. The position in the ring says so. What is known
about a ring must survive our own restart too, so the last message of each node that was understood on its own (its
anchor) is not acknowledged until a newer one has come: whoever reads on from there knows the ring before it sees
what may be a duplicate. A message that was cut or dropped because of its anchor ties itself to it: see
`spans` and streams.progress.
"""

from dataclasses import dataclass

from common.errors import DecodeError

ANCHOR_SECONDS = 600.0  # a node silent for so long no longer holds back acknowledgements


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to take of a batch."""

    begin: int  # entries before this one have been seen already
    gap_bytes: int  # bytes of the ring that were skipped before this batch
    new_ring: bool  # the node's ring is not the one before: its epochs begin anew


@dataclass(slots=True)
class _Ring:
    ring_id: int
    expected: int  # position after the last event that was taken
    anchor: int  # offset of the last message that needed none before it
    heard: float


class Rings:
    """The rings of the nodes of one partition."""

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}
        self._spans: dict[int, int] = {}

    def judge(self, *, node: str, ring_id: int, start: int, end: int, entries: int, offset: int, now: float) -> Verdict:
        """Decide on a batch and remember it. Raises DecodeError when its positions are impossible."""
        if end < start or (entries and end == start):
            raise DecodeError(f"a PacketBatch with {entries} packets from ring position {start} to {end}")
        ring = self._rings.get(node)
        if ring is None or ring.ring_id != ring_id:
            self._rings[node] = _Ring(ring_id=ring_id, expected=end, anchor=offset, heard=now)
            return Verdict(begin=0, gap_bytes=0, new_ring=True)
        ring.heard = now
        if start >= ring.expected:
            gap = start - ring.expected
            ring.expected, ring.anchor = end, offset
            return Verdict(begin=0, gap_bytes=gap, new_ring=False)
        begin = entries
        if end > ring.expected and entries:
            if (end - start) % entries or (ring.expected - start) % ((end - start) // entries):
                raise DecodeError("a PacketBatch repeats part of an earlier one, and its entries are not of one size")
            begin = (ring.expected - start) // ((end - start) // entries)
        ring.expected = max(ring.expected, end)
        self._spans[ring.anchor] = offset
        return Verdict(begin=begin, gap_bytes=0, new_ring=False)

    def anchors(self, now: float) -> list[int]:
        """Offsets that must not be acknowledged yet, one a node that is not long silent."""
        return [ring.anchor for ring in self._rings.values() if now - ring.heard <= ANCHOR_SECONDS]

    def silent(self, now: float) -> set[str]:
        """Nodes that have not been heard of for long."""
        return {node for node, ring in self._rings.items() if now - ring.heard > ANCHOR_SECONDS}

    def spans(self) -> dict[int, int]:
        """Anchor -> the last message that can only be understood after it."""
        return self._spans

    def forget_below(self, offset: int) -> None:
        """Offsets below this one are acknowledged."""
        for first in [first for first, last in self._spans.items() if last < offset]:
            del self._spans[first]
