"""Columns to Avro bytes with numpy alone. Pure.

Each field of n records becomes a matrix of n rows, as wide as its longest value, and a mask of the octets that
count; side by side and flattened by the mask they are the records' bytes, without a loop over records.
"""

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.packets import is_ipv4

Octets = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Field = tuple[Octets, Mask]
"""n rows of octets, and which of them count; both of shape (n, width)."""

_DIGITS = np.array([f"{i}".encode() for i in range(256)], "S4").view("<u4")
_DIGITS_DOT = np.array([f"{i}.".encode() for i in range(256)], "S4").view("<u4")
_WIDTH = np.array([len(str(i)) for i in range(256)], np.uint8)
_ROWS = 2048  # side by side at a time: they stay in the CPU's cache


def long(value: int) -> bytes:
    """One int or long: zigzag, then seven bits an octet."""
    rest, octets = (value << 1) ^ (value >> 63), bytearray()
    while rest > 0x7F:
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    octets.append(rest)
    return bytes(octets)


def string(text: str) -> bytes:
    """One string."""
    octets = text.encode()
    return long(len(octets)) + octets


def array(count: int, items: bytes) -> bytes:
    """An array of `count` items in one block."""
    return long(count) + items + b"\0" if count else b"\0"


def longs(values: npt.NDArray[Any]) -> Field:
    """A column of ints or longs, shape (n,)."""
    if not len(values):
        return same(b"\0", 0)
    lowest, highest = int(values.min()), int(values.max())
    if lowest == highest:  # many are: no VLAN, no tunnel, one packet each
        return same(long(lowest), len(values))
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


def same(value: bytes, count: int) -> Field:
    """A column of one value."""
    octets = np.frombuffer(value, np.uint8)
    return np.broadcast_to(octets, (count, len(octets))), np.broadcast_to(np.True_, (count, len(octets)))


def booleans(values: npt.NDArray[Any]) -> Field:
    """A column of booleans, shape (n,)."""
    octets = values.astype(np.bool_).astype(np.uint8)[:, None]
    return octets, np.ones(octets.shape, np.bool_)


def choices(texts: Sequence[str], index: npt.NDArray[Any]) -> Field:
    """A column of strings: texts[index[i]] in row i."""
    table = [string(text) for text in texts] or [b""]
    if len(table) == 1:
        return same(table[0], len(index))
    width = max(len(text) for text in table)
    octets = np.zeros((len(table), width), np.uint8)
    lengths = np.array([len(text) for text in table])
    for row, text in zip(octets, table, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    mask: Mask = np.arange(width) < lengths[:, None]
    return octets[index], mask[index]


def addresses(octets: Octets, present: Mask | None = None) -> Field:
    """A column of strings: addresses, shape (n, 16), as the text that schemas.addresses makes of them.

    `present`: which of them there are, shape (n,); the others are empty strings. None: all.
    """
    if present is not None and not present.any():
        return same(string(""), len(octets))
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


def items(*fields: Field) -> bytes:
    """The bytes of n records, one after the other, from their fields' columns."""
    if len(fields) == 1:
        octets, mask = fields[0]
        return octets.tobytes() if octets.shape[1] == 1 else octets[mask].tobytes()
    parts = []
    for begin in range(0, len(fields[0][0]), _ROWS):
        rows = slice(begin, begin + _ROWS)
        octets = np.hstack([octets[rows] for octets, _ in fields])
        mask = np.hstack([mask[rows] for _, mask in fields])
        parts.append(np.compress(mask.ravel(), octets.ravel()).tobytes())  # no pattern: faster than octets[mask]
    return b"".join(parts)
