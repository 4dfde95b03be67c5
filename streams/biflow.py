"""From one-directional rows to bidirectional flows (RFC 5103). Pure, vectorised.

Two rows belong to one flow when they have the same node, interface, VLAN and protocol, mirrored addresses and
ports, and passed the interface in opposite directions: A to B received and B to A sent. (A to B received and A to B
sent on the same interface are two flows: the machine forwarded the packets.)

Who is `src`, the initiator:
1. the sender of a SYN without ACK; of two, the one whose first packet came first;
2. ICMP types that ask and answer (as in Community ID v1): the side that asks, even when only the answer was seen.
   Other ICMP types go one way and are never merged with their mirror image;
3. ports: when exactly one is below 1024, the other side; else when exactly one is below 32768, the other side;
4. the sender of the first packet seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.flows import FlowColumns
from schemas.packets import I64, U8, U16
from streams.keys import KEY, Keys, group, take, words

BARE_SYN = 1 << 15  # in Rows.tcp_flags, beside the flags themselves: one of the packets was a SYN without ACK
TCP_FLAGS = 0x1FF
_SYN, _ACK = 0x02, 0x10
_NEVER = np.iinfo(np.int64).max

_ASKS_V4 = {8: 0, 13: 14, 15: 16, 17: 18, 10: 9}
_ASKS_V6 = {128: 129, 133: 134, 135: 136, 130: 131, 139: 140, 144: 145}
_WELL_KNOWN, _EPHEMERAL = 1024, 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n one-directional aggregates of one window; a key may stand in several rows."""

    keys: Keys
    packets: I64
    bytes: I64
    tcp_flags: U16  # all flags, and BARE_SYN
    first_ns: I64  # since the window's start
    last_ns: I64

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        return len(self) * (KEY.itemsize + 4 * 8 + 2)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Rows(
            keys=np.zeros(0, KEY),
            packets=np.zeros(0, np.int64),
            bytes=np.zeros(0, np.int64),
            tcp_flags=np.zeros(0, np.uint16),
            first_ns=np.zeros(0, np.int64),
            last_ns=np.zeros(0, np.int64),
        )
    return Rows(
        keys=np.concatenate([part.keys for part in parts]),
        packets=np.concatenate([part.packets for part in parts]),
        bytes=np.concatenate([part.bytes for part in parts]),
        tcp_flags=np.concatenate([part.tcp_flags for part in parts]),
        first_ns=np.concatenate([part.first_ns for part in parts]),
        last_ns=np.concatenate([part.last_ns for part in parts]),
    )


def compact(rows: Rows) -> Rows:
    """The same totals with each key once."""
    groups = group(rows.keys)
    return Rows(
        keys=take(rows.keys, groups.first_rows),
        packets=groups.total(rows.packets),
        bytes=groups.total(rows.bytes),
        tcp_flags=groups.either(rows.tcp_flags),
        first_ns=groups.lowest(rows.first_ns),
        last_ns=groups.highest(rows.last_ns),
    )


def with_bare_syn(tcp_flags: U16) -> U16:
    """Mark the packets that are a SYN without ACK."""
    bare = (tcp_flags & (_SYN | _ACK)) == _SYN
    marked: U16 = (tcp_flags & np.uint16(TCP_FLAGS)) | (bare.astype(np.uint16) << np.uint16(15))
    return marked


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """Keys of which both directions are equal."""

    keys: Keys  # low end as src, high end as dst; icmp_type of the side that asks
    mirrored: npt.NDArray[np.bool_]  # the row's own src is the high end
    asks_low: npt.NDArray[np.bool_]  # ICMP with an answer: the low end is the side that asks
    asks_high: npt.NDArray[np.bool_]


def _tables() -> tuple[U8, U8, U8]:
    """By [is IPv6, type]: role (0 one way, 1 asks, 2 answers), the type that asks, the type that answers."""
    role, asking, answering = (np.zeros((2, 256), np.uint8) for _ in range(3))
    for version, pairs in enumerate((_ASKS_V4, _ASKS_V6)):
        for ask, answer in pairs.items():
            role[version, ask], role[version, answer] = 1, 2
            for kind in (ask, answer):
                asking[version, kind], answering[version, kind] = ask, answer
    return role, asking, answering


_ROLE, _ASKING, _ANSWERING = _tables()


def canonical(keys: Keys) -> Canonical:
    """Bring both directions of a flow to the same key."""
    icmp = (keys["protocol"] == 1) | (keys["protocol"] == 58)
    version = (keys["protocol"] == 58).astype(np.intp)
    role = np.where(icmp, _ROLE[version, keys["icmp_type"]], 0)
    asking = _ASKING[version, keys["icmp_type"]].astype(np.uint16)
    answering = _ANSWERING[version, keys["icmp_type"]].astype(np.uint16)
    # ICMP with an answer: the types order the two sides as ports do, so that two pings that cross stay apart
    src_port = np.select([role == 1, role == 2], [asking, answering], keys["src_port"])
    dst_port = np.select([role == 1, role == 2], [answering, asking], keys["dst_port"])
    mirrored = _greater(keys["src_addr"], src_port, keys["dst_addr"], dst_port) & ~(icmp & (role == 0))
    out = words(keys).copy().view(KEY).reshape(-1)
    turn = np.flatnonzero(mirrored)
    turned = words(keys).take(turn, axis=0)
    words(out)[turn, 0:2], words(out)[turn, 2:4] = turned[:, 2:4], turned[:, 0:2]  # the addresses
    out["src_port"][turn], out["dst_port"][turn] = keys["dst_port"][turn], keys["src_port"][turn]
    out["direction"][turn] = 1 - keys["direction"][turn]
    pairs = role > 0
    out["icmp_type"][pairs] = asking[pairs].astype(np.uint8)
    source_asks = role == 1
    asks_low = pairs & (source_asks != mirrored)
    # the two sides of a ping differ in the key by which of them asks
    out["zero"][:, 0] = np.where(pairs, np.where(asks_low, 1, 2), 0)
    return Canonical(keys=out, mirrored=mirrored, asks_low=asks_low, asks_high=pairs & ~asks_low)


def _greater(a: U8, a_port: U16, b: U8, b_port: U16) -> npt.NDArray[np.bool_]:
    """(a, a_port) > (b, b_port), addresses compared as big-endian numbers."""
    high_a, low_a = _words(a)
    high_b, low_b = _words(b)
    return np.asarray(
        (high_a > high_b) | ((high_a == high_b) & ((low_a > low_b) | ((low_a == low_b) & (a_port > b_port))))
    )


def _words(addresses: U8) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    both = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
    return both[:, 0], both[:, 1]


def merge(
    rows: Rows, *, window_start: int, window_seconds: int, node_names: tuple[str, ...], interface_names: tuple[str, ...]
) -> FlowColumns:
    """The bidirectional flows of one window. `node_names` and `interface_names` are those of the keys' numbers."""
    known = canonical(rows.keys)
    groups = group(known.keys)
    first = groups.first_rows
    keys = take(known.keys, first)
    there = ~known.mirrored

    def split(values: I64) -> tuple[I64, I64]:
        return groups.total(np.where(there, values, 0)), groups.total(np.where(there, 0, values))

    zero = np.uint16(0)
    packets_low, packets_high = split(rows.packets)
    bytes_low, bytes_high = split(rows.bytes)
    flags_low = groups.either(np.where(there, rows.tcp_flags, zero))
    flags_high = groups.either(np.where(there, zero, rows.tcp_flags))
    first_low = groups.lowest(np.where(there, rows.first_ns, _NEVER))
    first_high = groups.lowest(np.where(there, _NEVER, rows.first_ns))
    from_low = _low_initiates(
        keys, flags_low, flags_high, first_low <= first_high, known.asks_low[first], known.asks_high[first]
    )

    def ends(low: npt.NDArray[np.generic], high: npt.NDArray[np.generic]) -> tuple[npt.NDArray, npt.NDArray]:  # type: ignore[type-arg]
        choose = from_low[:, None] if low.ndim == 2 else from_low
        return np.where(choose, low, high), np.where(choose, high, low)

    src_addr, dst_addr = ends(keys["src_addr"], keys["dst_addr"])
    src_port, dst_port = ends(keys["src_port"], keys["dst_port"])
    packets, packets_rev = ends(packets_low, packets_high)
    octets, octets_rev = ends(bytes_low, bytes_high)
    flags, flags_rev = ends(flags_low & TCP_FLAGS, flags_high & TCP_FLAGS)
    return FlowColumns(
        window_start=window_start,
        window_seconds=window_seconds,
        node_names=node_names,
        interface_names=interface_names,
        node=keys["node"].astype(np.int32),
        interface=keys["interface"].astype(np.int32),
        direction=np.where(from_low, keys["direction"], 1 - keys["direction"]).astype(np.uint8),
        protocol=keys["protocol"].copy(),
        src_addr=src_addr,
        dst_addr=dst_addr,
        src_port=src_port,
        dst_port=dst_port,
        vlan_id=keys["vlan_id"].copy(),
        icmp_type=keys["icmp_type"].copy(),
        icmp_code=keys["icmp_code"].copy(),
        packets=packets,
        bytes=octets,
        packets_rev=packets_rev,
        bytes_rev=octets_rev,
        tcp_flags=flags.astype(np.uint16),
        tcp_flags_rev=flags_rev.astype(np.uint16),
        first_offset_us=groups.lowest(rows.first_ns) // 1000,
        last_offset_us=groups.highest(rows.last_ns) // 1000,
    )


def _low_initiates(  # noqa: PLR0917  six columns, all of them the same length
    keys: Keys,
    flags_low: U16,
    flags_high: U16,
    low_first: npt.NDArray[np.bool_],
    asks_low: npt.NDArray[np.bool_],
    asks_high: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    syn_low, syn_high = (flags_low & BARE_SYN) != 0, (flags_high & BARE_SYN) != 0
    low, high = keys["src_port"], keys["dst_port"]
    icmp = (keys["protocol"] == 1) | (keys["protocol"] == 58)
    one_way = icmp & ~asks_low & ~asks_high  # never turned: the key's src is the sender
    decisions: list[tuple[npt.NDArray[np.bool_], Any]] = [
        (one_way | asks_low, True),
        (asks_high, False),
        (syn_low & ~syn_high, True),
        (syn_high & ~syn_low, False),
        (syn_low & syn_high, low_first),
        ((high < _WELL_KNOWN) & (low >= _WELL_KNOWN), True),
        ((low < _WELL_KNOWN) & (high >= _WELL_KNOWN), False),
        ((high < _EPHEMERAL) & (low >= _EPHEMERAL), True),
        ((low < _EPHEMERAL) & (high >= _EPHEMERAL), False),
    ]
    return np.select([when for when, _ in decisions], [what for _, what in decisions], low_first)
