"""Made-up ring records and a ring in plain memory."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from producer.kernel.abi import EVENT, RECORD, Records
from schemas.packets import EpochCounters


def records(rows: list[dict[str, Any]]) -> Records:
    """Submitted records with these event fields; flow_hash follows from what makes a flow."""
    made = np.zeros(len(rows), RECORD)
    made["header"] = EVENT.itemsize
    for record, row in zip(made, rows, strict=True):
        event = {"slot": 3, "packets": 1, "bytes": 60, "epoch": 1, "protocol": 17} | row
        for name, value in event.items():
            record["event"][name] = value
        if "flow_hash" not in row:
            key = {k: bytes(v) if isinstance(v, bytes) else v for k, v in event.items() if k not in _NOT_OF_THE_FLOW}
            record["event"]["flow_hash"] = np.uint64(hash(tuple(sorted(key.items()))) & (2**64 - 1))
    return made


_NOT_OF_THE_FLOW = {"ktime_ns", "bytes", "packets", "tcp_flags", "ttl", "tos", "segment_bytes", "epoch"}


@dataclass
class MemoryRing:
    """A RingReader over a growing array."""

    size: int = 1 << 20
    stride: int = RECORD.itemsize
    all: Records = field(default_factory=lambda: np.zeros(0, RECORD))
    released: int = 0

    def put(self, rows: list[dict[str, Any]]) -> None:
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


def counters(**changed: Any) -> EpochCounters:
    outcomes = ("seen", "emitted", "non_ip", "malformed", "ring_full")
    fields: dict[str, Any] = {"epoch": 1, "start_ns": 0, "end_ns": 0, "interface": "eth0", "direction": 0}
    fields["primary"] = True
    fields |= {f"{outcome}_{unit}": 0 for outcome in outcomes for unit in ("packets", "bytes")}
    return EpochCounters(**(fields | changed))
