"""Batches for the tests, from plain lists of packets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from schemas.addresses import from_text
from schemas.packets import U8, EpochCounters, FlowKeys, PacketBatch

STRIDE = 80  # bytes of the ring that one event takes
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One entry of a batch."""

    time_ns: int
    src: str = "10.0.0.1"
    dst: str = "10.0.0.2"
    src_port: int = 40000
    dst_port: int = 443
    protocol: int = 6
    interface: str = "eth0"
    direction: int = 0
    vlan_id: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    packets: int = 1
    bytes: int = 60
    tcp_flags: int = 0
    ttl: int = 64
    tos: int = 0
    segment_bytes: int = 0
    primary: int = 1
    epoch: int = 1
    duration_ns: int = 0  # this and the next three: of coalesced entries
    max_ttl: int = 64
    min_packet_bytes: int = 60
    max_packet_bytes: int = 60
    tunnel_type: int = 0
    tunnel_id: int = 0
    outer_src: str = "::"
    outer_dst: str = "::"

    @property
    def key(self) -> tuple[object, ...]:
        return (
            self.interface,
            self.direction,
            self.protocol,
            self.src,
            self.dst,
            self.src_port,
            self.dst_port,
            self.vlan_id,
            self.icmp_type,
            self.icmp_code,
            self.primary,
            self.epoch,
            self.tunnel_type,
            self.tunnel_id,
            self.outer_src,
            self.outer_dst,
        )

    @property
    def passage(self) -> tuple[str, int, bool]:
        return self.interface, self.direction, bool(self.primary)


@cache
def _addresses(texts: tuple[str, ...]) -> U8:
    return from_text(list(texts))


def batch(
    packets: Sequence[Packet],
    *,
    node: str = "n1",
    ring_id: int = 7,
    ring_start: int = 0,
    clock_ns: int = 0,
    counters: Sequence[EpochCounters] = (),
    sequence: int = 0,
) -> PacketBatch:
    """The batch of some packets, in their order."""
    unique = list(dict.fromkeys(packet.key for packet in packets))
    first = {packet.key: packet for packet in reversed(packets)}
    flows = [first[key] for key in unique]
    names = tuple(dict.fromkeys(flow.interface for flow in flows))
    number = {key: i for i, key in enumerate(unique)}
    base = min((packet.time_ns for packet in packets), default=0)

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(flow, name) for flow in flows], kind)

    return PacketBatch(
        node=node,
        ring_id=ring_id,
        ring_start=ring_start,
        ring_end=ring_start + STRIDE * len(packets),
        sequence=sequence,
        clock_ns=clock_ns,
        base_ns=base,
        interface_names=names,
        flows=FlowKeys(
            interface=np.array([names.index(flow.interface) for flow in flows], np.int32),
            direction=column("direction", np.uint8),
            protocol=column("protocol", np.uint8),
            src_addr=_addresses(tuple(flow.src for flow in flows)),
            dst_addr=_addresses(tuple(flow.dst for flow in flows)),
            src_port=column("src_port", np.uint16),
            dst_port=column("dst_port", np.uint16),
            vlan_id=column("vlan_id", np.uint16),
            icmp_type=column("icmp_type", np.uint8),
            icmp_code=column("icmp_code", np.uint8),
            primary=column("primary", np.uint8),
            epoch=column("epoch", np.int64),
            tunnel_type=column("tunnel_type", np.uint8),
            tunnel_id=column("tunnel_id", np.uint32),
            outer_src_addr=_addresses(tuple(flow.outer_src for flow in flows)),
            outer_dst_addr=_addresses(tuple(flow.outer_dst for flow in flows)),
        ),
        flow=np.array([number[packet.key] for packet in packets], np.int32),
        time_offset_ns=np.array([packet.time_ns - base for packet in packets], np.int64),
        packets=np.array([packet.packets for packet in packets], np.int32),
        bytes=np.array([packet.bytes for packet in packets], np.int64),
        tcp_flags=np.array([packet.tcp_flags for packet in packets], np.int32),
        ttl=np.array([packet.ttl for packet in packets], np.uint8),
        tos=np.array([packet.tos for packet in packets], np.uint8),
        segment_bytes=np.array([packet.segment_bytes for packet in packets], np.int32),
        counters=tuple(counters),
    )


def coalesced(
    packets: Sequence[Packet],
    *,
    number: int = 0,
    ring_end: int = 0,
    node: str = "n1",
    ring_id: int = 7,
    clock_ns: int = 0,
    counters: Sequence[EpochCounters] = (),
) -> PacketBatch:
    """The same as coalesced entries, from `number` on."""
    columns: dict[str, type] = {
        "duration_ns": np.int64,
        "max_ttl": np.uint8,
        "min_packet_bytes": np.uint32,
        "max_packet_bytes": np.uint32,
    }
    return replace(
        batch(packets, node=node, ring_id=ring_id, ring_start=ring_end, clock_ns=clock_ns, counters=counters),
        ring_end=ring_end,
        coalesced_start=number,
        coalesced_end=number + len(packets),
        **{name: np.array([getattr(packet, name) for packet in packets], kind) for name, kind in columns.items()},
    )


def counters(
    epoch: int,
    packets: Sequence[Packet],
    *,
    start_ns: int = 0,
    end_ns: int = SECOND,
    non_ip: int = 0,
    ring_full: int = 0,
    coalesced: Sequence[Packet] = (),
) -> list[EpochCounters]:
    """The kernel's counters of an epoch in which it emitted `packets` and added up `coalesced`."""
    rows = []
    for passage in sorted({packet.passage for packet in (*packets, *coalesced)} or {("eth0", 0, True)}):
        own = [packet for packet in packets if packet.passage == passage]
        count, size = sum(packet.packets for packet in own), sum(packet.bytes for packet in own)
        added = [packet for packet in coalesced if packet.passage == passage]
        more, more_size = sum(packet.packets for packet in added), sum(packet.bytes for packet in added)
        rows.append(
            EpochCounters(
                epoch=epoch,
                start_ns=start_ns,
                end_ns=end_ns,
                interface=passage[0],
                direction=passage[1],
                primary=passage[2],
                seen_packets=count + more + non_ip + ring_full,
                seen_bytes=size + more_size + 60 * (non_ip + ring_full),
                emitted_packets=count,
                emitted_bytes=size,
                coalesced_packets=more,
                coalesced_bytes=more_size,
                non_ip_packets=non_ip,
                non_ip_bytes=60 * non_ip,
                malformed_packets=0,
                malformed_bytes=0,
                ring_full_packets=ring_full,
                ring_full_bytes=60 * ring_full,
            )
        )
    return rows
