"""Tumbling windows in event time. Pure, vectorised: nothing here loops over packets or flows.

A batch is split into one `Piece` a window: an aggregate for each flow of its dictionary, and the offset it came
from. Pieces are kept as they are and grouped once, when the window is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

from schemas.defaults import entry_values
from schemas.fields import MEASURES
from schemas.packets import I64, PacketBatch
from streams.windowing.keys import Groups
from streams.windowing.rows import COLUMNS, Rows, compact, concatenate, merged, with_bare_syn

COMPACT_ROWS = 1 << 19  # so many loose rows of a window are grouped before it ends
_PIECE_BYTES = 3 << 10  # that a piece takes besides its rows: of a message of one packet it is nearly all


class Share(NamedTuple):
    """What one batch holds for one window."""

    window: int  # start, seconds since the Unix epoch
    rows: Rows  # a row a flow of the batch's dictionary; `keys` are the numbers of these flows, ascending


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
        part = columns.at(rows)
        shift = number * length
        part = replace(part, first_ns=part.first_ns - shift, last_ns=part.last_ns - shift)
        shares.append(_share((first_window + number) * window_seconds, part))
    return shares


def _from_entry(batch: PacketBatch, begin: int) -> PacketBatch:
    """Without the entries before `begin`."""
    members: dict[str, Any] = {each.name: getattr(batch, each.name) for each in fields(batch)}
    cut: dict[str, Any] = {name: each[begin:] for name, each in members.items() if isinstance(each, np.ndarray)}
    return replace(batch, **cut)


def _entries(batch: PacketBatch, first_ns: I64, length: int) -> Rows:
    """A row an entry of a batch; `first_ns` are their times since the beginning of some window."""
    values = entry_values(batch)
    columns = {measure.name: values[measure.packet] for measure in MEASURES}
    columns["tcp_flags"] = with_bare_syn(batch.tcp_flags.astype(np.uint16))
    columns["dscp"] = batch.tos >> np.uint8(2)
    columns["first_ns"] = columns["last_ns"] = first_ns
    if len(batch.duration_ns):
        # of one second by the kernel's clock; ours may put the end a moment into the next window
        columns["last_ns"] = np.minimum(first_ns + values["duration_ns"], (first_ns // length + 1) * length - 1)
    return Rows(keys=batch.flow, **columns)


def _share(window: int, entries: Rows) -> Share:
    # numpy sorts 8 and 16 bits by radix, in a tenth of the time that 32 take
    number = entries.keys.astype(np.min_scalar_type(int(entries.keys.max())))
    order = np.argsort(number, kind="stable")
    ordered = number.take(order)
    groups = Groups(order=order, starts=np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))))
    columns = {name: getattr(entries, name).astype(kind, copy=False) for name, kind in COLUMNS.items()}
    return Share(window, Rows(keys=entries.keys.take(groups.first_rows), **merged(groups, columns)))


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
        self.append(Piece(first_offset=offset, last_offset=offset, rows=rows))

    def append(self, piece: Piece) -> None:
        """Likewise."""
        self.pieces.append(piece)
        self.loose_rows += len(piece.rows)
        self.nbytes += piece.rows.nbytes + _PIECE_BYTES

    def compact(self) -> None:
        """Group what there is into one piece, when that is worth it: memory then grows with flows, not with time."""
        if len(self.pieces) < 2:
            return
        rows = compact(concatenate([piece.rows for piece in self.pieces]))
        self.pieces = [
            Piece(first_offset=self.pieces[0].first_offset, last_offset=self.pieces[-1].last_offset, rows=rows)
        ]
        self.loose_rows, self.nbytes = 0, rows.nbytes + _PIECE_BYTES

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
