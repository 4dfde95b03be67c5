"""Windows of a replay that ends: the same code as the live app, without Kafka, offsets and clocks.

A capture may be out of order, and files may overlap: no window is complete before the end of all of them. What is
known of open windows is one row a flow, put away on disk when it grows.
"""

from collections.abc import Iterator
from dataclasses import fields
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
from streams.windowing.spill import Place
from streams.windowing.tunnels import Tunnels
from streams.windowing.windows import Window, split

MEMORY_BYTES = 96 << 20  # of rows


class RowStore(Protocol):
    """What we use of spill.Spill."""

    def write(self, rows: Rows) -> Place:
        """Put rows away."""

    def read(self, place: Place) -> Rows:
        """Get rows back."""


class OfflineWindows:
    """All windows of a replay."""

    def __init__(self, *, window_seconds: int, store: RowStore, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds, self._store, self._limit = window_seconds, store, memory_bytes
        self._names, self._interfaces, self._tunnels = Names[str](), Names[str](), Tunnels()
        self._naming = Naming()
        self._initiators = Initiators()
        self._windows: dict[int, Window] = {}  # by start
        self._stored: dict[int, list[Place]] = {}
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
            for start, window in self._windows.items():
                self._stored.setdefault(start, []).extend(self._store.write(piece.rows) for piece in window)
            self._windows.clear()

    def flows(self) -> Iterator[FlowColumns]:
        """The flows of each window, by time of the window and of their first packet. Each window is given once."""
        for start in sorted({*self._windows, *self._stored}):
            window = self._windows.pop(start, Window(start))
            parts = [self._store.read(place) for place in self._stored.pop(start, [])]
            flows = merge(
                concatenate([*parts, *(piece.rows for piece in window)]),
                window_begin=start,
                window_seconds=self._seconds,
                node_names=self._names.all(),
                interface_names=self._interfaces.all(),
                tunnels=self._tunnels.table(),
                naming=self._naming.table(),
                initiators=self._initiators,
            )
            self._initiators.learn(flows)
            yield in_order(flows)


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
