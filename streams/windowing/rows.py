"""One-directional aggregates as columns, and how each column is merged. Pure, vectorised.

Which measures there are and how they are merged stands in schemas.fields; what follows from it is written once, here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columnar import Columnar, columnar
from schemas.fields import MEASURES, Field, Merge
from schemas.packets import BARE_SYN, I64, U16
from streams.windowing.keys import KEY, Groups, group, take
from streams.windowing.naming import NO_NUMBERS, Numbers, best

TCP_FLAGS = 0x1FF
NEVER = np.iinfo(np.int64).max
_SYN, _ACK = 0x02, 0x10

_FUNCTIONS = {Merge.SUM: np.add, Merge.OR: np.bitwise_or, Merge.MIN: np.minimum, Merge.MAX: np.maximum}


def _nothing(field: Field) -> int:
    """The neutral element."""
    return int(np.iinfo(field.type.numpy).max) if field.merge is Merge.MIN else 0


MERGED: Mapping[str, tuple[np.ufunc, int]] = {
    **{field.name: (_FUNCTIONS[field.merge], _nothing(field)) for field in MEASURES if field.merge in _FUNCTIONS},
    "first_ns": (np.minimum, NEVER),
    "last_ns": (np.maximum, -1),
}
"""Columns that are merged value by value: by which function, and its neutral element."""
FIRST = tuple(field.name for field in MEASURES if field.merge is Merge.FIRST)
"""Columns that go with `first_ns`: those of the first packet."""
COLUMNS: Mapping[str, np.dtype[Any]] = {
    **{field.name: np.dtype(field.type.numpy) for field in MEASURES},
    "first_ns": np.dtype(np.int64),
    "last_ns": np.dtype(np.int64),
}
"""All columns of Rows but the keys, with their types."""

NAMES: Mapping[str, np.dtype[Any]] = {
    "domain": np.dtype(np.uint64),
    "domain_ns": np.dtype(np.int64),
    "hello": np.dtype(np.uint64),
    "hello_ns": np.dtype(np.int64),
}
"""Numbers of streams.windowing.naming, and when they were seen last; all empty where no row has any."""

_ROW_BYTES = KEY.itemsize + sum(kind.itemsize for kind in COLUMNS.values())
_NAMES_BYTES = sum(kind.itemsize for kind in NAMES.values())


@columnar({**COLUMNS, **NAMES}, may_be_empty=NAMES)
class Rows(Columnar):
    """n one-directional aggregates of one window; a key may stand in several rows.

    A column each measure; of `tcp_flags` with BARE_SYN. Times (_ns) count from the window's start.
    """

    keys: npt.NDArray[Any]  # packed; before that, numbers of flows in a batch's dictionary. Shape (n,)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        return int(len(self) * (_ROW_BYTES + self.named * _NAMES_BYTES))

    @property
    def named(self) -> bool:
        """Whether rows may have names."""
        return len(self.domain) > 0

    def measures(self) -> dict[str, Any]:
        """The columns without the keys."""
        return {name: getattr(self, name) for name in COLUMNS}

    def at(self, places: npt.NDArray[np.intp]) -> "Rows":
        """Some of the rows."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return Rows(**{name: values[places] if len(values) else values for name, values in columns.items()})

    def packed(self, keys: npt.NDArray[Any], numbers: Numbers = NO_NUMBERS) -> "Rows":
        """With the packed keys of the dictionary instead of numbers in it, which ascend, each once.

        `numbers`: of the names of the dictionary's flows.
        """
        own = keys if len(self) == len(keys) else take(keys, self.keys)
        names = {}
        if len(numbers.domain):
            names = {"domain": numbers.domain[self.keys], "hello": numbers.hello[self.keys]}
            names |= {"domain_ns": self.last_ns, "hello_ns": self.last_ns}
        return Rows(keys=own, **self.measures(), **names)

    def with_names(self) -> "Rows":
        """With columns of names, whether any row has one or not."""
        return (
            self if self.named else replace(self, **{name: np.zeros(len(self), kind) for name, kind in NAMES.items()})
        )


def no_rows() -> Rows:
    """None at all."""
    return Rows(keys=np.zeros(0, KEY), **{name: np.zeros(0, kind) for name, kind in COLUMNS.items()})


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return no_rows()
    names: tuple[str, ...] = tuple(COLUMNS)
    if any(part.named for part in parts):
        parts, names = [part.with_names() for part in parts], (*COLUMNS, *NAMES)
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Rows(keys=np.concatenate([part.keys for part in parts]), **columns)


def compact(rows: Rows) -> Rows:
    """The same totals with each key once."""
    groups = group(rows.keys)
    columns = merged(groups, rows.measures()) | merged_names(groups, rows)
    return Rows(keys=take(rows.keys, groups.first_rows), **columns)


def merged_names(groups: Groups, rows: Rows) -> dict[str, Any]:
    """The columns of names, one row a group; none where no row has a name."""
    if not rows.named:
        return {}
    (domain, domain_ns), (hello, hello_ns) = (
        best(groups, numbers, seen_ns)
        for numbers, seen_ns in ((rows.domain, rows.domain_ns), (rows.hello, rows.hello_ns))
    )
    return {"domain": domain, "domain_ns": domain_ns, "hello": hello, "hello_ns": hello_ns}


def merged(groups: Groups, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of Rows without the keys, one row a group."""
    if len(groups) == len(groups.order):  # nothing to merge, as in a scan or a flood
        return {name: column.take(groups.order) for name, column in columns.items()}
    found: dict[str, Any] = {}
    ordered: dict[int, Any] = {}  # some columns are one and the same
    for name, (function, _) in MERGED.items():
        column = columns[name]
        if _is_one_value(column):  # many are: no flags, one packet each
            found[name] = np.full(len(groups), column[0])
            if function is np.add:
                found[name] *= np.diff(groups.starts, append=len(groups.order))
            continue
        if id(column) not in ordered:
            ordered[id(column)] = column.take(groups.order)
        found[name] = function.reduceat(ordered[id(column)], groups.starts)
    return found | {name: _of_the_first(groups, columns["first_ns"], columns[name]) for name in FIRST}


def _is_one_value(column: Any) -> bool:
    return bool(column[0] == column[-1] and (column == column[0]).all())


def _of_the_first(groups: Groups, first_ns: I64, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of each group, the value that goes with the lowest `first_ns`; of several, the lowest."""
    if not values.any():
        return np.zeros(len(groups), values.dtype)
    bits = values.dtype.itemsize * 8
    both = np.where(first_ns == NEVER, NEVER, first_ns << bits | values)  # an hour in ns takes 42 bits
    lowest = groups.lowest(both)
    first: npt.NDArray[Any] = np.where(lowest == NEVER, 0, lowest & ((1 << bits) - 1)).astype(values.dtype)
    return first  # 0 without a packet in this direction


def with_bare_syn(tcp_flags: U16) -> U16:
    """Mark the entries with a SYN without ACK; coalesced ones may be marked already."""
    bare = (tcp_flags & (_SYN | _ACK)) == _SYN
    marked: U16 = (tcp_flags & np.uint16(TCP_FLAGS | BARE_SYN)) | (bare.astype(np.uint16) << np.uint16(15))
    return marked
