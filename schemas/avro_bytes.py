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

_DIGITS = np.array([f"{i}".encode() for i in range(256)], "S4").view(np.uint8).reshape(256, 4)
_DIGITS_DOT = np.array([f"{i}.".encode() for i in range(256)], "S4").view(np.uint8).reshape(256, 4)


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
    if not values.any():  # many are: no VLAN, no tunnel, no super-packets
        return _zeros(len(values))
    signed = values.astype(np.int64)
    zigzag = ((signed << 1) ^ (signed >> 63)).view(np.uint64)
    width = (int(zigzag.max()).bit_length() + 6) // 7
    octets = np.empty((len(zigzag), width), np.uint8)
    mask = np.empty((len(zigzag), width), np.bool_)
    for i in range(width):
        rest = zigzag >> np.uint64(7 * i)
        octets[:, i] = (rest & np.uint64(0x7F)).astype(np.uint8) | ((rest > 0x7F).astype(np.uint8) << 7)
        mask[:, i] = rest > 0 if i else True
    return octets, mask


def _zeros(rows: int) -> Field:
    """A zero octet in each row: the number 0, an empty string."""
    return np.zeros((rows, 1), np.uint8), np.ones((rows, 1), np.bool_)


def booleans(values: npt.NDArray[Any]) -> Field:
    """A column of booleans, shape (n,)."""
    octets = values.astype(np.bool_).astype(np.uint8)[:, None]
    return octets, np.ones(octets.shape, np.bool_)


def choices(texts: Sequence[str], index: npt.NDArray[Any]) -> Field:
    """A column of strings: texts[index[i]] in row i."""
    table = [string(text) for text in texts] or [b""]
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
        return _zeros(len(octets))
    v4 = is_ipv4(octets)
    text = np.zeros((len(octets), 16 if v4.all() else 39), np.uint8)
    for i in range(4):
        digits = _DIGITS_DOT if i < 3 else _DIGITS
        text[v4, 4 * i : 4 * i + 4] = digits[octets[v4, 12 + i]]
    v6 = np.flatnonzero(~v4)
    if len(v6):
        names = [socket.inet_ntop(socket.AF_INET6, address.tobytes()).encode() for address in octets[v6]]
        text[v6] = np.array(names, "S39").view(np.uint8).reshape(-1, 39)
    mask = text != 0
    if present is not None:
        mask &= present[:, None]
    length, length_mask = longs(mask.sum(axis=1))
    return np.hstack([length, text]), np.hstack([length_mask, mask])


def items(*fields: Field) -> bytes:
    """The bytes of n records, one after the other, from their fields' columns."""
    if len(fields) == 1:
        octets, mask = fields[0]
        return octets.tobytes() if octets.shape[1] == 1 else octets[mask].tobytes()
    octets = np.hstack([octets for octets, _ in fields])
    mask = np.hstack([mask for _, mask in fields])
    return np.compress(mask.ravel(), octets.ravel()).tobytes()  # a mask without a pattern: faster than octets[mask]
