"""One-directional aggregates of a window as columns, and how each column is merged. Pure, vectorised.

MEASURES is the one place that says what is known of a flow besides its key; what follows from it is written once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.packets import BARE_SYN, I64, U8, U16, U32
from streams.windowing.keys import KEY, Groups, Keys, group, take

TCP_FLAGS = 0x1FF
NEVER = np.iinfo(np.int64).max
_SYN, _ACK = 0x02, 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How a column is merged."""

    dtype: Any
    merge: np.ufunc
    nothing: int  # neutral element


MEASURES: Mapping[str, Measure] = {
    "packets": Measure(dtype=np.int64, merge=np.add, nothing=0),
    "bytes": Measure(dtype=np.int64, merge=np.add, nothing=0),
    "tcp_flags": Measure(dtype=np.uint16, merge=np.bitwise_or, nothing=0),
    "first_ns": Measure(dtype=np.int64, merge=np.minimum, nothing=NEVER),
    "last_ns": Measure(dtype=np.int64, merge=np.maximum, nothing=-1),
    "min_ttl": Measure(dtype=np.uint8, merge=np.minimum, nothing=2**8 - 1),
    "max_ttl": Measure(dtype=np.uint8, merge=np.maximum, nothing=0),
    "min_packet_bytes": Measure(dtype=np.uint32, merge=np.minimum, nothing=2**32 - 1),
    "max_packet_bytes": Measure(dtype=np.uint32, merge=np.maximum, nothing=0),
}
"""All but `tos`, which goes with `first_ns`: that of the first packet."""

_ROW_BYTES = KEY.itemsize + sum(np.dtype(measure.dtype).itemsize for measure in MEASURES.values()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n one-directional aggregates of one window; a key may stand in several rows."""

    keys: Keys
    packets: I64
    bytes: I64
    tcp_flags: U16  # all flags, and BARE_SYN
    first_ns: I64  # since the window's start
    last_ns: I64
    min_ttl: U8
    max_ttl: U8
    min_packet_bytes: U32  # on the wire
    max_packet_bytes: U32
    tos: U8  # of the first packet

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        return int(len(self) * _ROW_BYTES)

    def measures(self) -> dict[str, Any]:
        """The columns without the keys."""
        return {name: getattr(self, name) for name in (*MEASURES, "tos")}


def no_rows() -> Rows:
    """None at all."""
    columns: dict[str, Any] = {name: np.zeros(0, measure.dtype) for name, measure in MEASURES.items()}
    return Rows(keys=np.zeros(0, KEY), tos=np.zeros(0, np.uint8), **columns)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return no_rows()
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*MEASURES, "tos")}
    return Rows(keys=np.concatenate([part.keys for part in parts]), **columns)


def compact(rows: Rows) -> Rows:
    """The same totals with each key once."""
    groups = group(rows.keys)
    return Rows(keys=take(rows.keys, groups.first_rows), **merged(groups, rows.measures()))


def merged(groups: Groups, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of Rows without the keys, one row a group."""
    if len(groups) == len(groups.order):  # nothing to merge, as in a scan or a flood
        return {name: column.take(groups.order) for name, column in columns.items()}
    found: dict[str, Any] = {}
    ordered: dict[int, Any] = {}  # some columns are one and the same
    for name, measure in MEASURES.items():
        column = columns[name]
        if _is_one_value(column):  # many are: no flags, one packet each
            found[name] = np.full(len(groups), column[0])
            if measure.merge is np.add:
                found[name] *= np.diff(groups.starts, append=len(groups.order))
            continue
        if id(column) not in ordered:
            ordered[id(column)] = column.take(groups.order)
        found[name] = measure.merge.reduceat(ordered[id(column)], groups.starts)
    found["tos"] = first_tos(groups, columns["first_ns"], columns["tos"])
    return found


def _is_one_value(column: Any) -> bool:
    return bool(column[0] == column[-1] and (column == column[0]).all())


def first_tos(groups: Groups, first_ns: I64, tos: U8) -> U8:
    """Of each group, the `tos` that goes with the lowest `first_ns`; of several, the lowest."""
    if not tos.any():
        return np.zeros(len(groups), np.uint8)
    both = np.where(first_ns == NEVER, NEVER, first_ns << 8 | tos)  # an hour in ns takes 42 bits
    lowest = groups.lowest(both)
    return np.where(lowest == NEVER, 0, lowest & 0xFF).astype(np.uint8)  # no packet in this direction: 0


def with_bare_syn(tcp_flags: U16) -> U16:
    """Mark the entries with a SYN without ACK; coalesced ones may be marked already."""
    bare = (tcp_flags & (_SYN | _ACK)) == _SYN
    marked: U16 = (tcp_flags & np.uint16(TCP_FLAGS | BARE_SYN)) | (bare.astype(np.uint16) << np.uint16(15))
    return marked
