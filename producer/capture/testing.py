"""The kernel program's side in memory: ring, counters, flow tables. Each fake obeys the Protocol that it names."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.kernel.abi import COALESCED, COALESCED_KEY, COUNTERS, EVENT, RECORD, Records
from producer.kernel.maps import fresh_counters
from producer.kernel.run_state import STATE, RunState
from schemas.packets import EpochCounters


class Killed(BaseException):
    """The process ends here."""


def records(rows: Iterable[dict[str, Any]]) -> Records:
    """Submitted records with these event fields; flow_hash follows from what makes a flow."""
    events = [{"slot": 3, "packets": 1, "bytes": 60, "epoch": 1, "protocol": 17} | row for row in rows]
    made = np.zeros(len(events), RECORD)
    made["header"] = EVENT.itemsize
    for record, event in zip(made, events, strict=True):
        for name, value in event.items():
            record["event"][name] = value
        if "flow_hash" not in event:
            key = {k: bytes(v) if isinstance(v, bytes) else v for k, v in event.items() if k not in _NOT_OF_THE_FLOW}
            record["event"]["flow_hash"] = np.uint64(hash(tuple(sorted(key.items()))) & (2**64 - 1))
    return made


_NOT_OF_THE_FLOW = {"ktime_ns", "bytes", "packets", "tcp_flags", "ttl", "tos", "segment_bytes", "epoch"}


def counters(**changed: Any) -> EpochCounters:
    """Of an epoch in which nothing passed, but for what is given."""
    outcomes = ("seen", "emitted", "non_ip", "malformed", "ring_full")
    fields: dict[str, Any] = {"epoch": 1, "start_ns": 0, "end_ns": 0, "interface": "eth0", "direction": 0}
    fields["primary"] = True
    fields |= {f"{outcome}_{unit}": 0 for outcome in outcomes for unit in ("packets", "bytes")}
    return EpochCounters(**(fields | changed))


@dataclass
class MemoryRing:
    """Obeys producer.capture.cutter.RingReader, over a growing array."""

    size: int = 1 << 20
    stride: int = RECORD.itemsize
    all: Records = field(default_factory=lambda: np.zeros(0, RECORD))
    released: int = 0

    def put(self, rows: Iterable[dict[str, Any]]) -> None:
        """The kernel program submits events."""
        self.all = np.concatenate([self.all, records(rows)])

    def producer_position(self) -> int:
        return len(self.all) * self.stride

    def readable(self, position: int) -> int:
        return max(position, self.producer_position())

    def span(self, start: int, end: int) -> Records:
        assert start >= self.released
        return self.all[start // self.stride : end // self.stride]

    def release(self, position: int) -> None:
        assert self.released <= position <= self.producer_position()
        self.released = position


class MemoryMaps:
    """Obeys producer.capture.epochs.KernelMaps: two maps of one CPU's counters, and two flow tables.

    `count` and `add_up` are the kernel. `fails`: where the process is killed: before open, after open, counters, zero,
    flows, clear.
    """

    def __init__(self, keys: int) -> None:
        self.maps = [{key: fresh_counters(epoch, 1) for key in range(keys)} for epoch in (2, 1)]
        self.tables: list[dict[tuple[int, int, int], Records]] = [{}, {}]
        self.epoch = 1
        self.fails: set[str] = set()

    def count(self, key: int, packets: int, size: int, outcome: str) -> int:
        """Packets pass. Returns the epoch in which they are counted."""
        row = self.maps[self.epoch & 1][key]
        for name in ("seen", outcome):
            row[f"{name}_packets"] += packets
            row[f"{name}_bytes"] += size
        return int(row["epoch"][0])

    def add_up(self, entry: Records) -> None:
        """An entry of the open epoch's flow table: of dtype COALESCED, shape (1,)."""
        table = self.tables[self.epoch & 1]
        table[int(entry["first"]["flow_hash"][0]), len(table), 0] = entry

    def _may_fail(self, what: str) -> None:
        if what in self.fails:
            raise Killed(what)

    def open(self, epoch: int) -> None:
        self._may_fail("before open")
        self.epoch = epoch
        self._may_fail("after open")

    def counters(self, epoch: int, key: int) -> npt.NDArray[np.void]:
        self._may_fail("counters")
        return self.maps[epoch & 1][key]

    def zero(self, epoch: int, key: int) -> None:
        assert self.maps[epoch & 1][key].dtype == COUNTERS
        self.maps[epoch & 1][key] = fresh_counters(epoch, 1)
        self._may_fail("zero")

    def flows(self, epoch: int) -> tuple[Records, Records]:
        self._may_fail("flows")
        table = self.tables[epoch & 1]
        keys = np.array(sorted(table), COALESCED_KEY)
        entries = np.concatenate([np.zeros(0, COALESCED), *(table[key] for key in sorted(table))])
        return keys, entries

    def clear(self, epoch: int, keys: Records) -> None:
        table = self.tables[epoch & 1]
        for key in keys.tolist():
            del table[key]
            self._may_fail("clear")


def memory_state() -> RunState:
    """A run's state that nobody inherits."""
    return RunState(np.zeros(1, STATE))


class MemorySwitches:
    """Obeys producer.capture.coalescing.KernelSwitches."""

    coalescing = False

    def coalesce(self, wanted: bool) -> None:
        self.coalescing = wanted
