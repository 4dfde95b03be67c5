"""From one-directional rows to bidirectional flows (RFC 5103). Pure, vectorised.

Two rows belong to one flow when they have the same node, interface, VLAN, tunnel and protocol, mirrored addresses (the
tunnel's, too) and ports, and passed the interface in opposite directions: A to B received and B to A sent. (A to B
received and A to B sent on the same interface are two flows: the machine forwarded the packets.) Packets that are
primary and those that are not stay apart, in two records with the same ends, so that totals can leave the latter out.

Who is `src`, the initiator:
1. the sender of a SYN without ACK; of two, the one whose first packet came first;
2. who it was in the connection's last window (streams.windowing.initiators);
3. ICMP types that ask and answer (as in Community ID v1): the side that asks, even when only the answer was seen.
   Other ICMP types go one way and are never merged with their mirror image. What has no type (fragments) says nothing,
   and is taken as what has no ports;
4. what ports and addresses tell (streams.windowing.initiators.by_rule), whoever sends first.
1 and 2 are decided once for a connection, from all its rows on a node: those of several interfaces, VLANs and tunnels
have the same src.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.community_id import TCP
from schemas.fields import KEYS, MEASURES, NO_ICMP_TYPE, Kind, Merge
from schemas.flows import FlowColumns
from schemas.packets import BARE_SYN, I16, I64, U8, U16
from streams.windowing.initiators import Bools, End, Initiators, by_rule, greater, identities, perhaps_among
from streams.windowing.keys import KEY, U64, Groups, Keys, chosen, group, group_values, take, words
from streams.windowing.naming import NO_NAMES, NO_NUMBERS, Numbers
from streams.windowing.naming import Table as Naming
from streams.windowing.naming import columns as named
from streams.windowing.rows import COLUMNS, MERGED, NEVER, TCP_FLAGS, Rows, merged, merged_names
from streams.windowing.tunnels import NO_TUNNELS, Table, reverse
from streams.windowing.tunnels import columns as tunnel_columns

_ASKS_V4 = {8: 0, 13: 14, 15: 16, 17: 18, 10: 9}
_ASKS_V6 = {128: 129, 133: 134, 135: 136, 130: 131, 139: 140, 144: 145}
_KEPT = frozenset(  # keys that both directions have alike
    field.name for field in KEYS if field.name in (KEY.names or ()) and field.kind not in {Kind.ADDRESS, Kind.PORT}
) - {"direction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """Keys of which both directions are equal."""

    keys: Keys  # low end as src, high end as dst; icmp_type of the side that asks, and above it whether that is `high`
    mirrored: Bools  # the row's own src is the high end
    asks_high: Bools  # ICMP with an answer: the high end is the side that asks


_ASKS_HIGH = np.int16(256)  # of a canonical key's icmp_type


def _tables() -> tuple[U8, I16, I16]:
    """By [is IPv6, type]: role (0 one way, 1 asks, 2 answers), the type that asks, the type that answers.

    The last row of each is that of NO_ICMP_TYPE, which is -1.
    """
    role, asking, answering = (np.zeros((2, 257), kind) for kind in (np.uint8, np.int16, np.int16))
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
    asking, answering = _ASKING[version, keys["icmp_type"]], _ANSWERING[version, keys["icmp_type"]]
    # ICMP with an answer: the types order the two sides as ports do, so that two pings that cross stay apart
    src_port = np.select([role == 1, role == 2], [asking, answering], keys["src_port"])
    dst_port = np.select([role == 1, role == 2], [answering, asking], keys["dst_port"])
    src, dst = _ends(keys)
    one_way = icmp & (role == 0) & (keys["icmp_type"] != NO_ICMP_TYPE)
    mirrored = greater(End(src.address, src_port), End(dst.address, dst_port)) & ~one_way
    out = words(keys).copy().view(KEY).reshape(-1)
    turn = np.flatnonzero(mirrored)
    turned = words(keys).take(turn, axis=0)
    words(out)[turn, 0:2], words(out)[turn, 2:4] = turned[:, 2:4], turned[:, 0:2]  # the addresses
    out["src_port"][turn], out["dst_port"][turn] = keys["dst_port"][turn], keys["src_port"][turn]
    out["direction"][turn] = 1 - keys["direction"][turn]
    out["tunnel"][turn] = reverse(keys["tunnel"][turn])
    pairs = role > 0
    asks_high = pairs & ((role == 1) == mirrored)
    # two pings that cross differ in the key by which of the sides asks
    out["icmp_type"] = np.where(pairs, asking + _ASKS_HIGH * asks_high, keys["icmp_type"])
    return Canonical(keys=out, mirrored=mirrored, asks_high=asks_high)


def _ends(keys: Keys) -> tuple[End, End]:
    whole = words(keys)  # the addresses come first
    return End(whole[:, :2], keys["src_port"]), End(whole[:, 2:4], keys["dst_port"])


def merge(
    rows: Rows,
    *,
    window_begin: int,
    window_seconds: int,
    node_names: tuple[str, ...],
    interface_names: tuple[str, ...],
    tunnels: Table = NO_TUNNELS,
    naming: Naming = NO_NAMES,
    initiators: Initiators,
) -> FlowColumns:
    """The bidirectional flows of one window. The names, `tunnels` and `naming` are those of the rows' numbers.

    `initiators` is asked and not told: who keeps the flows has it learn them.
    The records have those names that are theirs: a partition knows thousands.
    """
    known = canonical(rows.keys)
    groups = group(known.keys)
    keys = take(known.keys, groups.first_rows)
    low, high = (merged(groups, _only(rows, which)) for which in (~known.mirrored, known.mirrored))
    low_end, high_end = _ends(keys)
    icmp = (keys["protocol"] == 1) | (keys["protocol"] == 58)
    asks_high = known.asks_high[groups.first_rows]
    from_low = np.where(icmp & (keys["icmp_type"] != NO_ICMP_TYPE), ~asks_high, by_rule(low_end, high_end))
    tcp = np.flatnonzero(keys["protocol"] == TCP)
    if len(tcp):
        connections = partial(identities, node_names, keys["node"][tcp], low_end.at(tcp), high_end.at(tcp))
        from_low[tcp] ^= _turned(_Syns.of(low, high).at(tcp), from_low[tcp], connections, initiators)

    def ends(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        choose = from_low[:, None] if low.ndim == 2 else from_low
        return np.where(choose, low, high), np.where(choose, high, low)

    columns: dict[str, npt.NDArray[Any]] = {
        field.name: keys[field.name].astype(field.type.numpy) for field in KEYS if field.name in _KEPT
    }
    columns["icmp_type"] -= _ASKS_HIGH * asks_high
    for name in ("addr", "port"):
        columns[f"src_{name}"], columns[f"dst_{name}"] = ends(keys[f"src_{name}"], keys[f"dst_{name}"])
    columns["direction"] = np.where(from_low, keys["direction"], 1 - keys["direction"]).astype(np.uint8)
    columns |= tunnel_columns(tunnels, np.where(from_low, keys["tunnel"], reverse(keys["tunnel"])))
    of_low, of_high = _shown(low), _shown(high)
    for measure in MEASURES:
        columns[measure.name], columns[f"{measure.name}_rev"] = ends(of_low[measure.name], of_high[measure.name])
    columns["node"], node_names = chosen(keys["node"], node_names)
    columns["interface"], interface_names = chosen(keys["interface"], interface_names)
    about = merged_names(groups, rows)
    columns |= named(naming, Numbers(about["domain"], about["hello"]) if about else NO_NUMBERS, len(keys))
    return FlowColumns(
        window_begin=window_begin,
        window_seconds=window_seconds,
        node_names=node_names,
        interface_names=interface_names,
        first_offset_us=np.minimum(low["first_ns"], high["first_ns"]) // 1000,
        last_offset_us=np.maximum(low["last_ns"], high["last_ns"]) // 1000,
        **columns,
    )


def _only(rows: Rows, which: Bools) -> dict[str, Any]:
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


class _Syns(NamedTuple):
    """What both sides' packets say of who began."""

    low_flags: U16  # with BARE_SYN
    high_flags: U16
    low_first: I64  # time of the side's first packet
    high_first: I64

    @classmethod
    def of(cls, low: dict[str, Any], high: dict[str, Any]) -> "_Syns":
        return cls(low["tcp_flags"], high["tcp_flags"], low["first_ns"], high["first_ns"])

    def at(self, places: npt.NDArray[np.intp]) -> "_Syns":
        flags = self.low_flags.take(places), self.high_flags.take(places)
        return _Syns(*flags, self.low_first.take(places), self.high_first.take(places))

    def together(self, groups: Groups) -> "_Syns":
        """Those of all rows of a connection."""
        flags = groups.either(self.low_flags), groups.either(self.high_flags)
        return _Syns(*flags, groups.lowest(self.low_first), groups.lowest(self.high_first))

    def began(self) -> tuple[Bools, Bools]:
        """Whether it was the low side, and whether it was the high one. Neither: they do not say."""
        low, high = (self.low_flags & BARE_SYN) != 0, (self.high_flags & BARE_SYN) != 0
        low_is_first = self.low_first <= self.high_first
        return low & (~high | low_is_first), high & (~low | ~low_is_first)


def _turned(said: _Syns, by_rule: Bools, connections: Callable[[], U64], initiators: Initiators) -> Bools:
    """Which TCP rows have another initiator than the rule says. `by_rule` is whether it says the low side."""
    low, high = said.began()
    against = np.where(by_rule, high, low)
    turned = np.zeros(len(against), np.bool_)
    if not len(initiators) and not against.any():
        return turned  # as in most windows of most networks
    identity = connections()
    remembered = initiators.turned(identity)
    rows = np.flatnonzero(remembered | perhaps_among(identity[against], identity))
    groups = group_values(identity[rows])
    low, high = said.at(rows).together(groups).began()
    first = rows[groups.first_rows]
    found = np.where(low | high, np.where(by_rule[first], high, low), remembered[first])
    turned[rows[groups.order]] = np.repeat(found, np.diff(groups.starts, append=len(rows)))
    return turned
