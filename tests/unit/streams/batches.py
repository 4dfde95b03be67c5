"""Batches for the tests, from plain lists of packets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from schemas.addresses import from_text
from schemas.fields import KEYS, PACKET_COLUMNS, Field, Kind
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

    def key(field: Field) -> np.ndarray:
        if field.kind is Kind.NAME:
            return np.array([names.index(flow.interface) for flow in flows], np.int32)
        if field.kind is Kind.ADDRESS:
            return _addresses(tuple(getattr(flow, field.name.removesuffix("_addr")) for flow in flows))
        return np.array([getattr(flow, field.name, 0) for flow in flows], field.type.numpy)

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
            epoch=np.array([flow.epoch for flow in flows], np.int64),
            **{field.name: key(field) for field in KEYS if field.name != "node"},
        ),
        flow=np.array([number[packet.key] for packet in packets], np.int32),
        time_offset_ns=np.array([packet.time_ns - base for packet in packets], np.int64),
        **{
            column.name: np.array([getattr(packet, column.name, 0) for packet in packets], column.numpy)
            for column in PACKET_COLUMNS
            if not column.may_be_empty
        },
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
    own = {
        column.name: np.array([getattr(packet, column.name) for packet in packets], column.numpy)
        for column in PACKET_COLUMNS
        if column.may_be_empty
    }
    return replace(
        batch(packets, node=node, ring_id=ring_id, ring_start=ring_end, clock_ns=clock_ns, counters=counters),
        ring_end=ring_end,
        coalesced_start=number,
        coalesced_end=number + len(packets),
        **own,
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
