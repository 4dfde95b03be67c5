"""Columns to the Avro bytes of their rows with numpy alone: where schemas/avro/rows.c was not compiled.

Each field of n records becomes a matrix of n rows, as wide as its longest value, and a mask of the octets that
count; side by side and flattened by the mask they are the records' bytes, without a loop over records.
"""

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.avro.columns import Column, Kind, long, string
from schemas.packets import is_ipv4

Octets = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Field = tuple[Octets, Mask]
"""n rows of octets, and which of them count; both of shape (n, width)."""

_DIGITS = np.array([f"{i}".encode() for i in range(256)], "S4").view("<u4")
_DIGITS_DOT = np.array([f"{i}.".encode() for i in range(256)], "S4").view("<u4")
_WIDTH = np.array([len(str(i)) for i in range(256)], np.uint8)
_ROWS = 2048  # side by side at a time: they stay in the CPU's cache


def rows(columns: Sequence[Column], count: int, ends: npt.NDArray[np.int64] | None = None) -> bytes:
    """The bytes of `count` records, one after the other, from their columns. `ends`: gets where each of them ends."""
    fields = [_field(column, count) for column in columns]
    if ends is not None:
        np.cumsum(sum(mask.sum(axis=1) for _, mask in fields), out=ends)
    return _items(fields)


def arrays(columns: Sequence[tuple[Column, int]]) -> bytes:
    """Each column as an array of so many items in one block, one after the other."""
    return b"".join(long(count) + rows([column], count) + b"\0" if count else b"\0" for column, count in columns)


def _field(column: Column, count: int) -> Field:
    values = column.values
    match column.kind:
        case Kind.SAME:
            return _same(values, count)
        case Kind.LONG:
            return _longs(values)
        case Kind.BOOLEAN:
            octets = values.astype(np.bool_).astype(np.uint8)[:, None]
            return octets, np.ones(octets.shape, np.bool_)
        case Kind.CHOICE:
            return _choices(column.texts, values)
        case Kind.ADDRESS:
            return _addresses(values, column.present)
        case Kind.OCTETS:
            return values, np.ones(values.shape, np.bool_)


def _longs(values: npt.NDArray[Any]) -> Field:
    if values.dtype == np.uint64:
        values = values.astype(np.int64)
    lowest, highest = int(values.min()), int(values.max())
    if lowest == highest:  # many are: no VLAN, no tunnel, one packet each
        return _same(np.frombuffer(long(lowest), np.uint8), len(values))
    width = max(len(long(lowest)), len(long(highest)))
    rest = _zigzag(values, width)
    octets = np.empty((len(values), width), np.uint8)
    mask = np.ones((len(values), width), np.bool_)
    for i in range(width):
        more = rest > 0x7F
        octets[:, i] = rest.astype(np.uint8) & np.uint8(0x7F) | more.view(np.uint8) << np.uint8(7)
        if i + 1 < width:
            mask[:, i + 1] = more
            rest = rest >> np.uint8(7)
    return octets, mask


def _zigzag(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """Unsigned, in 32 bits where `width` octets of seven bits fit in."""
    if width < 5:
        short = values.astype(np.int32, copy=False)
        return ((short << 1) ^ (short >> 31)).view(np.uint32)
    signed = values.astype(np.int64, copy=False)
    return ((signed << 1) ^ (signed >> 63)).view(np.uint64)


def _same(octets: Octets, count: int) -> Field:
    return np.broadcast_to(octets, (count, len(octets))), np.broadcast_to(np.True_, (count, len(octets)))


def _choices(table: Sequence[bytes], index: npt.NDArray[Any]) -> Field:
    width = max(len(text) for text in table)
    octets = np.zeros((len(table), width), np.uint8)
    lengths = np.array([len(text) for text in table])
    for row, text in zip(octets, table, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    mask: Mask = np.arange(width) < lengths[:, None]
    return octets[index], mask[index]


def _addresses(octets: Octets, present: Mask | None) -> Field:
    four = is_ipv4(octets)
    if present is None and four.all():
        return _ipv4(octets[:, 12:])
    text = np.zeros((len(octets), 40), np.uint8)  # the length first: one octet, as no text is longer than 63
    text[four, :17] = _ipv4(octets[four, 12:])[0]
    six = np.flatnonzero(~four)
    if len(six):
        packed = octets[six].view("V16")[:, 0].tolist()
        names = {address: string(socket.inet_ntop(socket.AF_INET6, address)) for address in set(packed)}
        text[six] = np.array([names[address] for address in packed], "S40").view(np.uint8).reshape(-1, 40)
    if present is not None:
        text[~present] = 0
    mask = text != 0
    mask[:, 0] = True
    return text, mask


def _ipv4(octets: Octets) -> Field:
    """A column of strings a.b.c.d, from shape (n, 4)."""
    text = np.empty((len(octets), 17), np.uint8)
    words = text[:, 1:].view("<u4")
    for i in range(4):
        words[:, i] = (_DIGITS_DOT if i < 3 else _DIGITS).take(octets[:, i])
    text[:, 0] = 2 * (3 + _WIDTH.take(octets).sum(axis=1, dtype=np.uint8))  # zigzag
    mask = text != 0
    return text, mask


def _items(fields: Sequence[Field]) -> bytes:
    if len(fields) == 1:
        octets, mask = fields[0]
        return octets.tobytes() if octets.shape[1] == 1 else octets[mask].tobytes()
    parts = []
    for begin in range(0, len(fields[0][0]), _ROWS):
        part = slice(begin, begin + _ROWS)
        octets = np.hstack([octets[part] for octets, _ in fields])
        mask = np.hstack([mask[part] for _, mask in fields])
        parts.append(np.compress(mask.ravel(), octets.ravel()).tobytes())  # no pattern: faster than octets[mask]
    return b"".join(parts)
