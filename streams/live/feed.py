"""Collects what messages bring for the live view, node by node, between two summaries. Pure.

Summaries go by our clock: what a node says of its own is data. Nothing is kept for a node of which nothing comes, and
where too much comes, only totals are.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from common.recent import Recent
from schemas.packets import EpochCounters, PacketBatch
from streams.live.view import COUNTED, TOTALS, LiveNode, Second
from streams.partition.state import Partition, Taken
from streams.partition.storing import WindowId
from streams.windowing.initiators import Initiators
from streams.windowing.rows import Rows

SILENT_SECONDS = 60.0  # a node that sent nothing for so long is left out
MOST_NODES = 4096  # those that were heard of last
MOST_BYTES = 256 << 20  # of rows, from which on new ones are left out
MOST_PASSAGES = 4096  # interfaces and directions of a node in a summary; what passed others is told of as OTHERS
OTHERS = "(others)"
_LEAST_SECONDS = 0.5  # between a node's first message and its first summary: a rate is of some time
_DAY_NS = 86_400 * 1_000_000_000


class _Pending:
    """A node since the last summary."""

    def __init__(self, state: Partition, view: LiveNode, clock_ns: int, now: float) -> None:
        self.state, self.view = state, view
        self.clock_ns = self.summarized_ns = clock_ns
        self.heard = self.summarized = now
        self.clear()

    def clear(self) -> None:
        self.messages = self.nbytes = 0
        self.rows: list[tuple[WindowId, Rows]] = []
        self.totals: dict[tuple[str, int], tuple[int, int, int, int]] = {}
        self.counted: dict[tuple[str, int], dict[str, int]] = {}

    def interval_ms(self, now: float) -> int:
        """What passed since the last summary: by the node's clock, or by ours where that was set."""
        passed_ns = self.clock_ns - self.summarized_ns
        if not 0 < passed_ns <= _DAY_NS:
            passed_ns = int((now - self.summarized) * 1e9)
        return max(1, passed_ns // 1_000_000)

    def passage(self, interface: str, direction: int) -> tuple[str, int]:
        """Under which name it is told of."""
        passage = (interface, direction)
        known = passage in self.totals or passage in self.counted
        return passage if known or len(self.totals) + len(self.counted) < MOST_PASSAGES else (OTHERS, direction)


class LiveFeed:
    """The nodes of all partitions of this worker. `now` is in seconds, and never goes back."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._nodes: Recent[str, _Pending] = Recent(MOST_NODES)
        self._initiators = WeakKeyDictionary[Partition, Initiators]()  # of a partition's nodes: as bounded as its own
        self._pending = self._shown = 0  # bytes: since the last summaries, and of the views
        self.left_out = 0  # rows, ever

    def add(self, state: Partition, batch: PacketBatch, taken: Taken, now: float) -> None:
        """A message was taken."""
        node = self._nodes.get(batch.node)
        if node is None or node.state is not state:
            initiators = self._initiators.setdefault(state, state.initiators.copy())
            node = _Pending(state, LiveNode(self._top, initiators), batch.clock_ns, now)
        for _, forgotten in self._nodes.use(batch.node, node):
            self._pending -= forgotten.nbytes
        node.messages += 1
        node.heard = now
        node.clock_ns = batch.clock_ns or node.clock_ns
        node.summarized_ns = node.summarized_ns or batch.clock_ns
        self.count(batch.node, taken.counters)
        for share, rows in zip(taken.shares, taken.rows, strict=True):
            self._keep(node, WindowId(share.window, taken.window_seconds), rows)
            flow = share.rows.keys
            code = batch.flows.interface[flow] * 2 + batch.flows.direction[flow]
            primary = batch.flows.primary[flow] != 0
            sums = np.zeros((len(TOTALS), int(code.max()) + 1), np.int64)
            for total, values in zip(sums, (rows.packets, rows.bytes) * 2, strict=True):
                np.add.at(total, code, values)
            np.subtract.at(sums[2], code[~primary], rows.packets[~primary])
            np.subtract.at(sums[3], code[~primary], rows.bytes[~primary])
            for where in np.flatnonzero(sums[0] | sums[1]).tolist():
                passage = node.passage(batch.interface_names[where // 2], where % 2)
                a, b, c, d = node.totals.get(passage, (0, 0, 0, 0))
                e, f, g, h = sums[:, where].tolist()
                node.totals[passage] = (a + e, b + f, c + g, d + h)

    def count(self, name: str, counters: Iterable[EpochCounters]) -> None:
        """Counters of a node that is known."""
        node = self._nodes.get(name)
        if node is None:
            return
        for row in counters:
            if row.interface:
                counted = node.counted.setdefault(node.passage(row.interface, row.direction), dict.fromkeys(COUNTED, 0))
                for what in COUNTED:
                    counted[what] += getattr(row, what)

    def _keep(self, node: _Pending, window: WindowId, rows: Rows) -> None:
        if self.nbytes + rows.nbytes > MOST_BYTES:
            self.left_out += len(rows)
            return
        node.rows.append((window, rows))
        node.nbytes += rows.nbytes
        self._pending += rows.nbytes

    def due(self, lags: dict[int, int], now: float) -> list[Callable[[], dict[str, Any]]]:
        """One summary for each node that sent something; to be called in another thread, each once.

        `lags` are the messages not consumed yet, by partition; nodes of partitions that are not in it are dropped.
        """
        summaries: list[Callable[[], dict[str, Any]]] = []
        for name, node in self._nodes.items():
            state = node.state
            if state.number not in lags or now - node.heard > SILENT_SECONDS:
                self._nodes.forget(name)
                self._pending -= node.nbytes
            elif node.messages and now - node.summarized >= _LEAST_SECONDS:
                second = Second(
                    node=name,
                    clock_ns=node.clock_ns,
                    interval_ms=node.interval_ms(now),
                    rows=tuple(node.rows),
                    totals=node.totals,
                    counted=node.counted,
                    open_windows=len(state.windows),
                    lag_messages=lags[state.number],
                )
                summaries.append(
                    partial(
                        node.view.summarize,
                        second,
                        now,
                        state.names.all(),
                        state.interfaces.all(),
                        state.tunnels.table(),
                        naming=state.naming.table(),
                    )
                )
                node.summarized_ns, node.summarized = node.clock_ns, now
                self._pending -= node.nbytes
                node.clear()
        self._shown = sum(node.view.nbytes for _, node in self._nodes.newest_first())
        return summaries

    @property
    def nbytes(self) -> int:
        """Memory of all rows."""
        return self._pending + self._shown

    @property
    def nodes(self) -> int:
        """Nodes that are remembered."""
        return len(self._nodes)

    @property
    def active_flows(self) -> int:
        """Flows in the open windows of all nodes."""
        return sum(node.view.active_flows for _, node in self._nodes.newest_first())
