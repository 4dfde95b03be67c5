"""Numbers that stand for tunnels in packed flow keys. Pure; numpy only.

A number says which tunnel, and which way through it: `index << 2 | directed << 1 | way`. The ends of a tunnel are kept
in the order of their addresses; way 1 is from the higher to the lower. `directed` is 0 when both ends are the same, and
for no tunnel at all (0), so that `reverse` needs no table.
"""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.packets import U8, U32, FlowKeys

TUNNEL = np.dtype(
    [("low", "u1", 16), ("high", "u1", 16), ("tunnel_id", "<u4"), ("tunnel_type", "u1"), ("zero", "u1", 3)]
)
Table = npt.NDArray[np.void]
"""Of dtype TUNNEL, by index; 0 is no tunnel."""
NO_TUNNELS: Table = np.zeros(1, TUNNEL)
MANY = 1 << 16  # anybody can send packets of made-up tunnels: from here on those that are not in use are forgotten


class Tunnels:
    """The tunnels of one partition. A tunnel keeps its number as long as it is in use."""

    def __init__(self, many: int = MANY) -> None:
        self._index: dict[bytes, int] = {}
        self._table = NO_TUNNELS.copy()
        self._free: deque[int] = deque()
        self._many = self._limit = many

    def __len__(self) -> int:
        return len(self._index)

    def numbers(self, flows: FlowKeys) -> U32:
        """Of each flow of a dictionary, shape (n,)."""
        numbers = np.zeros(len(flows), np.uint32)
        inside = np.flatnonzero(flows.tunnel_type)
        if not len(inside):
            return numbers
        source, target = flows.outer_src_addr[inside], flows.outer_dst_addr[inside]
        way = _text(source) > _text(target)
        found = np.zeros(len(inside), TUNNEL)
        found["low"], found["high"] = np.where(way[:, None], target, source), np.where(way[:, None], source, target)
        found["tunnel_id"], found["tunnel_type"] = flows.tunnel_id[inside], flows.tunnel_type[inside]
        distinct, inverse = np.unique(_text(found), return_inverse=True)
        index = np.array([self._number(octets) for octets in distinct.tolist()], np.uint32)[inverse]
        numbers[inside] = index << 2 | (_text(source) != _text(target)).astype(np.uint32) << 1 | way
        return numbers

    def _number(self, octets: bytes) -> int:
        known = self._index.get(octets)
        if known is not None:
            return known
        new = self._free.popleft() if self._free else len(self._index) + 1
        if new == len(self._table):  # into another array: those that were given out stay as they are
            self._table = np.concatenate([self._table, np.zeros(new, TUNNEL)])
        self._table[new] = np.frombuffer(octets.ljust(TUNNEL.itemsize, b"\0"), TUNNEL)[0]
        self._index[octets] = new
        return new

    def table(self) -> Table:
        """What the numbers so far stand for."""
        return self._table

    def again(self, numbers: U32, table: Table) -> U32:
        """Our numbers for those that another one gave, whose table this is."""
        distinct, inverse = np.unique(numbers >> np.uint32(2), return_inverse=True)
        ours = [self._number(table[index].tobytes().rstrip(b"\0")) if index else 0 for index in distinct.tolist()]
        return np.array(ours, np.uint32)[inverse] << np.uint32(2) | numbers & np.uint32(3)

    @property
    def crowded(self) -> bool:
        """Whether it is time for `keep`."""
        return len(self._index) >= self._limit

    def keep(self, numbers: U32) -> None:
        """Forget all tunnels but those of these numbers; the numbers of the others are given to new ones."""
        used = set(np.unique(numbers >> np.uint32(2)).tolist())
        for octets, index in list(self._index.items()):
            if index not in used:
                del self._index[octets]
                self._free.append(index)
        self._limit = max(self._many, 2 * len(self._index))


def reverse(numbers: U32) -> U32:
    """The same tunnels, the other way."""
    return numbers ^ (numbers >> np.uint32(1) & np.uint32(1))


def columns(table: Table, numbers: U32) -> dict[str, Any]:
    """The columns of FlowColumns that say which tunnel."""
    rows = table.take(numbers >> np.uint32(2))
    way = (numbers & np.uint32(1)).astype(np.bool_)[:, None]
    return {
        "tunnel_type": rows["tunnel_type"].copy(),
        "tunnel_id": rows["tunnel_id"].astype(np.uint32),
        "outer_src_addr": np.where(way, rows["high"], rows["low"]),
        "outer_dst_addr": np.where(way, rows["low"], rows["high"]),
    }


def _text(values: U8 | Table) -> npt.NDArray[np.bytes_]:
    """Each row's octets as one value, which numpy can compare and sort."""
    octets = values.itemsize if values.ndim == 1 else values.shape[1]
    return np.ascontiguousarray(values).view(f"S{octets}").reshape(-1)
