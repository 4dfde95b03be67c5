"""schemas/avro_rows.c, when it was compiled: columns to the bytes of their rows in one pass."""

import ctypes
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.avro_columns import Column, Kind

_COLUMN = struct.Struct("=QqQqQQiiii")  # struct column
_LONGEST_ADDRESS = 47  # with its length
_SLACK = 16


def _load() -> ctypes.CDLL | None:
    for path in sorted(Path(__file__).parent.glob("_avro_rows*.so")):
        try:
            library = ctypes.CDLL(str(path))
            library.ayaflow_avro_rows.restype = ctypes.c_int64
        except (OSError, AttributeError):  # of another machine
            continue
        library.ayaflow_avro_rows.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
        return library
    return None


_library = _load()

IS_COMPILED = _library is not None
"""Whether `rows` may be called."""


def rows(columns: Sequence[Column], count: int) -> memoryview:
    """The bytes of `count` records, one after the other. As avro_bytes.rows."""
    assert _library is not None
    keep: list[object] = []
    described, width = [], 0
    for column in columns:
        octets, longest = _describe(column, keep)
        described.append(octets)
        width += longest
    out = np.empty(count * width + _SLACK, np.uint8)
    written = _library.ayaflow_avro_rows(b"".join(described), len(described), count, out.ctypes.data)
    return out.data[:written]


def _describe(column: Column, keep: list[object]) -> tuple[bytes, int]:
    """struct column, and the octets that a row takes at most. `keep`: what must live until it was read."""
    values, kind = column.values, column.kind
    keep.append(values)
    size, texts, lengths, width, present, present_stride = values.itemsize, 0, 0, 0, 0, 0
    longest = (size * 8 + 6) // 7 + (size < 8)
    if kind is Kind.SAME:
        size = longest = len(values)
    elif kind is Kind.CHOICE:
        width = longest = max(len(text) for text in column.texts)
        table = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in column.texts), np.uint8)
        counts = np.array([len(text) for text in column.texts], np.int32)
        keep += [table, counts]
        texts, lengths = _address(table), _address(counts)
    elif kind is Kind.ADDRESS:
        longest = _LONGEST_ADDRESS
        if values.strides[1] != 1:
            raise ValueError("the octets of an address must lie side by side")
        if column.present is not None:
            keep.append(column.present)
            present, present_stride = _address(column.present), column.present.strides[0]
    octets = _COLUMN.pack(
        _address(values), values.strides[0], present, present_stride, texts, lengths,
        kind, size, values.dtype.kind == "i", width,
    )  # fmt: skip
    return octets, longest


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]  # a third of what array.ctypes.data takes
    return address
