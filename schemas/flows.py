"""Flow records and ledger rows as columns: what the streams app stores and publishes. Pure; numpy only."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from schemas.columnar import Columnar, columnar
from schemas.fields import STORED, Role
from schemas.packets import EpochCounters

_COLUMNS = {
    name: np.dtype(field.type.numpy) for field in STORED if field.role is not Role.WINDOW for name in field.names
}


@columnar(_COLUMNS)
class FlowColumns(Columnar):
    """n flow records of one window: bidirectional flows, src is the initiator; a column each stored field.

    `node`, `interface`, `domain`, `ja4` and `alpn` are indexes into the names, of which those of the last three have an
    empty text for none; addresses have shape (n, 16), all else (n,). A measure is that of
    the packets from src to dst, NAME_rev that of the others; 0 without a packet in that direction.
    """

    window_begin: int  # seconds since the Unix epoch; the same for all rows
    window_seconds: int
    node_names: tuple[str, ...]
    interface_names: tuple[str, ...]
    domain_names: tuple[str, ...] = ("",)
    ja4_names: tuple[str, ...] = ("",)
    alpn_names: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.protocol)

    def part(self, rows: slice) -> "FlowColumns":
        """Some of the rows, in views."""
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
        return FlowColumns(**columns | {name: values[rows] for name, values in arrays.items()})


LOSS_KINDS = ("messages", "events", "entries", "idle", "copies", "names", "dropped")
"""Symbols of ClickHouse's Enum8, by value: messages of a partition, events of a ring, coalesced entries of a ring, a
time in which a node's kernel program counted nothing; copies of a ring, messages of a partition of the names topic;
a day of flows that went for want of room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that was sent or handed over by the kernel and never came, or that it never counted."""

    time_ns: int  # the clock of the first message after it; of messages, when it was noticed
    kind: str  # of LOSS_KINDS
    node: str  # "" with messages: they are those of all nodes of the partition
    ring_id: int  # 0 with messages
    start: int  # where it begins: an offset, a position of the ring, a number of a coalesced entry, ns since the epoch
    end: int  # where it goes on
    lost: int | None  # so many messages, events or entries; None: not known, as always of idle


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One closed epoch of one node, interface and direction: the kernel's counters and what streams consumed.

    `consumed_*` counts the packets of this epoch that streams took from Kafka, split by the window they went
    to. The ledger holds when emitted + coalesced = sum(consumed) here and, for each window, sum(consumed) = flows
    stored.
    """

    node: str
    ring_id: int
    counters: EpochCounters  # zeros when they never came
    closed: bool  # whether they came
    window_seconds: int
    consumed_windows: tuple[int, ...]  # window starts, seconds since the Unix epoch, ascending
    consumed_packets: tuple[int, ...]  # packets in each of these windows
    consumed_bytes: tuple[int, ...]
    kafka_offset_start: int  # the first message that has something of the epoch
    kafka_offset_end: int  # behind the last one: what comes later of an epoch that was not closed is added
