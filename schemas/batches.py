"""What a batch of packets holds of its node's ring, how much of that an earlier one held, and which batches cannot be.

A ring has two series of places: positions in the ring buffer, and the numbers of coalesced entries. Both only go up.
Whoever reads packets judges by this, so that all totals are one. Pure.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from common.errors import DecodeError
from schemas.fields import MOST_NAME
from schemas.names import MOST_DOMAIN
from schemas.packets import COUNTS, PacketBatch

_LATEST_NS = 2**32 * 1_000_000_000
_MOST_SUM = 2**50
"""Packets, or octets, of one message: more than any node sees in a second. Thousands of such add up in 64 bits."""
_MOST_PASSAGES = 1 << 14
"""Of an epoch: interfaces, directions and `primary`. A node watches 512 interfaces at a time (bpf/event.h)."""
_END_NS = _LATEST_NS - 3600 * 1_000_000_000  # ClickHouse's DateTime ends in 2106, and a window takes up to an hour


class RingId(NamedTuple):
    """A ring that nobody else has, whatever the nodes are called."""

    node: str
    ring_id: int


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

    def known(self, expected: int) -> int:
        """How many entries, the first ones, come again where the series of their places went on to `expected`.

        Raises DecodeError when that cannot be told.
        """
        start, end = (self.coalesced_start, self.coalesced_end) if self.coalesced else (self.start, self.end)
        if start >= expected:
            return 0
        if end <= expected or not self.entries:
            return self.entries
        if (end - start) % self.entries or (expected - start) % ((end - start) // self.entries):
            raise DecodeError("a PacketBatch repeats part of an earlier one, and its entries are not of one size")
        return (expected - start) // ((end - start) // self.entries)

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


def check(batch: PacketBatch) -> int:
    """The time of its last packet, in nanoseconds; 0 when it has none. Raises DecodeError for one that cannot be."""
    latest_ns = _latest(batch)
    _check_sums(batch)
    _check_counters(batch)
    _check_names(batch)
    return latest_ns


def _latest(batch: PacketBatch) -> int:
    """All times lie inside what can be stored. What can be is taken as it is, be it of next year: the window of a
    packet follows from its message alone, today and when that is read again.
    """
    times = [batch.clock_ns, batch.idle_start_ns, batch.idle_end_ns, batch.base_ns]
    if len(batch):
        times += [batch.base_ns + int(each) for each in (batch.time_offset_ns.min(), batch.time_offset_ns.max())]
    if min(times) < 0 or max(times) >= _END_NS:
        raise DecodeError("a PacketBatch has a packet or a clock before 1970 or after 2106")
    return times[-1] if len(batch) else 0


def _check_sums(batch: PacketBatch) -> None:
    """Sums that do not fit would be negative, and what counts and stores them would end, at each start."""
    for name in ("packets", "bytes"):
        if float(getattr(batch, name).sum(dtype=np.float64)) > _MOST_SUM:
            raise DecodeError(f"a PacketBatch with more {name} than any node can have seen")


def _check_counters(batch: PacketBatch) -> None:
    rows = batch.counters
    if len(rows) > _MOST_PASSAGES and max(Counter(row.epoch for row in rows).values()) > _MOST_PASSAGES:
        raise DecodeError("a PacketBatch has more counters of one epoch than a node has interfaces")
    for row in batch.counters:
        counts = [getattr(row, name) for name in COUNTS]
        if min(counts) < 0 or not 0 <= row.start_ns <= row.end_ns < _LATEST_NS:
            raise DecodeError("the counters of a PacketBatch are negative, or their times impossible")


def _check_names(batch: PacketBatch) -> None:
    """A name that nobody has would be remembered and shown."""
    names = (batch.node, *batch.interface_names, *(row.interface for row in batch.counters))
    for texts, most in ((names, MOST_NAME), (batch.domains, MOST_DOMAIN), ((*batch.ja4s, *batch.alpns), MOST_NAME)):
        if (longest := max(map(len, texts), default=0)) > most:
            raise DecodeError(f"a PacketBatch with a name of {longest} characters")
