"""Windows of a replay that ends: the same code as the live app, without Kafka, offsets and clocks.

A capture may be out of order, and files may overlap: no window is complete before the end of all of them. What is
known of open windows is one row a flow, put away on disk when it grows.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np

from schemas.fields import KEYS
from schemas.flows import FlowColumns
from schemas.packets import U8, PacketBatch
from streams.windowing.biflow import merge
from streams.windowing.initiators import Initiators
from streams.windowing.keys import Names, pack
from streams.windowing.naming import Naming
from streams.windowing.rows import Rows, concatenate
from streams.windowing.spill import Known, Place, T
from streams.windowing.tunnels import Table, Tunnels
from streams.windowing.windows import Window, split

MEMORY_BYTES = 96 << 20  # of rows


class RowStore(Protocol):
    """What we use of spill.Spill."""

    def write(self, rows: Rows | Known) -> Place:
        """Put rows away, or what their numbers stand for."""

    def read(self, place: Place, kind: type[T]) -> T:
        """Get back what was written, of its kind."""


class OfflineWindows:
    """All windows of a replay."""

    def __init__(self, *, window_seconds: int, store: RowStore, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds, self._store, self._limit = window_seconds, store, memory_bytes
        self._names, self._interfaces, self._tunnels = Names[str](), Names[str](), Tunnels()
        self._naming = Naming()
        self._initiators = Initiators()
        self._windows: dict[int, Window] = {}  # by start
        self._stored: dict[int, list[tuple[Place, Place]]] = {}  # rows, and the tunnels of that time
        self._loose_bytes = 0  # of rows since the last compaction

    def add(self, batch: PacketBatch) -> None:
        """Add the packets of a batch. Raises DecodeError when their times are impossible."""
        shares = split(batch, self._seconds)
        if not shares:
            return
        numbers = np.array([self._interfaces.number(name) for name in batch.interface_names], np.int32)
        node, tunnels = self._names.number(batch.node), self._tunnels.numbers(batch.flows)
        keys = pack(batch.flows, node=node, interfaces=numbers, tunnels=tunnels)
        about = self._naming.numbers(batch)
        for share in shares:
            rows = share.rows.packed(keys, about)
            self._windows.setdefault(share.window, Window(share.window)).add(0, rows)
            self._loose_bytes += rows.nbytes
        if self._loose_bytes > self._limit // 2:
            self._compact()

    def _compact(self) -> None:
        for window in self._windows.values():
            window.compact()
        self._loose_bytes = 0
        if sum(window.nbytes for window in self._windows.values()) > self._limit // 2:
            known = self._store.write(Known(tunnels=self._tunnels.table()[: len(self._tunnels) + 1]))
            for start, window in self._windows.items():
                pieces = ((self._store.write(piece.rows), known) for piece in window)
                self._stored.setdefault(start, []).extend(pieces)
            self._windows.clear()
            self._tunnels = Tunnels()  # anybody can make them up: a capture may have any number

    def flows(self) -> Iterator[FlowColumns]:
        """The flows of each window, by time of the window and of their first packet. Each window is given once."""
        for start in sorted({*self._windows, *self._stored}):
            window = self._windows.pop(start, Window(start))
            rows, tunnels = self._rows(self._stored.pop(start, []), [piece.rows for piece in window])
            flows = merge(
                rows,
                window_begin=start,
                window_seconds=self._seconds,
                node_names=self._names.all(),
                interface_names=self._interfaces.all(),
                tunnels=tunnels.table(),
                naming=self._naming.table(),
                initiators=self._initiators,
            )
            self._initiators.learn(flows)
            yield in_order(flows)

    def _rows(self, stored: list[tuple[Place, Place]], here: list[Rows]) -> tuple[Rows, Tunnels]:
        """All rows of a window, and what their tunnels' numbers stand for."""
        if not stored:
            return concatenate(here), self._tunnels
        tunnels = Tunnels()

        def ours(rows: Rows, table: Table) -> Rows:
            keys = rows.keys.copy()
            keys["tunnel"] = tunnels.again(keys["tunnel"], table)
            return replace(rows, keys=keys)

        tables = {known: self._store.read(known, Known).tunnels for known in {known for _, known in stored}}
        parts = [ours(self._store.read(place, Rows), tables[known]) for place, known in stored]
        return concatenate([*parts, *(ours(rows, self._tunnels.table()) for rows in here)]), tunnels


_FIRST = ("protocol", "src_addr", "dst_addr", "src_port", "dst_port")
_ORDER = (*_FIRST, *(field.name for field in KEYS if field.name not in {"node", *_FIRST}))


def in_order(flows: FlowColumns) -> FlowColumns:
    """By first packet; flows that began together by their keys, so that the order is always the same."""
    ordered_by = [flows.first_offset_us]
    for name in _ORDER:
        values = getattr(flows, name)
        ordered_by += [*_words(values).T] if values.ndim == 2 else [values]
    order = np.lexsort(ordered_by[::-1])
    columns: dict[str, Any] = {column.name: getattr(flows, column.name) for column in fields(flows)}
    ordered = {name: values[order] for name, values in columns.items() if isinstance(values, np.ndarray)}
    return FlowColumns(**{**columns, **ordered})


def _words(addresses: U8) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]":
    return np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
