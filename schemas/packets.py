"""PacketBatch as columns: what a producer sends and the streams app reads. Pure; numpy only.

Addresses are 16 octets, IPv4 as ::ffff:a.b.c.d. Numbers are in host byte order, times in nanoseconds since the
Unix epoch unless a name says otherwise.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""What an IPv4 address begins with."""
_PREFIX_WORDS = np.frombuffer(MAPPED_PREFIX, "<u4")

INGRESS, EGRESS = 0, 1
DIRECTIONS = ("ingress", "egress")
"""Symbols of the Avro enum and of ClickHouse's Enum8, by value."""
TUNNEL_TYPES = ("none", "vxlan", "geneve", "gre", "ipip", "gtpu")
"""Likewise; bpf/event.h has the same numbers."""
BARE_SYN = 1 << 15
"""In the TCP flags of a coalesced entry: one of its packets was a SYN without ACK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowKeys:
    """The flow dictionary of a batch: n one-directional flows, a column each property."""

    interface: I32  # index into PacketBatch.interface_names
    direction: U8  # INGRESS or EGRESS
    protocol: U8  # IANA number
    src_addr: U8  # shape (n, 16)
    dst_addr: U8  # shape (n, 16)
    src_port: U16  # 0: none
    dst_port: U16
    vlan_id: U16  # outer tag, 0: none
    icmp_type: U8
    icmp_code: U8
    primary: U8  # 0: these packets were, or will be, seen on another watched interface of the node too; else 1
    epoch: I64  # counter epoch the packets were counted in
    tunnel_type: U8  # of TUNNEL_TYPES; 0: none, and then the next three are 0
    tunnel_id: U32  # VNI, GRE key, TEID
    outer_src_addr: U8  # shape (n, 16)
    outer_dst_addr: U8  # shape (n, 16)

    def __len__(self) -> int:
        return len(self.protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochCounters:
    """The kernel's counters of one epoch, interface, direction and `primary`. seen = the sum of the outcomes."""

    epoch: int
    start_ns: int
    end_ns: int
    interface: str
    direction: int  # INGRESS or EGRESS
    primary: bool = True  # as FlowKeys.primary
    seen_packets: int
    seen_bytes: int
    emitted_packets: int  # into the ring, as events
    emitted_bytes: int
    coalesced_packets: int = 0  # added up by flow in the kernel; emitted + coalesced is what is recorded
    coalesced_bytes: int = 0
    non_ip_packets: int  # counted, not recorded
    non_ip_bytes: int
    malformed_packets: int  # counted, not recorded
    malformed_bytes: int
    ring_full_packets: int  # dropped: no room in the ring, and none in the flow table
    ring_full_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketBatch:
    """What one node saw in a fraction of a second; schemas/avro/PacketBatch.avsc documents each field.

    A batch holds either single packets from the ring or coalesced entries. The last four columns are as long as
    `flow`, or empty where they follow from others: see schemas.defaults.
    """

    node: str
    ring_id: int
    ring_start: int
    ring_end: int
    coalesced_start: int = 0  # numbers of coalesced entries since the ring was made
    coalesced_end: int = 0  # as coalesced_start: a batch from the ring
    sequence: int
    clock_ns: int  # every packet of this node before it is in this batch or an earlier one; 0: unknown
    base_ns: int
    interface_names: tuple[str, ...]
    flows: FlowKeys
    flow: I32  # index into flows; this and the next seven columns have the same length
    time_offset_ns: I64  # since base_ns
    packets: I32
    bytes: I64
    tcp_flags: I32
    ttl: U8
    tos: U8
    segment_bytes: I32  # of a super-packet, the length of all its packets but the last; 0: not one, or not known
    duration_ns: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # first packet to last; empty: 0
    max_ttl: U8 = field(default_factory=lambda: np.zeros(0, np.uint8))  # empty: as ttl
    min_packet_bytes: U32 = field(default_factory=lambda: np.zeros(0, np.uint32))  # empty: from the sizes above
    max_packet_bytes: U32 = field(default_factory=lambda: np.zeros(0, np.uint32))
    counters: tuple[EpochCounters, ...]

    def __len__(self) -> int:
        return len(self.flow)

    @property
    def coalesced(self) -> bool:
        """Whether the entries are packets that the kernel added up by flow."""
        return self.coalesced_end > self.coalesced_start


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketEvents:
    """A PacketBatch written out for `producer.encoding: record`: the batch, and each entry's place.

    `ring_position`: in the ring; of coalesced entries their numbers.
    """

    batch: PacketBatch
    ring_position: I64 | range


def is_ipv4(octets: U8) -> Any:
    """Which rows of (n, 16) octets are IPv4-mapped; shape (n,), bool."""
    words = np.ascontiguousarray(octets).view("<u4")
    return (words[:, 0] == _PREFIX_WORDS[0]) & (words[:, 1] == _PREFIX_WORDS[1]) & (words[:, 2] == _PREFIX_WORDS[2])
