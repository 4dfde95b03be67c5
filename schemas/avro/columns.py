"""Columns of Avro records: what native.py and plain.py write the rows of."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class Kind(IntEnum):
    """What a column's values are written as; schemas/avro/rows.c has the same numbers."""

    SAME = 0
    LONG = 1
    BOOLEAN = 2
    CHOICE = 3
    ADDRESS = 4
    OCTETS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A field of n records.

    `values`: shape (n,); of addresses (n, 16); of octets (n, width); of a column of one value, its octets.
    """

    kind: Kind
    values: npt.NDArray[Any]
    texts: tuple[bytes, ...] = ()  # of choices
    present: npt.NDArray[np.bool_] | None = None  # which addresses there are; None: all

    def take(self, index: npt.NDArray[Any]) -> "Column":
        """The values at these places."""
        if self.kind is Kind.SAME:
            return self
        present = None if self.present is None else self.present[index]
        return Column(self.kind, self.values[index], self.texts, present)


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


def same(value: bytes) -> Column:
    """A column of one value."""
    return Column(Kind.SAME, np.frombuffer(value, np.uint8))


def longs(values: npt.NDArray[Any]) -> Column:
    """A column of ints or longs, shape (n,). What does not fit a long is written modulo 2**64."""
    return Column(Kind.LONG, values)


def booleans(values: npt.NDArray[np.uint8]) -> Column:
    """A column of booleans, shape (n,)."""
    return Column(Kind.BOOLEAN, values)


def texts(values: npt.NDArray[np.bytes_]) -> Column:
    """A column of strings of equal length, ASCII of dtype S…, shape (n,)."""
    width = values.dtype.itemsize
    octets = np.empty((len(values), 1 + width), np.uint8)
    octets[:, 0] = 2 * width
    octets[:, 1:] = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)
    return Column(Kind.OCTETS, octets)


def choices(names: Sequence[str], index: npt.NDArray[Any]) -> Column:
    """A column of strings: names[index[i]] in row i."""
    if len(names) == 1:
        return same(string(names[0]))
    return Column(Kind.CHOICE, index, tuple(string(text) for text in names))


def distinct(texts: Sequence[str]) -> tuple[Column, int]:
    """A column of strings that are all different, and how many they are."""
    return choices(texts, np.arange(len(texts), dtype=np.int32)), len(texts)


def addresses(octets: npt.NDArray[np.uint8], present: npt.NDArray[np.bool_] | None = None) -> Column:
    """A column of strings: addresses, shape (n, 16), as the text that schemas.addresses makes of them.

    `present`: which of them there are, shape (n,); the others are empty strings. None: all.
    """
    if present is not None and not present.any():
        return same(string(""))
    return Column(Kind.ADDRESS, octets, present=present)
