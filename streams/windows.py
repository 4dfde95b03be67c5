"""Tumbling windows in event time. Pure, vectorised: nothing here loops over packets or flows.

A batch is split into one `Piece` a window: an aggregate for each flow of its dictionary, and the offset it came
from. Pieces are kept as they are and grouped once, when the window is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from common.errors import DecodeError
from schemas.packets import I32, I64, U16, PacketBatch
from streams.biflow import Rows, compact, concatenate, with_bare_syn
from streams.keys import Keys, take

_LAST_SECOND = 2**32 - 1  # of ClickHouse's DateTime, in 2106
_EXACT_FLOAT = 2**53
COMPACT_ROWS = 1 << 19  # so many loose rows of a window are grouped before it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one batch holds for one window, by the batch's flow dictionary."""

    window: int  # start, seconds since the Unix epoch
    flow: I32  # indexes into the dictionary, ascending, each once
    packets: I64  # this and all that follow have the length of `flow`
    bytes: I64
    tcp_flags: U16
    first_ns: I64  # since the window's start
    last_ns: I64

    def rows(self, keys: Keys) -> Rows:
        """With the dictionary's packed keys."""
        own = keys if len(self.flow) == len(keys) else take(keys, self.flow)
        return Rows(
            keys=own,
            packets=self.packets,
            bytes=self.bytes,
            tcp_flags=self.tcp_flags,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
        )


def time_range(batch: PacketBatch) -> tuple[int, int]:
    """First and last time of a batch, in nanoseconds; (0, 0) when it is empty.

    Raises DecodeError when a time lies outside what can be stored.
    """
    if not len(batch):
        return 0, 0
    lowest = batch.base_ns + int(batch.time_offset_ns.min())
    highest = batch.base_ns + int(batch.time_offset_ns.max())
    if lowest < 0 or highest // 1_000_000_000 > _LAST_SECOND - 3600:
        raise DecodeError("a PacketBatch has a packet before 1970 or after 2106")
    return lowest, highest


def split(batch: PacketBatch, window_seconds: int, begin: int = 0) -> list[Share]:
    """Aggregate a batch by window and flow, in the order of windows, from its entry `begin` on."""
    if begin >= len(batch):
        return []
    length = window_seconds * 1_000_000_000
    offsets = batch.time_offset_ns[begin:]
    lowest, highest = batch.base_ns + int(offsets.min()), batch.base_ns + int(offsets.max())
    first_window = lowest // length
    times = offsets + (batch.base_ns - first_window * length)
    columns = _Entries(
        flow=batch.flow[begin:],
        packets=batch.packets[begin:],
        bytes=batch.bytes[begin:],
        tcp_flags=batch.tcp_flags[begin:],
        times=times,
    )
    if first_window == highest // length:
        return [_share(first_window * window_seconds, len(batch.flows), columns)]
    numbers = times // length
    times -= numbers * length
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    shares = []
    for number, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        part = columns.at(rows, times[rows])
        shares.append(_share((first_window + number) * window_seconds, len(batch.flows), part))
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """Entries of a batch; columns of one length."""

    flow: I32
    packets: I32
    bytes: I64
    tcp_flags: I32
    times: I64  # since the window's start

    def at(self, rows: npt.NDArray[np.intp], times: I64) -> "_Entries":
        return _Entries(
            flow=self.flow[rows],
            packets=self.packets[rows],
            bytes=self.bytes[rows],
            tcp_flags=self.tcp_flags[rows],
            times=times,
        )


def _share(window: int, flows: int, entries: _Entries) -> Share:
    if len(entries.flow) * 4 < flows:  # few of a large dictionary: do not pay for all of it
        some, renumbered = np.unique(entries.flow, return_inverse=True)
        share = _share(window, len(some), replace(entries, flow=renumbered.astype(np.int32)))
        return replace(share, flow=some.astype(np.int32))
    flow = entries.flow
    flags = np.zeros(flows, np.uint16)
    if entries.tcp_flags.any():
        np.bitwise_or.at(flags, flow, with_bare_syn(entries.tcp_flags.astype(np.uint16)))
    first = np.full(flows, np.iinfo(np.int64).max)
    np.minimum.at(first, flow, entries.times)
    last = np.full(flows, -1, np.int64)
    np.maximum.at(last, flow, entries.times)
    packets, octets = _sums(flow, entries.packets, flows), _sums(flow, entries.bytes, flows)
    used = np.flatnonzero(last >= 0).astype(np.int32)
    if len(used) < flows:
        packets, octets, flags, first, last = packets[used], octets[used], flags[used], first[used], last[used]
    return Share(window=window, flow=used, packets=packets, bytes=octets, tcp_flags=flags, first_ns=first, last_ns=last)


def _sums(flow: I32, values: I32 | I64, flows: int) -> I64:
    """Sum by flow, in integers."""
    if float(values.sum(dtype=np.float64)) < _EXACT_FLOAT:  # then every partial sum of bincount is a whole number
        return np.bincount(flow, weights=values, minlength=flows).astype(np.int64)
    total = np.zeros(flows, np.int64)
    np.add.at(total, flow, values)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one window that came from the offsets first to last, both included."""

    first_offset: int
    last_offset: int
    rows: Rows


class StraddlesOffset(Exception):
    """Compacted rows came from both sides of an offset at which they must be divided."""


def from_offset(pieces: tuple[Piece, ...], offset: int) -> tuple[Piece, ...]:
    """The pieces at or after an offset. Raises StraddlesOffset when a compacted piece lies on both sides."""
    if any(piece.first_offset < offset <= piece.last_offset for piece in pieces):
        raise StraddlesOffset
    return tuple(piece for piece in pieces if piece.first_offset >= offset)


@dataclass(slots=True)
class Window:
    """What is not stored yet of one window of one partition."""

    start: int  # seconds since the Unix epoch
    pieces: list[Piece] = field(default_factory=list)  # by offset
    loose_rows: int = 0  # rows since the last compaction
    nbytes: int = 0

    def add(self, offset: int, rows: Rows) -> None:
        """Append what a message brought. Offsets only go up."""
        self.pieces.append(Piece(first_offset=offset, last_offset=offset, rows=rows))
        self.loose_rows += len(rows)
        self.nbytes += rows.nbytes

    def compact(self) -> None:
        """Group what there is into one piece, when that is worth it: memory then grows with flows, not with time."""
        if len(self.pieces) < 2:
            return
        rows = compact(concatenate([piece.rows for piece in self.pieces]))
        self.pieces = [
            Piece(first_offset=self.pieces[0].first_offset, last_offset=self.pieces[-1].last_offset, rows=rows)
        ]
        self.loose_rows, self.nbytes = 0, rows.nbytes

    @property
    def compactable(self) -> bool:
        """Enough loose rows for a compaction to pay: as many as COMPACT_ROWS and as those already compacted."""
        return self.loose_rows >= COMPACT_ROWS and self.loose_rows * 2 >= sum(len(p.rows) for p in self.pieces)

    @property
    def lowest_offset(self) -> int | None:
        """The first message that has something here."""
        return self.pieces[0].first_offset if self.pieces else None

    def __iter__(self) -> Iterator[Piece]:
        return iter(self.pieces)
