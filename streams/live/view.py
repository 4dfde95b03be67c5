"""What a node is doing now: totals of the last second and the connections with most bytes. Pure.

For each open window a table of one-directional rows, sorted by a 64-bit hash of the key, is brought up to date once
a second: the second's rows are grouped, found by binary search and added, so that the cost goes with the new rows.
Two keys of one hash would be shown as one connection; nothing but this view uses the hash alone. (And it may name
another interface or tunnel, when thousands of new ones came since the window was stored.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas import addresses
from schemas.fields import DIRECTIONS, FIELDS, Field, Kind
from schemas.flows import FlowColumns
from schemas.packets import BARE_SYN, I64
from streams.partition.storing import WindowId
from streams.windowing.biflow import canonical, merge
from streams.windowing.initiators import Initiators
from streams.windowing.keys import U64, Keys, group_values, hashes, take
from streams.windowing.naming import NO_NAMES, RANK
from streams.windowing.naming import Table as Naming
from streams.windowing.rows import FIRST, MERGED, NAMES, Rows, compact, concatenate, no_rows
from streams.windowing.tunnels import Table

MOST_ROWS = 1 << 20  # of a node; flows that come later are in the totals, not in the top list
MOST_TABLES = 64  # of a node, likewise
COUNTED = (
    "non_ip_packets",
    "malformed_packets",
    "unknown_link_packets",
    "ring_full_packets",
    "coalesced_packets",
    "copied_packets",
)
"""Of EpochCounters, in a row of an interface."""
TOTALS = ("packets", "bytes", "primary_packets", "primary_bytes")
"""Of rows, likewise."""
_STALE_SECONDS = (
    10.0  # behind its length, in which a window got nothing: then it is over, whatever its node's clock says
)


@dataclass(slots=True)
class _Table:
    """The rows of one open window. All columns have the same length; `key_hash` ascends."""

    key_hash: U64
    flow_hash: U64  # the same for both directions
    rows: Rows
    heard: float = 0.0  # when it got something, by our clock

    @classmethod
    def empty(cls) -> "_Table":
        return cls(key_hash=np.zeros(0, np.uint64), flow_hash=np.zeros(0, np.uint64), rows=no_rows())

    def add(self, rows: Rows, room: int) -> None:
        """`room`: for so many new ones."""
        rows = compact(_primary(rows))
        key_hash = hashes(rows.keys)
        at = np.searchsorted(self.key_hash, key_hash)
        found = np.zeros(len(rows), np.bool_)
        inside = at < len(self.key_hash)
        found[inside] = self.key_hash[at[inside]] == key_hash[inside]
        old, known = at[found], np.flatnonzero(found)
        earlier = known[rows.first_ns[known] < self.rows.first_ns[old]]
        for name in FIRST:
            getattr(self.rows, name)[at[earlier]] = getattr(rows, name)[earlier]
        for name, (function, _) in MERGED.items():
            function.at(getattr(self.rows, name), old, getattr(rows, name)[known])
        if rows.named or self.rows.named:
            self.rows, rows = self.rows.with_names(), rows.with_names()
            self._rename(rows.at(known), old)
        new = np.flatnonzero(~found)[: max(0, room)]
        if not len(new):
            return
        new = new[np.argsort(key_hash[new])]
        flow_hash = _conversations(take(rows.keys, new))
        where = np.searchsorted(self.key_hash, key_hash[new])
        self.key_hash = np.insert(self.key_hash, where, key_hash[new])
        self.flow_hash = np.insert(self.flow_hash, where, flow_hash)
        columns = [field.name for field in fields(Rows) if rows.named or field.name not in NAMES]
        self.rows = Rows(
            **{name: np.insert(getattr(self.rows, name), where, getattr(rows, name)[new]) for name in columns}
        )

    def _rename(self, rows: Rows, places: npt.NDArray[np.intp]) -> None:
        """Take those names of `rows` that are as good as what stands at `places`; they come after it."""
        for name in ("domain", "hello"):
            ours, numbers = getattr(self.rows, name), getattr(rows, name)
            as_good = np.flatnonzero((numbers > 0) & ((numbers & RANK) >= (ours[places] & RANK)))
            ours[places[as_good]] = numbers[as_good]

    def of_flows(self, flow_hash: U64, shift_ns: int) -> Rows:
        """Both directions of some flows, with times moved by `shift_ns`."""
        return self._at(np.flatnonzero(np.isin(self.flow_hash, flow_hash)), shift_ns)

    def with_syn(self) -> Rows:
        """Rows that say who began."""
        return self._at(np.flatnonzero(self.rows.tcp_flags & BARE_SYN))

    def _at(self, index: npt.NDArray[np.intp], shift_ns: int = 0) -> Rows:
        columns = {name: column[index] for name, column in self.rows.measures().items()}
        columns["first_ns"] += shift_ns
        columns["last_ns"] += shift_ns
        if self.rows.named:
            columns |= {name: getattr(self.rows, name)[index] for name in NAMES}
            columns["domain_ns"] = columns["hello_ns"] = columns["last_ns"]
        return Rows(keys=take(self.rows.keys, index), **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """What a node's messages brought since the last summary."""

    node: str
    clock_ns: int  # the node's clock, of its last message; 0: not known
    interval_ms: int  # time that the totals cover
    rows: tuple[tuple[WindowId, Rows], ...]
    totals: dict[tuple[str, int], tuple[int, int, int, int]]  # (interface, direction) -> TOTALS
    counted: dict[tuple[str, int], dict[str, int]]  # likewise -> COUNTED, of epochs that were closed
    open_windows: int
    lag_messages: int


class LiveNode:
    """The live view of one node. Not safe for use by two threads at once."""

    def __init__(self, top: int, initiators: Initiators) -> None:
        """`initiators`: what is known so far; learns what the view sees, which is there before it is stored."""
        self._top, self._initiators = top, initiators
        self._tables: dict[WindowId, _Table] = {}
        self.active_flows = 0

    def summarize(
        self,
        second: Second,
        now: float,
        node_names: tuple[str, ...],
        interface_names: tuple[str, ...],
        tunnels: Table,
        *,
        naming: Naming = NO_NAMES,
    ) -> dict[str, Any]:
        """Take in a second; the LiveStats message. `now`: our clock, in seconds."""

        def merged(rows: Rows, window_begin: int) -> FlowColumns:
            return merge(
                rows,
                window_begin=window_begin,
                window_seconds=0,
                node_names=node_names,
                interface_names=interface_names,
                tunnels=tunnels,
                naming=naming,
                initiators=self._initiators,
            )

        parts: dict[WindowId, list[Rows]] = {}
        for window, rows in second.rows:
            parts.setdefault(window, []).append(rows)
        for window in sorted(parts):
            if window in self._tables or len(self._tables) < MOST_TABLES:
                table = self._tables.setdefault(window, _Table.empty())
                table.heard = now
                table.add(concatenate(parts[window]), MOST_ROWS - self._rows())
        for window in self._over(second.clock_ns, now):
            began = self._tables.pop(window).with_syn()
            if len(began):
                self._initiators.learn(merged(began, window.start))
        heaviest = self._heaviest()
        return {
            "node": second.node,
            "time": _time(second.clock_ns // 1000),
            "interval_ms": second.interval_ms,
            "interfaces": _interfaces(second),
            "active_flows": self.active_flows,
            "open_windows": second.open_windows,
            "lag_messages": second.lag_messages,
            "top": self._top_flows(heaviest, merged),
        }

    def _rows(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    def _over(self, clock_ns: int, now: float) -> list[WindowId]:
        """Windows of which nothing more is to come: the node's clock is past them, or they had nothing for long."""
        return [
            window
            for window, table in sorted(self._tables.items(), key=lambda entry: entry[0])
            if window.end_ns <= clock_ns or now - table.heard > window.seconds + _STALE_SECONDS
        ]

    @property
    def nbytes(self) -> int:
        """Memory of its tables; another thread may ask."""
        return sum(table.rows.nbytes for table in tuple(self._tables.values()))

    def _heaviest(self) -> U64:
        """Count the flows of all open windows; the hashes of those with most bytes."""
        tables = list(self._tables.values())
        if not tables:
            self.active_flows = 0
            return np.zeros(0, np.uint64)
        flow_hash = np.concatenate([table.flow_hash for table in tables])
        groups = group_values(flow_hash)
        self.active_flows = len(groups)
        rows = groups.first_rows
        if len(rows) > self._top:
            total = groups.total(np.concatenate([table.rows.bytes for table in tables]))
            rows = rows[np.argpartition(total, -self._top)[-self._top :]]
        return flow_hash[rows]

    def _top_flows(self, chosen: U64, merged: Callable[[Rows, int], FlowColumns]) -> list[dict[str, Any]]:
        if not self._tables:
            return []
        first = min(window.start for window in self._tables)
        rows = concatenate(
            [table.of_flows(chosen, (window.start - first) * 1_000_000_000) for window, table in self._tables.items()]
        )
        flows = merged(_at_one_interface(rows), first)
        order = np.argsort(-(flows.bytes + flows.bytes_rev), kind="stable")[: self._top]
        return _records(flows, order)


def _primary(rows: Rows) -> Rows:
    """Each packet once, whatever interfaces it passed."""
    primary = rows.keys["primary"] != 0
    return rows if primary.all() else rows.at(np.flatnonzero(primary))


def _conversations(keys: Keys) -> U64:
    """A hash that all rows of a conversation have: through a router, each way is primary where it came in."""
    ends = canonical(keys).keys
    ends["interface"] = ends["direction"] = 0
    return hashes(ends)


def _at_one_interface(rows: Rows) -> Rows:
    """A conversation is shown as one, at the interface of its packets that has the lowest number."""
    known = canonical(rows.keys)
    passages = known.keys["interface"].astype(np.int64) * 2 + known.keys["direction"]
    groups = group_values(_conversations(rows.keys))
    passage = np.empty_like(passages)
    passage[groups.order] = np.repeat(groups.lowest(passages), np.diff(groups.starts, append=len(rows)))
    keys = rows.keys.copy()
    keys["interface"], keys["direction"] = passage // 2, (passage % 2) ^ known.mirrored
    return replace(rows, keys=keys)


_NAMES = tuple(name for field in FIELDS if field.live and field.name != "node" for name in field.names)
_KINDS = {name: field for field in FIELDS for name in field.names}


def _records(flows: FlowColumns, order: I64) -> list[dict[str, Any]]:
    columns = [_shown(flows, _KINDS[name], name, order) for name in _NAMES]
    return [dict(zip(_NAMES, values, strict=True)) for values in zip(*columns, strict=True)]


def _shown(flows: FlowColumns, field: Field, name: str, order: I64) -> Sequence[Any]:
    """A column of LiveStats.top."""
    if field.kind is Kind.TIME:
        start, offset = flows.window_begin * 1_000_000, f"{name.removesuffix('_seen')}_offset_us"
        return [_time(start + after) for after in getattr(flows, offset)[order].tolist()]
    values = getattr(flows, name)[order]
    if field.listed:
        names = getattr(flows, f"{name}_names")
        return [names[number] for number in values.tolist()]
    match field.kind:
        case Kind.CHOICE:
            return [field.choices[number] for number in values.tolist()]
        case Kind.ADDRESS:
            texts: list[str] = addresses.to_text(values)
            inside = flows.tunnel_type[order].tolist()
            return [text if kind else "" for text, kind in zip(texts, inside, strict=True)] if field.tunnel else texts
    numbers: list[Any] = values.tolist()
    return numbers


def _interfaces(second: Second) -> list[dict[str, Any]]:
    table: dict[tuple[str, int], dict[str, Any]] = {}
    for interface, direction in {*second.totals, *second.counted}:
        table[interface, direction] = {
            "interface": interface,
            "direction": DIRECTIONS[direction],
            **dict(zip(TOTALS, second.totals.get((interface, direction), (0,) * len(TOTALS)), strict=True)),
            **second.counted.get((interface, direction), dict.fromkeys(COUNTED, 0)),
        }
    return [table[passage] for passage in sorted(table)]


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
