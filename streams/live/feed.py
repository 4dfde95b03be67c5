"""Collects what messages bring for the live view, node by node, between two summaries. Pure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from schemas.packets import EpochCounters, PacketBatch
from streams.live.view import LiveNode, Second
from streams.partition.state import Partition, Taken
from streams.partition.storing import WindowId
from streams.windowing.rows import Rows

_SILENT_NS = 60_000_000_000  # a node that sent nothing for so long, by its partition's watermark, is left out


class _Pending:
    """A node since the last summary."""

    def __init__(self, state: Partition, top: int) -> None:
        self.state = state
        self.view = LiveNode(top, state.initiators.copy())
        self.clock_ns = 0
        self.summarized_ns = 0
        self.clear()

    def clear(self) -> None:
        self.messages = 0
        self.rows: list[tuple[WindowId, Rows]] = []
        self.totals: dict[tuple[str, int], tuple[int, int]] = {}
        self.counters: list[EpochCounters] = []


class LiveFeed:
    """The nodes of all partitions of this worker."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._nodes: dict[str, _Pending] = {}

    def add(self, state: Partition, batch: PacketBatch, taken: Taken) -> None:
        """A message was taken."""
        node = self._nodes.get(batch.node)
        if node is None or node.state is not state:
            node = self._nodes[batch.node] = _Pending(state, self._top)
            node.summarized_ns = batch.clock_ns
        node.messages += 1
        node.clock_ns = max(node.clock_ns, batch.clock_ns)
        if not node.summarized_ns:
            node.summarized_ns = batch.clock_ns
        node.counters += [row for row in batch.counters if row.interface]
        for share, rows in zip(taken.shares, taken.rows, strict=True):
            node.rows.append((WindowId(share.window, taken.window_seconds), rows))
            flow = share.rows.keys
            code = batch.flows.interface[flow] * 2 + batch.flows.direction[flow]
            sums = np.zeros((2, int(code.max()) + 1), np.int64)
            np.add.at(sums[0], code, rows.packets)
            np.add.at(sums[1], code, rows.bytes)
            for where in np.flatnonzero(sums[0] | sums[1]).tolist():
                passage = (batch.interface_names[where // 2], where % 2)
                packets, octets = node.totals.get(passage, (0, 0))
                node.totals[passage] = (packets + int(sums[0, where]), octets + int(sums[1, where]))

    def due(self, lags: dict[int, int]) -> list[Callable[[], dict[str, Any]]]:
        """One summary for each node that sent something; to be called in another thread, each once.

        `lags` are the messages not consumed yet, by partition; nodes of partitions that are not in it are dropped.
        """
        summaries: list[Callable[[], dict[str, Any]]] = []
        for name, node in list(self._nodes.items()):
            state = node.state
            if state.number not in lags or node.clock_ns < state.watermark.value - _SILENT_NS:
                del self._nodes[name]
            elif node.messages and node.clock_ns > node.summarized_ns:
                second = Second(
                    node=name,
                    clock_ns=node.clock_ns,
                    interval_ms=(node.clock_ns - node.summarized_ns) // 1_000_000,
                    rows=tuple(node.rows),
                    totals=node.totals,
                    counters=tuple(node.counters),
                    open_windows=state.open_windows,
                    lag_messages=lags[state.number],
                )
                summaries.append(
                    partial(
                        node.view.summarize,
                        second,
                        state.watermark.value,
                        state.names.all(),
                        state.interfaces.all(),
                        state.tunnels.table(),
                    )
                )
                node.summarized_ns = node.clock_ns
                node.clear()
        return summaries

    @property
    def active_flows(self) -> int:
        """Flows in the open windows of all nodes."""
        return sum(node.view.active_flows for node in self._nodes.values())
