"""Which flow records came before, in bounded memory: by identities.c, else by Python's sets.

Identities are kept in two generations. When the young one is full it becomes the old one, and what was the old one is
forgotten: so the last `most` identities at least are known, and twice as many at most are kept.
"""

import binascii
import ctypes
import hashlib
import secrets
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.native import address, load

OCTETS = 16
Identities = npt.NDArray[np.uint64]
"""Shape (n, 2)."""

_SOURCE = Path(__file__).with_name("identities.c")
_enter = load(
    _SOURCE,
    "ayaflow_enter",
    ctypes.c_int64,
    [*(ctypes.c_void_p, ctypes.c_int64) * 2, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p],
)
_FEWEST = 1 << 10  # slots
_SEED = secrets.randbits(64)  # or somebody could choose identities that all want one slot


class Seen(Protocol):
    """What came before."""

    def fresh(self, identities: Identities) -> npt.NDArray[np.bool_]:
        """Which are new, in their order; from now on none of them is."""


def seen(most: int) -> Seen:
    """Nothing came yet. `most`: how many are known at least."""
    return Tables(most) if _enter is not None else Sets(most)


class Tables:
    """By identities.c: 32 to 64 octets an identity."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._count = 0  # in the young generation
        self._young = self._old = _empty(_FEWEST)

    def fresh(self, identities: Identities) -> npt.NDArray[np.bool_]:
        """Which are new."""
        identities = np.ascontiguousarray(identities)
        result = np.empty(len(identities), np.uint8)
        begin = 0
        while begin < len(identities):
            if self._count == self._most:
                self._old, self._young, self._count = self._young, _empty(_FEWEST), 0
            end = min(len(identities), begin + self._most - self._count)
            if 2 * (self._count + end - begin) > len(self._young):
                self._grow(self._count + end - begin)
            self._count += _entered(self._young, self._old, identities[begin:end], result[begin:end])
            begin = end
        return result.view(np.bool_)

    def _grow(self, count: int) -> None:
        before, self._young = self._young, _empty(1 << (2 * count - 1).bit_length())
        there = before[before[:, 1] != 0]
        _entered(self._young, _empty(1), there, np.empty(len(there), np.uint8))


class Sets:
    """By Python's sets: some 100 octets an identity."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def fresh(self, identities: Identities) -> npt.NDArray[np.bool_]:
        """Which are new."""
        result = np.zeros(len(identities), np.bool_)
        for number, identity in enumerate(np.ascontiguousarray(identities).view("V16")[:, 0].tolist()):
            if identity in self._young or identity in self._old:
                continue
            if len(self._young) == self._most:
                self._old, self._young = self._young, set()
            self._young.add(identity)
            result[number] = True
        return result


def _empty(slots: int) -> Identities:
    return np.zeros((slots, 2), np.uint64)


def _entered(young: Identities, old: Identities, identities: Identities, fresh: npt.NDArray[np.uint8]) -> int:
    assert _enter is not None
    found: int = _enter(
        address(young), len(young), address(old), len(old), _SEED, address(identities), len(identities), address(fresh)
    )
    return found


def of_texts(texts: pa.Array) -> Identities:
    """Of record_ids: what their 32 hexadecimal digits stand for, of other texts a hash."""
    if pc.all(pc.equal(pc.binary_length(texts), 2 * OCTETS)).as_py():
        _, ends, data = texts.buffers()
        first = np.frombuffer(ends, np.int32, 1, 4 * texts.offset)[0] if len(texts) else 0
        digits = memoryview(data or b"")[first : first + 2 * OCTETS * len(texts)]
        try:
            return np.frombuffer(binascii.unhexlify(digits), np.uint64).reshape(-1, 2)
        except binascii.Error:
            pass
    octets = b"".join(map(_identity, texts.to_pylist()))
    return np.frombuffer(octets, np.uint64).reshape(-1, 2)


def _identity(text: str) -> bytes:
    if len(text) == 2 * OCTETS:
        try:
            return binascii.unhexlify(text)
        except ValueError:
            pass
    return hashlib.blake2b(text.encode(), digest_size=OCTETS).digest()
