"""schemas/avro/rows.c, when it was compiled: columns to the bytes of their rows in one pass."""

import ctypes
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.native import address, load
from schemas.avro.columns import Column, Kind, same

_COLUMN = struct.Struct("=QqQqQQiiii")  # struct column
_LONGEST_ADDRESS = 47  # with its length
_LONGEST_ENDS = 11  # the count of an array's items, and the 0 behind them
_SHORT = _SLACK = 16  # SHORT of rows.c; what is written in one go

_SOURCE = Path(__file__).with_name("rows.c")
_rows = load(
    _SOURCE,
    "ayaflow_avro_rows",
    ctypes.c_int64,
    [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p],
)
_arrays = load(
    _SOURCE, "ayaflow_avro_arrays", ctypes.c_int64, [ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
)

IS_COMPILED = _rows is not None and _arrays is not None
"""Whether `rows` and `arrays` may be called."""


_NOTHING = same(b"")  # stands for a column without items: it may have no texts to choose from


def rows(columns: Sequence[Column], count: int, ends: npt.NDArray[np.int64] | None = None) -> memoryview:
    """The bytes of `count` records, one after the other. As plain.rows."""
    assert _rows is not None
    keep: list[object] = []
    described, width = [], 0
    for column in columns:
        octets, longest = _describe(column, keep)
        described.append(octets)
        width += longest
    out = np.empty(count * width + _SLACK, np.uint8)
    written: int = _rows(
        b"".join(described), len(described), count, address(out), None if ends is None else address(ends)
    )
    return out.data[:written]


def arrays(columns: Sequence[tuple[Column, int]]) -> memoryview:
    """Each column as an array of so many items, one after the other. As plain.arrays."""
    assert _arrays is not None
    keep: list[object] = []
    described, counts = [], np.array([count for _, count in columns], np.int64)
    size = _SLACK + _LONGEST_ENDS * len(columns)
    for column, count in columns:
        octets, longest = _describe(column if count else _NOTHING, keep)
        described.append(octets)
        size += count * longest
    out = np.empty(size, np.uint8)
    written: int = _arrays(b"".join(described), len(described), address(counts), address(out))
    return out.data[:written]


def _describe(column: Column, keep: list[object]) -> tuple[bytes, int]:
    """struct column, and the octets that a row takes at most. `keep`: what must live until it was read."""
    values, kind = column.values, column.kind
    keep.append(values)
    size, texts, lengths, width, present, present_stride = values.itemsize, 0, 0, 0, 0, 0
    longest = (size * 8 + 6) // 7 + (size < 8)
    if kind is Kind.SAME:
        size = longest = len(values)
    elif kind is Kind.OCTETS:
        size = longest = values.shape[1]
        if values.strides[1] != 1:
            raise ValueError("the octets of a value must lie side by side")
    elif kind is Kind.CHOICE:
        longest = max(len(text) for text in column.texts)
        width = max(longest, _SHORT)
        table = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in column.texts), np.uint8)
        counts = np.array([len(text) for text in column.texts], np.int32)
        keep += [table, counts]
        texts, lengths = address(table), address(counts)
    elif kind is Kind.ADDRESS:
        longest = _LONGEST_ADDRESS
        if values.strides[1] != 1:
            raise ValueError("the octets of an address must lie side by side")
        if column.present is not None:
            keep.append(column.present)
            present, present_stride = address(column.present), column.present.strides[0]
    octets = _COLUMN.pack(
        address(values),
        values.strides[0],
        present,
        present_stride,
        texts,
        lengths,
        kind,
        size,
        values.dtype.kind == "i",
        width,
    )
    return octets, longest
