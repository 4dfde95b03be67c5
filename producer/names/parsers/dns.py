"""DNS messages of a batch to columns, by dns.c. Pure."""

import ctypes
import secrets
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.native import address
from producer.names.parsers.native import required
from schemas.packets import I64, U8, U16

DATAGRAM, STREAM, MULTICAST = range(3)
"""How messages stand in a copy: UDP; TCP, each behind its length; mDNS, whose additional records count, too."""
READ, SHORT, BROKEN = range(3)
"""What became of a copy: read whole; it ends too early; it cannot be DNS."""

ROW = np.dtype(
    [
        ("name_hash", "=u8"),
        ("copy", "=i4"),  # of which it is
        ("name", "=i4"),  # in names
        ("answers", "=i4"),  # in answers, -1: none
        ("ttl", "=u4"),  # seconds; 0 without answers
        ("address", "=i4"),  # its first one
        ("addresses", "=i4"),
        ("ech", "=i4"),  # where in the copy an ECHConfigList stands, -1: nowhere
        ("ech_bytes", "=u2"),
        ("id", "=u2"),
        ("type", "=u2"),
        ("rcode", "u1"),
        ("is_response", "u1"),
        ("outcome", "u1"),  # READ, SHORT, BROKEN
        ("unused", "u1", 3),
    ]
)
"""struct row of dns.c: a question, or a response that has none."""
_OPAQUE = np.dtype((np.void, ROW.itemsize))

_TEXTS = struct.Struct("=4QQQqqq")
_OUT = struct.Struct("=3Q4q")
_ROWS, _ADDRESSES, _TEXT_BYTES = 4096, 16_384, 512 * 1024  # of one call; more copies are further calls
_SEED = secrets.randbits(64)  # nobody outside knows which names meet in the table


class DnsRows(NamedTuple):
    """n rows of the copies of a batch."""

    rows: npt.NDArray[np.void]  # (n,) of ROW
    outcomes: U8  # (copies,) READ, SHORT, BROKEN
    names: list[str]  # lower case, no final dot; "." is the root
    answers: list[tuple[str, ...]]  # addresses, targets and names, in their order
    addresses: U8  # (m, 16)


class _Texts:
    """struct texts: place for different texts, and what is in it after a call."""

    def __init__(self) -> None:
        self.octets = np.empty(_TEXT_BYTES, np.uint8)
        self.end = np.empty(_ROWS, np.int64)
        self.hash = np.empty(_ROWS, np.uint64)
        self.table = np.empty(4 * _ROWS, np.uint32)

    def described(self) -> bytes:
        self.table.fill(0)
        places = (address(array) for array in (self.octets, self.end, self.hash, self.table))
        return _TEXTS.pack(*places, len(self.table) - 1, _SEED, _TEXT_BYTES, 0, _ROWS)

    def strings(self, count: int) -> list[str]:
        if not count:
            return []
        ends = self.end[:count].tolist()
        text = self.octets[: ends[-1]].tobytes().decode("ascii")
        return [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


class DnsParser:
    """Holds the places that dns.c writes to (2 MB). Raises EnvironmentProblem where it was not compiled."""

    def __init__(self) -> None:
        self._read = _function()
        self._rows = np.empty(_ROWS, ROW)
        self._addresses = np.empty((_ADDRESSES, 16), np.uint8)
        self._names, self._answers = _Texts(), _Texts()

    def read(self, octets: memoryview, offsets: I64, lengths: U16, framings: U8, cut: U8) -> DnsRows:
        """Copies of lengths[i] octets from octets[offsets[i]] on; cut[i]: more was on the wire.

        Raises ValueError when one reaches behind the end of `octets`.
        """
        count = len(offsets)
        if count and (int(offsets.min()) < 0 or int((offsets + lengths).max()) > len(octets)):
            raise ValueError("a copy reaches behind its batch")
        arrays = (
            np.frombuffer(octets, np.uint8),
            np.ascontiguousarray(offsets, np.int64),
            np.ascontiguousarray(lengths, np.uint16),
            np.ascontiguousarray(framings, np.uint8),
            np.ascontiguousarray(cut, np.uint8),
        )
        outcomes = np.empty(count, np.uint8)
        parts: list[DnsRows] = []
        first = 0
        while first < count or not parts:
            first, part = self._call(arrays, first, count, outcomes)
            parts.append(part)
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _call(self, arrays: tuple[npt.NDArray[Any], ...], first: int, count: int, outcomes: U8) -> tuple[int, DnsRows]:
        out = bytearray(
            _OUT.pack(*(address(array) for array in (self._rows, self._addresses, outcomes)), _ROWS, _ADDRESSES, 0, 0)
            + self._names.described()
            + self._answers.described()
        )
        places = (address(array) for array in arrays)
        first = self._read(*places, first, count, (ctypes.c_char * len(out)).from_buffer(out))
        rows, addresses = _OUT.unpack_from(out)[-2:]
        names = _TEXTS.unpack_from(out, _OUT.size)[-2]
        answers = _TEXTS.unpack_from(out, _OUT.size + _TEXTS.size)[-2]
        return first, DnsRows(
            self._rows[:rows].copy(),
            outcomes,
            self._names.strings(names),
            [tuple(text.split("\n")) for text in self._answers.strings(answers)],
            self._addresses[:addresses].copy(),
        )


def _joined(parts: list[DnsRows]) -> DnsRows:
    names: list[str] = []
    answers: list[tuple[str, ...]] = []
    addresses = 0
    for part in parts:
        part.rows["name"] += len(names)
        part.rows["answers"][part.rows["answers"] >= 0] += len(answers)
        part.rows["address"] += addresses
        names += part.names
        answers += part.answers
        addresses += len(part.addresses)
    return DnsRows(
        np.concatenate([part.rows.view(_OPAQUE) for part in parts]).view(ROW),
        parts[0].outcomes,
        names,
        answers,
        np.concatenate([part.addresses for part in parts]),
    )


@cache
def _function() -> Callable[..., int]:
    pointers = [ctypes.c_void_p] * 5
    return required(
        "dns", "ayaflow_dns_read", ctypes.c_int64, [*pointers, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    )
