"""From one-directional rows to bidirectional flows (RFC 5103). Pure, vectorised.

Two rows belong to one flow when they have the same node, interface, VLAN, tunnel and protocol, mirrored addresses (the
tunnel's, too) and ports, and passed the interface in opposite directions: A to B received and B to A sent. (A to B
received and A to B sent on the same interface are two flows: the machine forwarded the packets.) Packets that are
primary and those that are not stay apart, in two records with the same ends, so that totals can leave the latter out.

Who is `src`, the initiator:
1. the sender of a SYN without ACK; of two, the one whose first packet came first;
2. ICMP types that ask and answer (as in Community ID v1): the side that asks, even when only the answer was seen.
   Other ICMP types go one way and are never merged with their mirror image;
3. ports: when exactly one is below 1024, the other side; else when exactly one is below 32768, the other side;
4. the sender of the first packet seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.fields import KEYS, MEASURES, Kind, Merge
from schemas.flows import FlowColumns
from schemas.packets import BARE_SYN, U8, U16
from streams.windowing.keys import KEY, Groups, Keys, group, take, words
from streams.windowing.rows import COLUMNS, MERGED, NEVER, TCP_FLAGS, Rows, merged
from streams.windowing.tunnels import NO_TUNNELS, Table, reverse
from streams.windowing.tunnels import columns as tunnel_columns

_ASKS_V4 = {8: 0, 13: 14, 15: 16, 17: 18, 10: 9}
_ASKS_V6 = {128: 129, 133: 134, 135: 136, 130: 131, 139: 140, 144: 145}
_WELL_KNOWN, _EPHEMERAL = 1024, 32768
_KEPT = frozenset(  # keys that both directions have alike
    field.name for field in KEYS if field.name in (KEY.names or ()) and field.kind not in {Kind.ADDRESS, Kind.PORT}
) - {"direction"}


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
    out["tunnel"][turn] = reverse(keys["tunnel"][turn])
    pairs = role > 0
    out["icmp_type"][pairs] = asking[pairs].astype(np.uint8)
    source_asks = role == 1
    asks_low = pairs & (source_asks != mirrored)
    # the two sides of a ping differ in the key by which of them asks
    out["asks"] = np.where(pairs, np.where(asks_low, 1, 2), 0)
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
    rows: Rows,
    *,
    window_start: int,
    window_seconds: int,
    node_names: tuple[str, ...],
    interface_names: tuple[str, ...],
    tunnels: Table = NO_TUNNELS,
) -> FlowColumns:
    """The bidirectional flows of one window. The names and `tunnels` are those of the keys' numbers."""
    known = canonical(rows.keys)
    groups = group(known.keys)
    keys = take(known.keys, groups.first_rows)
    low, high = (merged(groups, _only(rows, which)) for which in (~known.mirrored, known.mirrored))
    if (keys["primary"] != 0).all():
        first = groups.first_rows
        from_low = _low_initiates(keys, low, high, known.asks_low[first], known.asks_high[first])
    else:
        from_low = _of_both_parts(rows, known, groups)

    def ends(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        choose = from_low[:, None] if low.ndim == 2 else from_low
        return np.where(choose, low, high), np.where(choose, high, low)

    columns: dict[str, npt.NDArray[Any]] = {
        field.name: keys[field.name].astype(field.type.numpy) for field in KEYS if field.name in _KEPT
    }
    for name in ("addr", "port"):
        columns[f"src_{name}"], columns[f"dst_{name}"] = ends(keys[f"src_{name}"], keys[f"dst_{name}"])
    columns["direction"] = np.where(from_low, keys["direction"], 1 - keys["direction"]).astype(np.uint8)
    columns |= tunnel_columns(tunnels, np.where(from_low, keys["tunnel"], reverse(keys["tunnel"])))
    of_low, of_high = _shown(low), _shown(high)
    for measure in MEASURES:
        columns[measure.name], columns[f"{measure.name}_rev"] = ends(of_low[measure.name], of_high[measure.name])
    return FlowColumns(
        window_start=window_start,
        window_seconds=window_seconds,
        node_names=node_names,
        interface_names=interface_names,
        first_offset_us=np.minimum(low["first_ns"], high["first_ns"]) // 1000,
        last_offset_us=np.maximum(low["last_ns"], high["last_ns"]) // 1000,
        **columns,
    )


def _only(rows: Rows, which: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The measures with nothing in the other rows."""
    columns: dict[str, Any] = {}
    for name, kind in COLUMNS.items():
        _, nothing = MERGED.get(name, (None, 0))
        columns[name] = np.where(which, getattr(rows, name), kind.type(nothing))
    return columns


def _shown(side: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """What a flow record says of one of the two directions; 0 without packets."""
    seen = side["first_ns"] != NEVER
    columns = {measure.name: side[measure.name] for measure in MEASURES}
    for measure in MEASURES:
        if measure.merge is Merge.MIN:
            columns[measure.name] = np.where(seen, side[measure.name], np.dtype(measure.type.numpy).type(0))
    columns["tcp_flags"] = side["tcp_flags"] & np.uint16(TCP_FLAGS)
    return columns


def _of_both_parts(rows: Rows, known: Canonical, groups: Groups) -> npt.NDArray[np.bool_]:
    """_low_initiates of each group, from all packets of the conversation, be they primary or not."""
    whole = words(known.keys).copy().view(KEY).reshape(-1)
    whole["primary"] = 1
    both = group(whole)
    low, high = (merged(both, _only(rows, which)) for which in (~known.mirrored, known.mirrored))
    first = both.first_rows
    from_low = _low_initiates(take(whole, first), low, high, known.asks_low[first], known.asks_high[first])
    place = np.empty(len(rows), np.intp)
    place[both.order] = np.repeat(np.arange(len(both)), np.diff(np.append(both.starts, len(rows))))
    return np.asarray(from_low[place[groups.first_rows]])


def _low_initiates(
    keys: Keys,
    of_low: dict[str, Any],
    of_high: dict[str, Any],
    asks_low: npt.NDArray[np.bool_],
    asks_high: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    flags_low, flags_high = of_low["tcp_flags"], of_high["tcp_flags"]
    low_first = of_low["first_ns"] <= of_high["first_ns"]
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
