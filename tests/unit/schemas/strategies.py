"""Random batches and flows for property tests."""

import numpy as np
from hypothesis import strategies as st

from schemas.fields import KEYS, MEASURES, NAMED, NO_ICMP_TYPE, PACKET_COLUMNS, Field, Kind
from schemas.flows import FlowColumns
from schemas.packets import BARE_SYN, MAPPED_PREFIX, EpochCounters, FlowKeys, PacketBatch, is_ipv4

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)


def addresses(rng: np.random.Generator, n: int) -> np.ndarray:
    octets = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    octets[rng.random(n) < 0.3, 4:12] = 0
    octets[rng.random(n) < 0.5, :12] = np.frombuffer(MAPPED_PREFIX, np.uint8)
    return octets


def keys(rng: np.random.Generator, n: int, *, names: int, tunnels: bool) -> dict[str, np.ndarray]:
    """A column each key of the table, with any values that its type holds."""
    columns: dict[str, np.ndarray] = {}
    for field in KEYS:
        kind = np.dtype(field.type.numpy)
        match field.kind:
            case Kind.NAME:
                columns[field.name] = rng.integers(0, names, n).astype(kind)
            case Kind.ADDRESS:
                columns[field.name] = addresses(rng, n)
            case Kind.CHOICE:
                columns[field.name] = rng.integers(0, len(field.choices), n).astype(kind)
            case _:
                columns[field.name] = rng.integers(field.smallest, field.largest + 1, n).astype(kind)
    columns["icmp_type"][rng.random(n) < 0.2] = NO_ICMP_TYPE
    columns["tunnel_type"] *= np.uint8(tunnels)
    inside = columns["tunnel_type"] > 0
    for field in KEYS:
        if field.tunnel:
            columns[field.name] = columns[field.name] * (inside[:, None] if field.kind is Kind.ADDRESS else inside)
    return columns


def counters(rng: np.random.Generator, interface: str) -> EpochCounters:
    numbers = rng.integers(0, 2**50, len(EpochCounters.__dataclass_fields__)).tolist()
    others = {"interface", "direction", "primary", "ended", "start_ns", "end_ns"}
    names = [name for name in EpochCounters.__dataclass_fields__ if name not in others]
    return EpochCounters(
        interface=interface,
        direction=int(rng.integers(2)),
        primary=bool(rng.integers(2)),
        ended=bool(rng.integers(2)),
        start_ns=_whole(rng, 0),
        end_ns=_whole(rng, 2**61),
        **dict(zip(names, numbers, strict=False)),
    )


def _whole(rng: np.random.Generator, least: int) -> int:
    """Nanoseconds that are whole microseconds, as they are in Kafka."""
    return int(rng.integers(least, least + 2**61)) // 1000 * 1000


def named(rng: np.random.Generator, n: int, *, names: int, nothing: int) -> dict[str, np.ndarray]:
    """A column each of what says what a flow is about. `nothing`: the lowest place in a list."""
    return {
        field.name: rng.integers(nothing if field.listed else 0, _end(field, names), n).astype(field.type.numpy)
        for field in NAMED
    }


def _end(field: Field, names: int) -> int:
    return names if field.listed else len(field.choices) or field.largest + 1


@st.composite
def batches(draw: st.DrawFn) -> PacketBatch:
    rng = np.random.default_rng(draw(SEEDS))
    flows, packets = draw(st.integers(1, 20)), draw(st.integers(0, 50))
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    ring_start, first = int(rng.integers(2**62)), int(rng.integers(2**62))
    coalesced = packets > 0 and draw(st.booleans())
    of_flows = keys(rng, flows, names=len(names), tunnels=draw(st.booleans()))
    del of_flows["node"]
    texts = [tuple(draw(st.lists(NAMES, max_size=3, unique=True))) for _ in range(3)]
    if any(texts):
        of_flows |= named(rng, flows, names=min(map(len, texts)), nothing=-1)
    columns = {
        column.name: rng.integers(0, min(2**40, np.iinfo(column.numpy).max), packets).astype(column.numpy)
        for column in PACKET_COLUMNS
        if not column.may_be_empty or (coalesced and draw(st.booleans()))
    }
    columns["tcp_flags"] = columns["tcp_flags"] % 512 | (BARE_SYN if coalesced else 0)
    return PacketBatch(
        node=draw(NAMES),
        ring_id=int(rng.integers(2**62)),
        ring_start=ring_start,
        ring_end=ring_start if coalesced else int(rng.integers(2**62)),
        coalesced_start=first if coalesced else 0,
        coalesced_end=first + packets if coalesced else 0,
        sequence=int(rng.integers(2**40)),
        clock_ns=_whole(rng, 0),
        idle_start_ns=_whole(rng, 0),
        idle_end_ns=_whole(rng, 2**61),
        base_ns=_whole(rng, 0),
        interface_names=names,
        flows=FlowKeys(epoch=rng.integers(0, 2**40, flows), **of_flows),
        flow=rng.integers(0, flows, packets).astype(np.int32),
        time_offset_ns=rng.integers(0, 2**33, packets),
        **columns,
        domains=texts[0],
        ja4s=texts[1],
        alpns=texts[2],
        counters=tuple(counters(rng, name) for name in names),
    )


@st.composite
def flow_columns(draw: st.DrawFn) -> FlowColumns:
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 30))
    columns = keys(rng, n, names=2, tunnels=draw(st.booleans()))
    source, target = columns["src_addr"], columns["dst_addr"]
    target[:, :12] = np.where(is_ipv4(source)[:, None], source[:, :12], target[:, :12])  # one IP version a flow
    target[~is_ipv4(source), 0] = 0x20
    for side in (source, target):
        side[rng.random(n) < 0.2, -draw(st.integers(1, 3)) :] = 0  # addresses that end in zeros
    columns["protocol"] = rng.choice([1, 6, 17, 47, 58, 132], n).astype(np.uint8)
    for field in MEASURES:
        for name in field.names:
            columns[name] = rng.integers(0, min(field.largest, 2**50), n).astype(field.type.numpy)
    columns |= named(rng, n, names=3, nothing=0)
    return FlowColumns(
        window_begin=draw(st.integers(0, 2**31)) * 10,
        window_seconds=10,
        node_names=("a", "b"),
        interface_names=("eth0", "eth1"),
        domain_names=("", "www.example", "a.example"),
        ja4_names=("", "t13d1516h2_8daaf6152771_e5627efa2ab1", "q13d0312h3_55b375c5d22e_06cda9e17597"),
        alpn_names=("", "h2", "http/1.1"),
        first_offset_us=rng.integers(0, 10_000_000, n),
        last_offset_us=rng.integers(0, 10_000_000, n),
        **columns,
    )
