"""What a node is doing now: totals of the last second and the connections with most bytes. Pure.

For each open window a table of one-directional rows, sorted by a 64-bit hash of the key, is brought up to date once
a second: the second's rows are grouped, found by binary search and added, so that the cost goes with the new rows.
Two keys of one hash would be shown as one connection; nothing but this view uses the hash alone. (And it may name
another tunnel, when 65,536 new ones came since the window was stored.)
"""

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from schemas import addresses
from schemas.flows import FlowColumns
from schemas.packets import DIRECTIONS, I64, TUNNEL_TYPES, U8, EpochCounters
from streams.partition.storing import WindowId
from streams.windowing.biflow import canonical, merge
from streams.windowing.keys import U64, hashes, take
from streams.windowing.rows import MEASURES, Rows, compact, concatenate, no_rows
from streams.windowing.tunnels import Table

MOST_ROWS = 1 << 20  # rows of a table; flows that come later are in the totals, not in the top list


@dataclass(slots=True)
class _Table:
    """The rows of one open window. All columns have the same length; `key_hash` ascends."""

    key_hash: U64
    flow_hash: U64  # the same for both directions
    rows: Rows

    @classmethod
    def empty(cls) -> "_Table":
        return cls(key_hash=np.zeros(0, np.uint64), flow_hash=np.zeros(0, np.uint64), rows=no_rows())

    def add(self, rows: Rows) -> None:
        rows = compact(_whole(rows))
        key_hash = hashes(rows.keys)
        at = np.searchsorted(self.key_hash, key_hash)
        found = np.zeros(len(rows), np.bool_)
        inside = at < len(self.key_hash)
        found[inside] = self.key_hash[at[inside]] == key_hash[inside]
        old, known = at[found], np.flatnonzero(found)
        earlier = known[rows.first_ns[known] < self.rows.first_ns[old]]
        self.rows.tos[at[earlier]] = rows.tos[earlier]
        for name, measure in MEASURES.items():
            measure.merge.at(getattr(self.rows, name), old, getattr(rows, name)[known])
        new = np.flatnonzero(~found)[: max(0, MOST_ROWS - len(self.key_hash))]
        if not len(new):
            return
        new = new[np.argsort(key_hash[new])]
        flow_hash = hashes(canonical(take(rows.keys, new)).keys)
        where = np.searchsorted(self.key_hash, key_hash[new])
        self.key_hash = np.insert(self.key_hash, where, key_hash[new])
        self.flow_hash = np.insert(self.flow_hash, where, flow_hash)
        columns = (field.name for field in fields(Rows))
        self.rows = Rows(
            **{name: np.insert(getattr(self.rows, name), where, getattr(rows, name)[new]) for name in columns}
        )

    def of_flows(self, flow_hash: U64, shift_ns: int) -> Rows:
        """Both directions of some flows, with times moved by `shift_ns`."""
        index = np.flatnonzero(np.isin(self.flow_hash, flow_hash))
        columns = {name: column[index] for name, column in self.rows.measures().items()}
        columns["first_ns"] += shift_ns
        columns["last_ns"] += shift_ns
        return Rows(keys=take(self.rows.keys, index), **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """What a node's messages brought since the last summary."""

    node: str
    clock_ns: int  # the node's clock; 0: not known
    interval_ms: int  # time that the totals cover
    rows: tuple[tuple[WindowId, Rows], ...]
    totals: dict[tuple[str, int], tuple[int, int]]  # (interface, direction) -> packets, bytes
    counters: tuple[EpochCounters, ...]  # epochs that were closed
    open_windows: int
    lag_messages: int


class LiveNode:
    """The live view of one node. Not safe for use by two threads at once."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._tables: dict[WindowId, _Table] = {}
        self.active_flows = 0

    def summarize(
        self,
        second: Second,
        watermark_ns: int,
        node_names: tuple[str, ...],
        interface_names: tuple[str, ...],
        tunnels: Table,
    ) -> dict[str, Any]:
        """Take in a second; the LiveStats message."""
        parts: dict[WindowId, list[Rows]] = {}
        for window, rows in second.rows:
            parts.setdefault(window, []).append(rows)
        for window, several in parts.items():
            self._tables.setdefault(window, _Table.empty()).add(concatenate(several))
        for window in [window for window in self._tables if window.end_ns <= watermark_ns]:
            del self._tables[window]
        heaviest = self._heaviest()
        return {
            "node": second.node,
            "time": _time(second.clock_ns // 1000),
            "interval_ms": second.interval_ms,
            "interfaces": _interfaces(second),
            "active_flows": self.active_flows,
            "open_windows": second.open_windows,
            "lag_messages": second.lag_messages,
            "top": self._top_flows(heaviest, node_names, interface_names, tunnels),
        }

    def _heaviest(self) -> U64:
        """Count the flows of all open windows; the hashes of those with most bytes."""
        tables = list(self._tables.values())
        if not tables:
            self.active_flows = 0
            return np.zeros(0, np.uint64)
        flow_hash = np.concatenate([table.flow_hash for table in tables])
        order = np.argsort(flow_hash)
        ordered = flow_hash[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        total = np.add.reduceat(np.concatenate([table.rows.bytes for table in tables])[order], starts)
        self.active_flows = len(starts)
        if len(starts) <= self._top:
            return ordered[starts]
        return ordered[starts[np.argpartition(total, -self._top)[-self._top :]]]

    def _top_flows(
        self, chosen: U64, node_names: tuple[str, ...], interface_names: tuple[str, ...], tunnels: Table
    ) -> list[dict[str, Any]]:
        if not self._tables:
            return []
        first = min(window.start for window in self._tables)
        rows = concatenate(
            [table.of_flows(chosen, (window.start - first) * 1_000_000_000) for window, table in self._tables.items()]
        )
        flows = merge(
            rows,
            window_start=first,
            window_seconds=0,
            node_names=node_names,
            interface_names=interface_names,
            tunnels=tunnels,
        )
        order = np.argsort(-(flows.bytes + flows.bytes_rev), kind="stable")[: self._top]
        return _records(flows, order)


def _whole(rows: Rows) -> Rows:
    """A conversation is shown whole, whichever of its packets are primary."""
    if rows.keys["primary"].all():
        return rows
    keys = rows.keys.copy()
    keys["primary"] = 1
    return replace(rows, keys=keys)


_NUMBERS = (
    "protocol",
    "src_port",
    "dst_port",
    "vlan_id",
    "icmp_type",
    "icmp_code",
    "tunnel_id",
    "packets",
    "bytes",
    "packets_rev",
    "bytes_rev",
)


_OUTER = ("outer_src_addr", "outer_dst_addr")


def _outer(octets: U8, tunnel_type: U8) -> list[str]:
    """As text; empty without a tunnel."""
    return [text if kind else "" for text, kind in zip(addresses.to_text(octets), tunnel_type, strict=True)]


def _records(flows: FlowColumns, order: I64) -> list[dict[str, Any]]:
    src, dst = addresses.to_text(flows.src_addr[order]), addresses.to_text(flows.dst_addr[order])
    outer = [_outer(getattr(flows, name)[order], flows.tunnel_type[order]) for name in _OUTER]
    numbers = {name: getattr(flows, name)[order].tolist() for name in _NUMBERS}
    start = flows.window_start * 1_000_000
    first, last = flows.first_offset_us[order].tolist(), flows.last_offset_us[order].tolist()
    return [
        {
            "interface": flows.interface_names[flows.interface[row]],
            "direction": DIRECTIONS[flows.direction[row]],
            "src_addr": src[i],
            "dst_addr": dst[i],
            "tunnel_type": TUNNEL_TYPES[flows.tunnel_type[row]],
            "outer_src_addr": outer[0][i],
            "outer_dst_addr": outer[1][i],
            **{name: column[i] for name, column in numbers.items()},
            "first_seen": _time(start + first[i]),
            "last_seen": _time(start + last[i]),
        }
        for i, row in enumerate(order.tolist())
    ]


def _interfaces(second: Second) -> list[dict[str, Any]]:
    table: dict[tuple[str, int], dict[str, Any]] = {}
    for interface, direction in {*second.totals, *((row.interface, row.direction) for row in second.counters)}:
        packets, octets = second.totals.get((interface, direction), (0, 0))
        table[interface, direction] = {
            "interface": interface,
            "direction": DIRECTIONS[direction],
            "packets": packets,
            "bytes": octets,
            "non_ip_packets": 0,
            "malformed_packets": 0,
            "ring_full_packets": 0,
            "coalesced_packets": 0,
        }
    for row in second.counters:
        for name in ("non_ip_packets", "malformed_packets", "ring_full_packets", "coalesced_packets"):
            table[row.interface, row.direction][name] += getattr(row, name)
    return [table[passage] for passage in sorted(table)]


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
