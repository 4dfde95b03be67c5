"""Random batches and flows for property tests."""

import numpy as np
from hypothesis import strategies as st

from schemas.flows import FlowColumns
from schemas.packets import BARE_SYN, MAPPED_PREFIX, TUNNEL_TYPES, EpochCounters, FlowKeys, PacketBatch, is_ipv4

SEEDS = st.integers(0, 2**32 - 1)
OCTETS, SIZES = ("min_ttl", "max_ttl", "dscp"), ("min_packet_bytes", "max_packet_bytes")
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)


def addresses(rng: np.random.Generator, n: int) -> np.ndarray:
    octets = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    octets[rng.random(n) < 0.3, 4:12] = 0
    octets[rng.random(n) < 0.5, :12] = np.frombuffer(MAPPED_PREFIX, np.uint8)
    return octets


def counters(rng: np.random.Generator, interface: str) -> EpochCounters:
    numbers = rng.integers(0, 2**50, len(EpochCounters.__dataclass_fields__)).tolist()
    names = [name for name in EpochCounters.__dataclass_fields__ if name not in {"interface", "direction", "primary"}]
    flags = {"direction": int(rng.integers(2)), "primary": bool(rng.integers(2))}
    return EpochCounters(interface=interface, **flags, **dict(zip(names, numbers, strict=False)))


@st.composite
def batches(draw: st.DrawFn) -> PacketBatch:
    rng = np.random.default_rng(draw(SEEDS))
    flows, packets = draw(st.integers(1, 20)), draw(st.integers(0, 50))
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    ring_start, first = int(rng.integers(2**62)), int(rng.integers(2**62))
    coalesced = packets > 0 and draw(st.booleans())
    columns = {
        "duration_ns": rng.integers(0, 10**9, packets),
        "max_ttl": rng.integers(0, 256, packets).astype(np.uint8),
        "min_packet_bytes": rng.integers(1, 2**32, packets).astype(np.uint32),
        "max_packet_bytes": rng.integers(1, 2**32, packets).astype(np.uint32),
    }
    tunnels = rng.integers(0, len(TUNNEL_TYPES), flows).astype(np.uint8) * np.uint8(draw(st.booleans()))
    outside = (tunnels > 0)[:, None]
    return PacketBatch(
        node=draw(NAMES),
        ring_id=int(rng.integers(2**62)),
        ring_start=ring_start,
        ring_end=ring_start if coalesced else int(rng.integers(2**62)),
        coalesced_start=first if coalesced else 0,
        coalesced_end=first + packets if coalesced else 0,
        sequence=int(rng.integers(2**40)),
        clock_ns=int(rng.integers(2**62)),
        base_ns=int(rng.integers(2**62)),
        interface_names=names,
        flows=FlowKeys(
            interface=rng.integers(0, len(names), flows).astype(np.int32),
            direction=rng.integers(0, 2, flows).astype(np.uint8),
            protocol=rng.integers(0, 256, flows).astype(np.uint8),
            src_addr=addresses(rng, flows),
            dst_addr=addresses(rng, flows),
            src_port=rng.integers(0, 65536, flows).astype(np.uint16),
            dst_port=rng.integers(0, 65536, flows).astype(np.uint16),
            vlan_id=rng.integers(0, 4096, flows).astype(np.uint16),
            icmp_type=rng.integers(0, 256, flows).astype(np.uint8),
            icmp_code=rng.integers(0, 256, flows).astype(np.uint8),
            primary=rng.integers(0, 2, flows).astype(np.uint8),
            epoch=rng.integers(0, 2**40, flows),
            tunnel_type=tunnels,
            tunnel_id=rng.integers(0, 2**32, flows).astype(np.uint32) * (tunnels > 0),
            outer_src_addr=addresses(rng, flows) * outside,
            outer_dst_addr=addresses(rng, flows) * outside,
        ),
        flow=rng.integers(0, flows, packets).astype(np.int32),
        time_offset_ns=rng.integers(0, 2**33, packets),
        packets=rng.integers(1, 2**16, packets).astype(np.int32),
        bytes=rng.integers(1, 2**40, packets),
        tcp_flags=rng.integers(0, 512, packets).astype(np.int32) | (BARE_SYN if coalesced else 0),
        ttl=rng.integers(0, 256, packets).astype(np.uint8),
        tos=rng.integers(0, 256, packets).astype(np.uint8),
        segment_bytes=rng.integers(0, 2**16, packets).astype(np.int32),
        **{name: column for name, column in columns.items() if coalesced and draw(st.booleans())},
        counters=tuple(counters(rng, name) for name in names),
    )


@st.composite
def flow_columns(draw: st.DrawFn) -> FlowColumns:
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 30))
    src_addr, dst_addr = addresses(rng, n), addresses(rng, n)
    dst_addr[:, :12] = np.where(is_ipv4(src_addr)[:, None], src_addr[:, :12], dst_addr[:, :12])  # one IP version a flow
    dst_addr[~is_ipv4(src_addr), 0] = 0x20
    tunnels = rng.integers(0, len(TUNNEL_TYPES), n).astype(np.uint8) * np.uint8(draw(st.booleans()))
    big = {name: rng.integers(0, 2**50, n) for name in ("packets", "bytes", "packets_rev", "bytes_rev")}
    return FlowColumns(
        window_start=draw(st.integers(0, 2**31)) * 10,
        window_seconds=10,
        node_names=("a", "b"),
        interface_names=("eth0", "eth1"),
        node=rng.integers(0, 2, n).astype(np.int32),
        interface=rng.integers(0, 2, n).astype(np.int32),
        direction=rng.integers(0, 2, n).astype(np.uint8),
        primary=rng.integers(0, 2, n).astype(np.uint8),
        protocol=rng.choice([1, 6, 17, 47, 58, 132], n).astype(np.uint8),
        src_addr=src_addr,
        dst_addr=dst_addr,
        src_port=rng.integers(0, 65536, n).astype(np.uint16),
        dst_port=rng.integers(0, 65536, n).astype(np.uint16),
        vlan_id=rng.integers(0, 4096, n).astype(np.uint16),
        icmp_type=rng.integers(0, 256, n).astype(np.uint8),
        icmp_code=rng.integers(0, 256, n).astype(np.uint8),
        tunnel_type=tunnels,
        tunnel_id=rng.integers(0, 2**32, n).astype(np.uint32) * (tunnels > 0),
        outer_src_addr=addresses(rng, n) * (tunnels > 0)[:, None],
        outer_dst_addr=addresses(rng, n) * (tunnels > 0)[:, None],
        tcp_flags=rng.integers(0, 512, n).astype(np.uint16),
        tcp_flags_rev=rng.integers(0, 512, n).astype(np.uint16),
        first_offset_us=rng.integers(0, 10_000_000, n),
        last_offset_us=rng.integers(0, 10_000_000, n),
        **big,
        **{name + way: rng.integers(0, 256, n).astype(np.uint8) for name in OCTETS for way in ("", "_rev")},
        **{name + way: rng.integers(0, 2**32, n).astype(np.uint32) for name in SIZES for way in ("", "_rev")},
    )
