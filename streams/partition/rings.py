"""Which entries of a batch are new: gaps and duplicates by (node, ring_id, place). Pure.

The two series of places of a ring (schemas.batches) are judged alike. A producer that was killed sends again what
Kafka may already have; the place says so. What is known about a ring must survive our own restart too, so the last
message of each series that was understood on its own (its anchor) is not acknowledged until a newer one has come:
whoever reads on from there knows the ring before it sees what may be a duplicate. A message that was cut or dropped
because of its anchor ties itself to it: see `spans` and streams.partition.progress.

A node has one ring after the other: a new one replaces the last, of which nothing more comes. Where two producers call
themselves by one name, two replays or two machines, their messages alternate. So a few rings of a node are known at a
time, each judged by itself and its epochs closed by its own counters, and one that comes back is told: see `shared`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from common.recent import Recent
from schemas.batches import Extent, RingId

ANCHOR_SECONDS = 600.0  # a series that says nothing for so long no longer holds back acknowledgements
RING_SECONDS = 10.0  # a ring of which nothing came for so long, ...
RING_MESSAGES = 8  # ... while so many messages of the node's other rings did, was replaced
MOST_RINGS = 4  # of a node at a time
MOST_NODES = 1 << 14  # of a partition: those silent for longest are forgotten first
FORGET_SECONDS = 86_400.0  # a node's producer may have been without Kafka for so long, and comes back with its spool
SHARED_RETURNS = 3  # of rings that had been replaced: once is a message of a producer that was killed, come late
SHARED_SECONDS = 60.0  # without one of them, and the name is one producer's again


class Shared(NamedTuple):
    """A node name by which several producers call themselves."""

    node: str
    rings: tuple[int, int]  # two of theirs

    def __str__(self) -> str:
        return (
            f"two producers call themselves node {self.node} (rings {self.rings[0]:x} and {self.rings[1]:x}): "
            "set `node` so that each has a name of its own"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to take of a batch."""

    begin: int  # entries before this one have been seen already
    gap_bytes: int = 0  # bytes of the ring that were skipped before this batch
    gap_events: int | None = 0  # the events that were in them; None: not known how many
    gap_entries: int = 0  # coalesced entries that were skipped
    anchor: int | None = None  # with a gap: the message that a successor must know to find it again
    seen_until: int = field(default=0, compare=False)  # place in the ring before which nothing is new


@dataclass(slots=True)
class _Series:
    expected: int  # place after the last entry that was taken
    anchor: int | None = None  # offset of the last message that needed none before it
    heard: float = 0.0

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
    positions: _Series  # each batch tells them
    numbers: _Series | None  # None: nothing is known of coalesced entries yet
    stride: int  # bytes that an event takes; 0: not known yet
    message: int = 0  # number of its last one, among its node's
    ended: bool = False  # its producer said so

    @classmethod
    def first(cls, extent: Extent, offset: int, now: float) -> "_Ring":
        """A ring of which nothing was known before a batch."""
        numbers = None
        if extent.coalesced_end:
            numbers = _Series(expected=extent.coalesced_end, anchor=offset, heard=now)
        elif not extent.start:  # from the ring's beginning: there was none before
            numbers = _Series(expected=0)
        positions = _Series(expected=extent.end, anchor=offset, heard=now)
        return cls(positions=positions, numbers=numbers, stride=extent.stride)

    def hold_nothing(self) -> None:
        """Nobody has to know it to understand what follows."""
        for series in self.series():
            series.anchor = None

    def series(self) -> list[_Series]:
        return [self.positions] if self.numbers is None else [self.positions, self.numbers]


@dataclass(slots=True)
class _Node:
    rings: dict[int, _Ring] = field(default_factory=dict)  # in the order in which they began
    gone: Recent[int, _Ring] = field(default_factory=lambda: Recent(2 * MOST_RINGS))  # rings before; they may come back
    heard: float = 0.0
    messages: int = 0
    last: int = 0  # ring of the last message
    returns: int = 0  # how often a ring came back that had been replaced
    returned: float = 0.0  # when last
    others: tuple[int, int] = (0, 0)  # the one that came back last, and the one that had replaced it

    def hear(self, ring_id: int, ring: _Ring, now: float) -> None:
        """A message of a ring came."""
        newest = next(reversed(self.rings), ring_id)
        came_back = self.gone.forget(ring_id)
        if came_back or (self.last != ring_id and ring_id in self.rings and newest != ring_id):
            self.returns = self.returns + 1 if now - self.returned <= SHARED_SECONDS else 1
            self.returned, self.others = now, (ring_id, self.last)
        self.rings.setdefault(ring_id, ring)
        self.messages += 1
        self.heard, self.last, ring.message = now, ring_id, self.messages

    def replaced(self, now: float) -> list[int]:
        """Rings that will not go on, most likely."""
        silent = {number: now - ring.positions.heard for number, ring in self.rings.items() if number != self.last}
        found = [
            number
            for number, seconds in silent.items()
            if self.rings[number].ended
            or (seconds > RING_SECONDS and self.messages - self.rings[number].message >= RING_MESSAGES)
            or seconds > ANCHOR_SECONDS
        ]
        too_many = len(self.rings) - len(found) - MOST_RINGS
        if too_many > 0:
            found += sorted(silent.keys() - {*found}, key=lambda number: self.rings[number].message)[:too_many]
        return found


class Rings:
    """The rings of the nodes of one partition."""

    def __init__(self) -> None:
        self._nodes: Recent[str, _Node] = Recent(MOST_NODES)
        self._several: set[str] = set()  # nodes of which more than one ring is known
        self._spans: dict[int, int] = {}
        self._replaced: list[RingId] = []
        self._heard = self._going_on = float("-inf")  # of any node: the last message, and since when without a pause

    def judge(self, extent: Extent, offset: int, now: float) -> Verdict:
        """Decide on the batch at `offset` and remember it. Raises DecodeError when its places are impossible."""
        extent.check()
        if now - self._heard > RING_SECONDS:
            self._going_on = now
        self._heard = now
        node = self._nodes.get(extent.node) or _Node()
        ring = node.rings.get(extent.ring_id) or node.gone.get(extent.ring_id)
        if ring is None:
            ring, verdict = _Ring.first(extent, offset, now), Verdict(begin=0, seen_until=extent.start)
        else:
            verdict = self._go_on(ring, extent, offset, now)
        node.hear(extent.ring_id, ring, now)
        if len(node.rings) > 1:
            self._several.add(extent.node)
        for name, forgotten in self._nodes.use(extent.node, node):
            self._forget(name, forgotten)
        return verdict

    def _go_on(self, ring: _Ring, extent: Extent, offset: int, now: float) -> Verdict:
        if extent.coalesced:
            numbers = ring.numbers
            begin = extent.known(numbers.expected) if numbers else 0
        else:
            begin = extent.known(ring.positions.expected)
        anchors = [series.anchor for series in ring.series() if series.anchor is not None]
        gap_entries = 0
        if ring.numbers is None and extent.coalesced_end:
            ring.numbers = _Series(expected=extent.coalesced_end, anchor=offset, heard=now)
        elif ring.numbers is not None and extent.coalesced_end:
            gap_entries = ring.numbers.move(extent.coalesced_start, extent.coalesced_end, offset, now, self._spans)
        seen_until = ring.positions.expected
        gap = ring.positions.move(extent.start, extent.end, offset, now, self._spans)
        if not extent.start and ring.numbers is not None and ring.numbers.anchor is not None:
            # to a successor that begins here it would look as if no coalesced entries had been before
            self._spans[ring.numbers.anchor] = offset
        stride = ring.stride = ring.stride or extent.stride
        return Verdict(
            begin=begin,
            gap_bytes=gap,
            gap_events=(gap // stride if stride else None) if gap else 0,
            gap_entries=gap_entries,
            anchor=min(anchors, default=None) if gap or gap_entries else None,
            seen_until=seen_until,
        )

    def replaced(self, now: float) -> list[RingId]:
        """Rings of which nothing more will come, most likely, each once: their open epochs will not be closed."""
        for name in [*self._several]:
            node = self._nodes.get(name)
            assert node is not None
            for number in node.replaced(now):
                ring = node.rings.pop(number)
                ring.hold_nothing()
                node.gone.use(number, ring)
                self._replaced.append(RingId(name, number))
            if len(node.rings) < 2:
                self._several.discard(name)
        while (oldest := self._nodes.oldest()) and now - oldest[1].heard > FORGET_SECONDS:
            self._nodes.forget(oldest[0])
            self._forget(*oldest)
        replaced, self._replaced = self._replaced, []
        return replaced

    def _forget(self, name: str, node: _Node) -> None:
        self._several.discard(name)
        self._replaced += [RingId(name, number) for number in node.rings]

    def shared(self, now: float) -> list[Shared]:
        """Names that several producers have now."""
        nodes = [(name, self._nodes.get(name)) for name in self._several]
        return [
            Shared(name, node.others)
            for name, node in nodes
            if node and node.returns >= SHARED_RETURNS and now - node.returned <= SHARED_SECONDS
        ]

    def anchors(self, now: float) -> list[int]:
        """Offsets that must not be acknowledged yet, up to two a ring that is not long silent."""
        found = []
        for _, node in self._nodes.newest_first():
            if now - node.heard > ANCHOR_SECONDS:
                break
            found += [
                series.anchor
                for ring in node.rings.values()
                for series in ring.series()
                if series.anchor is not None and now - series.heard <= ANCHOR_SECONDS
            ]
        return found

    def ended(self, ring_id: RingId) -> None:
        """Nothing comes of this ring any more: nobody has to know it to understand what follows."""
        node = self._nodes.get(ring_id.node)
        if node and (ring := node.rings.get(ring_id.ring_id)):
            ring.ended = True
            ring.hold_nothing()

    def is_silent(self, node: str, now: float) -> bool:
        """Whether a node has not been heard of for long."""
        known = self._nodes.get(node)
        return known is None or now - known.heard > ANCHOR_SECONDS

    def tie(self, first: int, last: int) -> None:
        """A message can only be understood by whoever has read another one."""
        self._spans[first] = max(last, self._spans.get(first, last))

    def is_gone(self, node: str, now: float) -> bool:
        """Whether a node has not been heard of for long, while others were: it is not that nothing comes from Kafka."""
        known = self._nodes.get(node)
        silent = now - max(known.heard if known else 0.0, self._going_on)
        return now - self._heard <= RING_SECONDS and silent > ANCHOR_SECONDS

    def spans(self) -> dict[int, int]:
        """Anchor -> the last message that can only be understood after it."""
        return self._spans

    def forget_below(self, offset: int) -> None:
        """Offsets below this one are acknowledged."""
        for first in [first for first, last in self._spans.items() if last < offset]:
            del self._spans[first]

    def __len__(self) -> int:
        """Nodes that are known."""
        return len(self._nodes)
