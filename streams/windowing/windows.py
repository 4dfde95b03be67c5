"""Tumbling windows in event time. Pure, vectorised: nothing here loops over packets or flows.

A batch is split into one `Piece` a window: an aggregate for each flow of its dictionary, and the offset it came
from. Pieces are kept as they are and grouped once, when the window is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DecodeError
from schemas.defaults import highest_ttl, packet_sizes
from schemas.packets import I32, I64, U8, U16, U32, PacketBatch
from streams.windowing.keys import Groups, Keys, take
from streams.windowing.rows import MEASURES, Rows, compact, concatenate, merged, with_bare_syn

_LAST_SECOND = 2**32 - 1  # of ClickHouse's DateTime, in 2106
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
    min_ttl: U8
    max_ttl: U8
    min_packet_bytes: U32
    max_packet_bytes: U32
    tos: U8  # of the first packet

    def rows(self, keys: Keys) -> Rows:
        """With the dictionary's packed keys."""
        own = keys if len(self.flow) == len(keys) else take(keys, self.flow)
        return Rows(keys=own, **{name: getattr(self, name) for name in (*MEASURES, "tos")})


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
    if begin:
        batch = _from_entry(batch, begin)
    length = window_seconds * 1_000_000_000
    offsets = batch.time_offset_ns
    lowest, highest = batch.base_ns + int(offsets.min()), batch.base_ns + int(offsets.max())
    first_window = lowest // length
    times = offsets + (batch.base_ns - first_window * length)
    columns = _entries(batch, times, length)
    if first_window == highest // length:
        return [_share(first_window * window_seconds, columns)]
    numbers = times // length
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    shares = []
    for number, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        part = columns.at(rows, numbers[rows] * length)
        shares.append(_share((first_window + number) * window_seconds, part))
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """Entries of a batch; columns of one length."""

    flow: I32
    packets: I32
    bytes: I64
    tcp_flags: U16
    tos: U8
    first_ns: I64  # since the window's start
    last_ns: I64
    min_ttl: U8
    max_ttl: U8
    min_packet_bytes: U32
    max_packet_bytes: U32

    def at(self, rows: npt.NDArray[np.intp], shift_ns: I64) -> "_Entries":
        """Some of them, in windows that begin so much later."""
        columns = {name: getattr(self, name)[rows] for name in _Entries.__dataclass_fields__}
        first, last = columns["first_ns"] - shift_ns, columns["last_ns"] - shift_ns
        return _Entries(**columns | {"first_ns": first, "last_ns": last})


def _from_entry(batch: PacketBatch, begin: int) -> PacketBatch:
    """Without the entries before `begin`."""
    members: dict[str, Any] = {each.name: getattr(batch, each.name) for each in fields(batch)}
    cut: dict[str, Any] = {name: each[begin:] for name, each in members.items() if isinstance(each, np.ndarray)}
    return replace(batch, **cut)


def _entries(batch: PacketBatch, first_ns: I64, length: int) -> _Entries:
    """The entries of a batch; `first_ns` are their times since the beginning of some window."""
    smallest, largest = packet_sizes(batch)
    last_ns = first_ns
    if len(batch.duration_ns):
        # of one second by the kernel's clock; ours may put the end a moment into the next window
        last_ns = np.minimum(first_ns + batch.duration_ns, (first_ns // length + 1) * length - 1)
    return _Entries(
        flow=batch.flow,
        packets=batch.packets,
        bytes=batch.bytes,
        tcp_flags=with_bare_syn(batch.tcp_flags.astype(np.uint16)),
        tos=batch.tos,
        first_ns=first_ns,
        last_ns=last_ns,
        min_ttl=batch.ttl,
        max_ttl=highest_ttl(batch),
        min_packet_bytes=smallest,
        max_packet_bytes=largest,
    )


_KINDS = {name: measure.dtype for name, measure in MEASURES.items()} | {"tos": np.uint8}


def _share(window: int, entries: _Entries) -> Share:
    # numpy sorts 8 and 16 bits by radix, in a tenth of the time that 32 take
    number = entries.flow.astype(np.min_scalar_type(int(entries.flow.max())))
    order = np.argsort(number, kind="stable")
    ordered = number.take(order)
    groups = Groups(order=order, starts=np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))))
    columns = {name: getattr(entries, name).astype(kind, copy=False) for name, kind in _KINDS.items()}
    return Share(window=window, flow=entries.flow.take(groups.first_rows), **merged(groups, columns))


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
