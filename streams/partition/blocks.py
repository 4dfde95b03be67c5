"""A partition's packets on their way into the table packets, in blocks that follow from the log alone. Pure.

A block holds what the messages brought that Kafka took in one second. It is complete when one of a later second came,
and is named by that second: whoever reads on from an offset that is not acknowledged makes the same block again, and
the server keeps the first of a name. Of a block that is stored already he may see the end only: that is not stored
again either.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from schemas.packets import PacketBatch

MOST_WAITING = 4
"""Blocks of a partition; with more it takes no messages."""


class Part(NamedTuple):
    """What one message brought."""

    batch: PacketBatch
    begin: int  # its first entry that was not seen before


class Block(NamedTuple):
    """What is stored by one insert."""

    second: int  # by Kafka's clock, since the Unix epoch
    first_offset: int  # not acknowledged until it is stored
    parts: tuple[Part, ...]


class Blocks:
    """Those of one partition."""

    def __init__(self) -> None:
        self._second = 0
        self._first_offset: int | None = None
        self._parts: list[Part] = []
        self._ready: deque[Block] = deque()

    def add(self, offset: int, batch: PacketBatch, begin: int, stamp: float) -> None:
        """Take what a message brought that Kafka took at `stamp`, seconds since the Unix epoch; it never goes back."""
        second = int(stamp)
        if second > self._second:
            self._complete()
            self._second = second
        if begin < len(batch):
            if self._first_offset is None:
                self._first_offset = offset
            self._parts.append(Part(replace(batch, counters=()), begin))  # there may be many of them

    def _complete(self) -> None:
        if self._first_offset is not None:
            self._ready.append(Block(self._second, self._first_offset, tuple(self._parts)))
        self._first_offset, self._parts = None, []

    def ready(self) -> Block | None:
        """The oldest block that is complete."""
        return self._ready[0] if self._ready else None

    def stored(self, block: Block) -> None:
        """It is in the table."""
        if self._ready and self._ready[0] is block:
            self._ready.popleft()

    @property
    def crowded(self) -> bool:
        """Whether so many wait that no more are to come."""
        return len(self._ready) >= MOST_WAITING

    def needed(self) -> Sequence[int]:
        """Offsets that may not be acknowledged yet."""
        offsets = [block.first_offset for block in self._ready]
        return offsets if self._first_offset is None else [*offsets, self._first_offset]
