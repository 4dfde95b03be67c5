"""Flow records and ledger rows as columns: what the streams app stores and publishes. Pure; numpy only."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from schemas.packets import I32, I64, U8, U16, U32, EpochCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowColumns:
    """n flow records of one window: bidirectional flows, src is the initiator. Addresses are 16 octets."""

    window_start: int  # seconds since the Unix epoch; the same for all rows
    window_seconds: int
    node_names: tuple[str, ...]
    interface_names: tuple[str, ...]
    node: I32  # index into node_names; this and all that follow have shape (n,)
    interface: I32  # index into interface_names
    direction: U8  # of the packets from src to dst
    primary: U8  # 1: totals are to count these packets; 0: they are in another record of the node too
    protocol: U8
    src_addr: U8  # shape (n, 16)
    dst_addr: U8  # shape (n, 16)
    src_port: U16
    dst_port: U16
    vlan_id: U16
    icmp_type: U8
    icmp_code: U8
    tunnel_type: U8  # of schemas.packets.TUNNEL_TYPES; 0: none, and then the next three are 0
    tunnel_id: U32
    outer_src_addr: U8  # shape (n, 16); of the packets from src to dst
    outer_dst_addr: U8
    packets: I64
    bytes: I64
    packets_rev: I64
    bytes_rev: I64
    tcp_flags: U16
    tcp_flags_rev: U16
    min_ttl: U8  # IPv4 time to live or IPv6 hop limit; 0: no packet in that direction
    max_ttl: U8
    min_ttl_rev: U8
    max_ttl_rev: U8
    dscp: U8  # of the first packet in that direction
    dscp_rev: U8
    min_packet_bytes: U32  # on the wire; 0: no packet in that direction
    max_packet_bytes: U32
    min_packet_bytes_rev: U32
    max_packet_bytes_rev: U32
    first_offset_us: I64  # microseconds since window_start
    last_offset_us: I64

    def __len__(self) -> int:
        return len(self.protocol)

    def part(self, rows: slice) -> "FlowColumns":
        """Some of the rows, in views."""
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
        return FlowColumns(**columns | {name: values[rows] for name, values in arrays.items()})


LOSS_KINDS = ("messages", "events", "entries")
"""Symbols of ClickHouse's Enum8, by value: messages of a partition, events of a ring, coalesced entries of a ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that was sent or handed over by the kernel, and never came."""

    time_ns: int  # the clock of the first message after it; of messages, when it was noticed
    kind: str  # of LOSS_KINDS
    node: str  # "" with messages: they are those of all nodes of the partition
    ring_id: int  # 0 with messages
    start: int  # where it begins: an offset, a position of the ring, a number of a coalesced entry
    end: int  # where it goes on
    lost: int | None  # so many messages, events or entries; None: not known


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
