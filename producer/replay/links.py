"""Link types, brought to the two that the kernel program knows: Ethernet, and none at all. Pure.

A header that says the EtherType elsewhere is rewritten in place: the 14 octets before the payload become an Ethernet
header, of which the program reads the EtherType only. Lengths on the wire stay those of the device: a pseudo-header
that the capture added does not count, an Ethernet header that it took away does.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from producer.replay.files.frames import Frames, Link
from schemas.packets import EGRESS, I32, I64, INGRESS, U8, U16

ETHERNET = 1
ETHERNET_HEADER = 14
_RAW = {12, 14, 101, 228, 229}
_NULL, _LOOP, _PPP, _PPP_HDLC, _PPPOE, _C_HDLC, _SLL, _PPP_PPPD, _SLL2 = 0, 108, 9, 50, 51, 104, 113, 166, 276
_IPV4, _IPV6, _PPP_SESSION = 0x0800, 0x86DD, 0x8864
_FAMILIES = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}
_PPP_PROTOCOLS = {0x21: _IPV4, 0x57: _IPV6, 0x0281: 0x8847, 0x0283: 0x8848}  # and MPLS
_CISCO = (0x0F00, 0x8F00)  # address and control of its unicast and multicast frames
_OUTGOING = 4  # packet type of SLL
_ARPHRD_ETHERNET = {1, 772}  # 772: loopback, which has an Ethernet header as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Frames as the kernel program reads them; those of link types that it cannot read are left out."""

    frames: Frames
    no_ethernet: npt.NDArray[np.bool_]  # the frame begins with the IP header
    unsupported: Counter[int]  # frames left out, by link type


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What a link type's headers say; columns of n."""

    size: I64  # octets before the payload
    ethertype: I32  # 0: no IP
    on_wire: I64  # octets of link header that the device itself sends, in place of `size`
    outgoing: npt.NDArray[np.bool_] | None = None
    ifindex: I64 | None = None  # of the capturing host; 0: it does not say


_Parse = Callable[[U8, I64], _Header]
"""From the file's octets and where headers begin."""


def prepare(frames: Frames) -> Prepared:
    """Rewrite link headers, leave out what is not supported."""
    types = np.array([link.type for link in frames.links], np.int64)[frames.link]
    present = np.unique(types).tolist()
    if present == [ETHERNET]:
        return Prepared(frames=frames, no_ethernet=np.zeros(len(frames), np.bool_), unsupported=Counter())
    start, captured, wire = frames.start.copy(), frames.captured.copy(), frames.wire.copy()
    direction, keep = frames.direction.copy(), np.ones(len(frames), np.bool_)
    link, links = frames.link.copy(), list(frames.links)
    unsupported: Counter[int] = Counter()
    for link_type in present:
        rows = np.flatnonzero(types == link_type)
        if link_type in _PARSERS:
            header = _PARSERS[link_type](frames.data, start[rows])
            whole = captured[rows] >= header.size
            _write_ethertype(frames.data, (start[rows] + header.size)[whole], header.ethertype[whole])
            start[rows] = np.where(whole, start[rows] + header.size - ETHERNET_HEADER, start[rows])
            # a frame that ends in its link header stays too short for any other
            captured[rows] = np.where(whole, captured[rows] - header.size + ETHERNET_HEADER, 0)
            wire[rows] = np.maximum(wire[rows] - header.size, 0) + header.on_wire
            if header.outgoing is not None:
                direction[rows[whole]] = np.where(header.outgoing[whole], EGRESS, INGRESS)
            if header.ifindex is not None:
                link[rows[whole]] = _divide(links, link[rows[whole]], header.ifindex[whole])
        elif link_type != ETHERNET and link_type not in _RAW:
            keep[rows] = False
            unsupported[link_type] += len(rows)
    rows = np.flatnonzero(keep)
    ready = replace(
        frames,
        start=start[rows],
        captured=captured[rows],
        wire=wire[rows],
        time_ns=frames.time_ns[rows],
        direction=direction[rows],
        link=link[rows],
        secondary=frames.secondary[rows],
        links=tuple(links),
    )
    return Prepared(frames=ready, no_ethernet=np.isin(types[rows], list(_RAW)), unsupported=unsupported)


def _divide(links: list[Link], link: I32, ifindex: I64) -> I32:
    """Each interface of a capture of several is a link of its own, appended to `links`."""
    pairs, numbers = np.unique(np.stack([link.astype(np.int64), ifindex], axis=1), axis=0, return_inverse=True)
    divided = np.zeros(len(pairs), np.int32)
    for number, (of, index) in enumerate(pairs.tolist()):
        divided[number] = of
        if index:
            divided[number] = len(links)
            links.append(replace(links[of], interface=f"{links[of].interface}-if{index}"))
    return divided[numbers.reshape(-1)]


def _write_ethertype(data: U8, payload: I64, ethertype: I32) -> None:
    data[payload - 2] = ethertype >> 8
    data[payload - 1] = ethertype & 0xFF


def _u16(data: U8, at: I64) -> U16:
    octets = np.take(data, at[:, None] + np.arange(2), mode="clip")
    return octets.view(">u2")[:, 0].astype(np.uint16)


def _table(values: npt.NDArray[np.integer], known: dict[int, int]) -> I32:
    """known[value], 0 for others."""
    found = np.zeros(len(values), np.int32)
    for value, meaning in known.items():
        found[values == value] = meaning
    return found


def _fixed(at: I64, size: int) -> I64:
    return np.full(len(at), size, np.int64)


def _family(data: U8, at: I64) -> _Header:
    """NULL and LOOP: the address family in the capturing host's byte order, or the network's."""
    octets = np.take(data, at[:, None] + np.arange(4), mode="clip")
    little, big = octets.view("<u4")[:, 0], octets.view(">u4")[:, 0]
    return _Header(size=_fixed(at, 4), ethertype=_table(np.minimum(little, big), _FAMILIES), on_wire=_fixed(at, 0))


def _ppp(data: U8, at: I64) -> _Header:
    """PPP with or without address and control, and with a protocol of one octet or two."""
    framed = np.take(data, at + 1, mode="clip") == 0x03  # no protocol number is like it
    header = _protocol_at(data, at + np.where(framed, 2, 0), at)
    cisco = np.isin(_u16(data, at), _CISCO)  # its HDLC, under the name of PPP
    other = _cisco(data, at)
    return _Header(
        size=np.where(cisco, other.size, header.size),
        ethertype=np.where(cisco, other.ethertype, header.ethertype),
        on_wire=np.where(cisco, other.on_wire, header.on_wire),
    )


def _pppd(data: U8, at: I64) -> _Header:
    """As PPP; the address is a direction, 1: sent."""
    header = _ppp(data, at)
    return replace(header, outgoing=np.take(data, at, mode="clip") == 1)


def _protocol_at(data: U8, where: I64, at: I64) -> _Header:
    short = (np.take(data, where, mode="clip") & 1) == 1  # an odd first octet is the last
    protocol = np.where(short, np.take(data, where, mode="clip"), _u16(data, where))
    return _Header(
        size=where - at + np.where(short, 1, 2), ethertype=_table(protocol, _PPP_PROTOCOLS), on_wire=_fixed(at, 0)
    )


def _pppoe(_data: U8, at: I64) -> _Header:
    return _Header(size=_fixed(at, 0), ethertype=np.full(len(at), _PPP_SESSION, np.int32), on_wire=_fixed(at, 0))


def _cisco(data: U8, at: I64) -> _Header:
    return _Header(size=_fixed(at, 4), ethertype=_u16(data, at + 2).astype(np.int32), on_wire=_fixed(at, 4))


def _cooked(data: U8, at: I64) -> _Header:
    device = np.isin(_u16(data, at + 2), list(_ARPHRD_ETHERNET))
    return _Header(
        size=_fixed(at, 16),
        ethertype=_u16(data, at + 14).astype(np.int32),
        on_wire=np.where(device, ETHERNET_HEADER, 0),
        outgoing=_u16(data, at) == _OUTGOING,
    )


def _cooked2(data: U8, at: I64) -> _Header:
    device = np.isin(_u16(data, at + 8), list(_ARPHRD_ETHERNET))
    return _Header(
        size=_fixed(at, 20),
        ethertype=_u16(data, at).astype(np.int32),
        on_wire=np.where(device, ETHERNET_HEADER, 0),
        outgoing=np.take(data, at + 10, mode="clip") == _OUTGOING,
        ifindex=_u16(data, at + 4).astype(np.int64) << 16 | _u16(data, at + 6),
    )


_PARSERS: dict[int, _Parse] = {
    _NULL: _family,
    _LOOP: _family,
    _PPP: _ppp,
    _PPP_HDLC: _ppp,
    _PPPOE: _pppoe,
    _C_HDLC: _cisco,
    _SLL: _cooked,
    _PPP_PPPD: _pppd,
    _SLL2: _cooked2,
}
