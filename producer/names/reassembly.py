"""What comes in parts: at most so many flows, parts, octets, for at most so long. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from producer.names.columns import Rows

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True, kw_only=True)
class Unfinished:
    """Something of which parts are here."""

    row: Rows  # (1,): of its newest part
    begun_ns: int
    copies: int = 0
    parts: int = 0  # copies, but that of a datagram in fragments is one
    octets: int = 0
    is_cut: bool = False  # one of them was longer than what was copied
    begin: int | None = None  # sequence number of its first octet, once that is known
    ids: list[bytes] = field(default_factory=list)  # connection ids whose keys it may have
    pieces: dict[int, bytes] = field(default_factory=dict)  # octets by offset or sequence number

    def add(self, offset: int, octets: bytes) -> None:
        """Another piece; of two at one place the longer one stays."""
        known = len(self.pieces.get(offset, b""))
        if len(octets) > known:
            self.pieces[offset] = octets
            self.octets += len(octets) - known


def prefix(pieces: dict[int, bytes], begin: int, modulus: int = 1 << 62) -> bytes:
    """The octets from `begin` on, up to the first gap; where pieces overlap, the earlier one counts."""
    found = bytearray()
    for offset, octets in sorted(((offset - begin) % modulus, octets) for offset, octets in pieces.items()):
        if offset > len(found):
            break
        found += octets[len(found) - offset :]
    return bytes(found)


class Waiting(Generic[K, V]):
    """Values by key, at most `most`, the first put first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """None: there is none."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> V | None:
        """Returns the oldest one when it had to go for this one."""
        self._values[key] = value
        return self._values.popitem(last=False)[1] if len(self._values) > self._most else None

    def pop(self, key: K) -> V | None:
        """Takes one out."""
        return self._values.pop(key, None)

    def taken(self, is_due: Callable[[V], bool]) -> list[V]:
        """Takes out the oldest ones, up to the first that is not due."""
        found: list[V] = []
        while self._values and is_due(next(iter(self._values.values()))):
            found.append(self._values.popitem(last=False)[1])
        return found

    def values(self) -> list[V]:
        """All, the oldest first."""
        return list(self._values.values())
