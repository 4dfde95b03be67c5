"""Packed flow keys, and exact grouping of rows by them. Pure; numpy only.

A key is seen either as a structured row (KEY) or as 64-bit words. Grouping sorts by a seeded hash
of the words and then compares the words themselves, so that it is as fast as a hash and never wrong by one.
"""

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.fields import KEYS, Kind
from schemas.packets import I32, I64, U32, FlowKeys

U64 = npt.NDArray[np.uint64]
Keys = npt.NDArray[np.void]  # of dtype KEY
N = TypeVar("N")

_PLAIN = tuple(field for field in KEYS if not field.tunnel and field.name not in {"node", "tunnel_type"})

_COPIED = tuple(
    field.name
    for field in _PLAIN
    if field.kind not in {Kind.ADDRESS, Kind.NAME} and field.name not in {"icmp_type", "icmp_code"}
)


def _layout() -> np.dtype[Any]:
    """Addresses first, then by size, so that everything is aligned; as long as a number of 64-bit words."""
    numbers = [("node", "<u4"), ("interface", "<u4"), ("tunnel", "<u4")]
    numbers += [(field.name, field.type.numpy) for field in _PLAIN if field.kind not in {Kind.ADDRESS, Kind.NAME}]
    numbers.sort(key=lambda column: -np.dtype(column[1]).itemsize)
    members: list[Any] = [("src_addr", "u1", 16), ("dst_addr", "u1", 16), *numbers]
    padding = -np.dtype(members).itemsize % 8
    return np.dtype([*members, *([("padding", "u1", padding)] if padding else [])])


KEY = _layout()
"""The keys of schemas.fields; `node` and `interface` are numbers of names (Names), `tunnel` one of
streams.windowing.tunnels (0: none)."""
WORDS = KEY.itemsize // 8

_SEED = np.uint64(secrets.randbits(64))  # a sender of packets cannot choose them to collide
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


MANY = 1 << 12  # containers come and go with names of their own: from here on those that are not in use are forgotten


class Names(Generic[N]):
    """Numbers for the names of a partition, of nodes or interfaces. A name keeps its number as long as it is in use."""

    def __init__(self, many: int = MANY) -> None:
        self._numbers: dict[N, int] = {}
        self._names: tuple[N, ...] | None = ()
        self._list: list[N] = []
        self._free: deque[int] = deque()
        self._many = self._limit = many

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[N]:
        return iter(self._numbers)

    def number(self, name: N) -> int:
        """The number of a name."""
        known = self._numbers.get(name)
        if known is not None:
            return known
        if self._free:
            new = self._free.popleft()
            self._list[new] = name
        else:
            new = len(self._list)
            self._list.append(name)
        self._numbers[name], self._names = new, None
        return new

    def all(self) -> tuple[N, ...]:
        """What the numbers stand for."""
        if self._names is None:
            self._names = tuple(self._list)
        return self._names

    @property
    def crowded(self) -> bool:
        """Whether it is time for `keep`."""
        return len(self._numbers) >= self._limit

    def keep(self, numbers: U32 | I64) -> None:
        """Forget all names but those of these numbers; the numbers of the others are given to new ones."""
        used = set(np.unique(numbers).tolist())
        for name, number in list(self._numbers.items()):
            if number not in used:
                del self._numbers[name]
                self._free.append(number)
        self._limit = max(self._many, 2 * len(self._numbers))


def chosen(numbers: U32, names: tuple[str, ...]) -> tuple[I32, tuple[str, ...]]:
    """The names that are used, and the numbers among them."""
    used = np.flatnonzero(np.bincount(numbers, minlength=len(names)))
    places = np.zeros(len(names), np.int32)
    places[used] = np.arange(len(used))
    return places[numbers], tuple(names[number] for number in used.tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Rows sorted so that equal keys are neighbours."""

    order: npt.NDArray[np.intp]  # row numbers, sorted by key
    starts: npt.NDArray[np.intp]  # where in `order` each group begins

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def first_rows(self) -> npt.NDArray[np.intp]:
        """One row number of each group."""
        return self.order[self.starts]

    def total(self, values: I64) -> I64:
        """Sum of each group, in 64-bit integers."""
        return self.reduce(np.add, values)

    def either(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bitwise or of each group."""
        return self.reduce(np.bitwise_or, values)

    def lowest(self, values: I64) -> I64:
        """Minimum of each group."""
        return self.reduce(np.minimum, values)

    def highest(self, values: I64) -> I64:
        """Maximum of each group."""
        return self.reduce(np.maximum, values)

    def reduce(self, function: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Each group by a ufunc such as np.add."""
        if not len(self.starts):
            return values[:0]
        reduced: npt.NDArray[Any] = function.reduceat(values[self.order], self.starts)
        return reduced


def pack(flows: FlowKeys, *, node: int, interfaces: I32, tunnels: U32) -> Keys:
    """The keys of a batch's flow dictionary, shape (n,).

    `interfaces[i]` is the number of the i-th interface name, `tunnels` those of the flows' tunnels.
    """
    keys = np.zeros(len(flows), KEY)
    whole = words(keys)  # the addresses come first; numpy copies them ten times as fast by words
    whole[:, :2], whole[:, 2:4] = (np.ascontiguousarray(each).view("<u8") for each in (flows.src_addr, flows.dst_addr))
    for name in _COPIED:
        keys[name] = getattr(flows, name)
    keys["node"] = node
    keys["tunnel"] = tunnels
    keys["interface"] = interfaces[flows.interface]
    icmp = (flows.protocol == 1) | (flows.protocol == 58)
    keys["icmp_type"] = np.where(icmp, flows.icmp_type, 0)
    keys["icmp_code"] = np.where(icmp, flows.icmp_code, 0)
    return keys


def words(keys: Keys) -> U64:
    """The same memory as 64-bit words, shape (n, WORDS)."""
    return np.ascontiguousarray(keys).view("<u8").reshape(-1, WORDS)


def take(keys: Keys, rows: npt.NDArray[Any]) -> Keys:
    """keys[rows], five times faster: numpy copies structured rows field by field."""
    taken: Keys = words(keys).take(rows, axis=0).view(KEY).reshape(-1)
    return taken


def hashes(keys: Keys) -> U64:
    """A 64-bit hash of each key, seeded for this process."""
    parts = words(keys)
    return seeded_hash(*(parts[:, column] for column in range(WORDS)))


def seeded_hash(*columns: npt.NDArray[np.unsignedinteger[Any]]) -> U64:
    """A 64-bit hash of each row of these columns, seeded for this process."""
    mixed = np.full(len(columns[0]), _SEED, np.uint64)
    for column in columns:
        stir(mixed, column)
    return mixed


def stir(mixed: U64, column: npt.NDArray[np.unsignedinteger[Any]]) -> None:
    """Mix a column into hashes, in place."""
    mixed ^= column
    mixed *= _MIX
    mixed ^= mixed >> _SHIFT


def _changes(rows: U64) -> npt.NDArray[np.bool_]:
    """Where a row differs from the one before it."""
    differs = np.zeros(len(rows) - 1, np.bool_)
    for column in range(WORDS):
        differs |= rows[1:, column] != rows[:-1, column]
    return differs


def group(keys: Keys, hashed: U64 | None = None) -> Groups:
    """Group equal keys. Exact, whatever the hashes are; `hashed` may give them."""
    if not len(keys):
        return Groups(order=np.zeros(0, np.intp), starts=np.zeros(0, np.intp))
    hashed = hashes(keys) if hashed is None else hashed
    order = np.argsort(hashed)
    rows = words(keys).take(order, axis=0)
    changes = _changes(rows)
    if np.any(changes & (hashed[order[1:]] == hashed[order[:-1]])):  # a collision: sort by the keys themselves
        order = np.lexsort(words(keys).T)
        changes = _changes(words(keys).take(order, axis=0))
    starts = np.flatnonzero(np.concatenate(([True], changes)))
    return Groups(order=order, starts=starts)


def group_values(values: U64) -> Groups:
    """Group equal numbers."""
    order = np.argsort(values)
    ordered = values.take(order)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(order)])
    return Groups(order=order, starts=starts)
