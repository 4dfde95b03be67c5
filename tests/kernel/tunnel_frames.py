"""Tunnels of every kind: those that are opened, and those that are kept as they are. scapy builds the layers."""

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from producer.kernel.abi import NO_ICMP_TYPE
from tests.kernel.frames import A4, B4, ETHER
from tests.kernel.tunnel_headers import (
    DATAGRAM,
    INNER_4,
    INNER_6,
    INSIDE,
    OUTER_4,
    OUTER_6,
    PAYLOAD,
    SEGMENT,
    TCP_FIELDS,
    UDP_FIELDS,
    Tunnelled,
    geneve,
    gre,
    gtpu,
    over,
    with_protocol,
)


def _of(name: str, frame: bytes, kind: str, **rest: Any) -> Tunnelled:
    return Tunnelled(name=name, frame=frame, kind=kind, **rest)


def _everywhere() -> list[Tunnelled]:
    """Each kind over IPv4 and IPv6, with IPv4 and IPv6 inside."""
    cases = []
    for outer, outer_v6 in ((OUTER_4, False), (OUTER_6, True)):
        for inner, v6, ethertype, number in (
            (INNER_4 / SEGMENT / PAYLOAD, False, 0x800, 4),
            (INNER_6 / DATAGRAM / PAYLOAD, True, 0x86DD, 41),
        ):
            fields = UDP_FIELDS if v6 else TCP_FIELDS
            frames = {
                "vxlan": over(outer, port=4789, header=bytes(VXLAN(vni=77)), inner=INSIDE / inner),
                "geneve": over(outer, port=6081, header=geneve(), inner=INSIDE / inner),
                "gre": with_protocol(outer, 47, gre(ethertype) + bytes(inner)),
                "ipip": with_protocol(outer, number, bytes(inner)),
                "gtpu": over(outer, port=2152, header=gtpu(), inner=inner),
            }
            ids = {"vxlan": 77, "geneve": 0x0A0B0C, "gtpu": 0xDEADBEEF}
            cases += [
                _of(
                    f"{kind}: IPv{6 if v6 else 4} over IPv{6 if outer_v6 else 4}",
                    frame,
                    kind,
                    tunnel_id=ids.get(kind, 0),
                    outer_v6=outer_v6,
                    v6=v6,
                    fields=fields,
                )
                for kind, frame in frames.items()
            ]
    return cases


_4 = INNER_4 / DATAGRAM / PAYLOAD
_6 = INNER_6 / DATAGRAM / PAYLOAD
_VXLAN = bytes(VXLAN(vni=0xFFFFFF))
_GTPU_ID = {"tunnel_id": 0xDEADBEEF, "fields": UDP_FIELDS}
_GENEVE_ID = {"tunnel_id": 0x0A0B0C, "fields": UDP_FIELDS}

OPENED = [
    *_everywhere(),
    _of(
        "Linux's old VXLAN port",
        over(OUTER_4, port=8472, header=_VXLAN, inner=INSIDE / _4),
        "vxlan",
        tunnel_id=0xFFFFFF,
        fields=UDP_FIELDS,
    ),
    _of(
        "VXLAN with a group policy",
        over(OUTER_4, port=4789, header=b"\x88\0\0\x09\0\0\x05\0", inner=INSIDE / _4),
        "vxlan",
        tunnel_id=5,
        fields=UDP_FIELDS,
    ),
    _of(
        "inner tags are skipped",
        over(OUTER_4, port=4789, header=_VXLAN, inner=INSIDE / Dot1Q(vlan=5) / Dot1Q(vlan=6) / _4),
        "vxlan",
        tunnel_id=0xFFFFFF,
        fields=UDP_FIELDS,
    ),
    _of(
        "the outer tag is the flow's",
        over(ETHER / Dot1Q(vlan=9) / OUTER_4.payload, port=4789, header=_VXLAN, inner=INSIDE / Dot1Q(vlan=5) / _4),
        "vxlan",
        tunnel_id=0xFFFFFF,
        fields=UDP_FIELDS | {"vlan_id": 9},
    ),
    _of(
        "outer options",
        over(
            ETHER / IP(src="172.16.0.1", dst="172.16.0.2", options=[IPOption(b"\1" * 8)]),
            port=4789,
            header=_VXLAN,
            inner=INSIDE / _4,
        ),
        "vxlan",
        tunnel_id=0xFFFFFF,
        fields=UDP_FIELDS,
    ),
    _of(
        "geneve with options",
        over(OUTER_4, port=6081, header=geneve(options=3), inner=INSIDE / _4),
        "geneve",
        **_GENEVE_ID,
    ),
    _of(
        "geneve with all options there can be",
        over(OUTER_6, port=6081, header=geneve(options=63), inner=INSIDE / _4),
        "geneve",
        outer_v6=True,
        **_GENEVE_ID,
    ),
    _of(
        "geneve with IPv4 in it",
        over(OUTER_4, port=6081, header=geneve(ethertype=0x800), inner=_4),
        "geneve",
        **_GENEVE_ID,
    ),
    _of(
        "geneve with IPv6 in it",
        over(OUTER_4, port=6081, header=geneve(ethertype=0x86DD), inner=_6),
        "geneve",
        v6=True,
        **_GENEVE_ID,
    ),
    _of(
        "geneve with a critical option",
        over(OUTER_4, port=6081, header=geneve(options=1, flags=0x40), inner=INSIDE / _4),
        "geneve",
        **_GENEVE_ID,
    ),
    *(
        _of(
            f"GRE, checksum {c}, key {k}, sequence {s}",
            with_protocol(OUTER_4, 47, gre(0x800, checksum=c, key=k, sequence=s) + bytes(_4)),
            "gre",
            tunnel_id=0x01020304 if k else 0,
            fields=UDP_FIELDS,
        )
        for c in (False, True)
        for k in (False, True)
        for s in (False, True)
    ),
    _of(
        "GRE with Ethernet",
        with_protocol(OUTER_4, 47, gre(0x6558) + bytes(INSIDE / _6)),
        "gre",
        v6=True,
        fields=UDP_FIELDS,
    ),
    _of(
        "NVGRE: subnet and flow id are the key",
        with_protocol(OUTER_4, 47, gre(0x6558, key=True) + bytes(INSIDE / Dot1Q(vlan=3) / _4)),
        "gre",
        tunnel_id=0x01020304,
        fields=UDP_FIELDS,
    ),
    _of(
        "GRE with MPLS", with_protocol(OUTER_4, 47, gre(0x8847) + b"\0\0\x71\x40" + bytes(_4)), "gre", fields=UDP_FIELDS
    ),
    _of(
        "GRE behind IPv6 destination options",
        bytes(OUTER_6 / IPv6ExtHdrDestOpt(nh=47) / Raw(gre(0x800) + bytes(_4))),
        "gre",
        outer_v6=True,
        fields=UDP_FIELDS,
    ),
    _of(
        "4in6 behind an encapsulation limit",
        bytes(OUTER_6 / IPv6ExtHdrDestOpt(nh=4) / Raw(bytes(_4))),
        "ipip",
        outer_v6=True,
        fields=UDP_FIELDS,
    ),
    _of(
        "GTP-U with a sequence number", over(OUTER_4, port=2152, header=gtpu(optional=2), inner=_4), "gtpu", **_GTPU_ID
    ),
    _of("GTP-U with an N-PDU number", over(OUTER_4, port=2152, header=gtpu(optional=1), inner=_4), "gtpu", **_GTPU_ID),
    _of(
        "GTP-U with a PDU session container",
        over(OUTER_4, port=2152, header=gtpu(extensions=(b"\x85\0\x09",)), inner=_4),
        "gtpu",
        **_GTPU_ID,
    ),
    _of(
        "GTP-U with four extension headers",
        over(
            OUTER_6,
            port=2152,
            header=gtpu(optional=2, extensions=(b"\x85\0\x09", b"\xc0\1\2\3\4\5\6", b"\x20\0\0", b"\x81\0\0")),
            inner=_6,
        ),
        "gtpu",
        outer_v6=True,
        v6=True,
        **_GTPU_ID,
    ),
    _of(
        "inner options and extension headers",
        with_protocol(OUTER_4, 41, bytes(INNER_6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SEGMENT)),
        "ipip",
        v6=True,
        fields=TCP_FIELDS,
    ),
    _of(
        "inner options",
        with_protocol(
            OUTER_4, 4, bytes(IP(src=A4, dst=B4, ttl=61, tos=0xB8, options=[IPOption(b"\1" * 40)]) / SEGMENT)
        ),
        "ipip",
        fields=TCP_FIELDS,
    ),
    _of(
        "inner ICMP",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / ICMP(type=3, code=13))),
        "ipip",
        fields={"protocol": 1, "src_port": 3, "dst_port": 13},
    ),
    _of(
        "inner first fragment",
        with_protocol(OUTER_4, 4, bytes(IP(src=A4, dst=B4, ttl=61, tos=0xB8, flags="MF") / DATAGRAM / PAYLOAD)),
        "ipip",
        fields=UDP_FIELDS,
    ),
    _of(
        "inner later fragment",
        with_protocol(OUTER_4, 4, bytes(IP(src=A4, dst=B4, ttl=61, tos=0xB8, frag=9, proto=17) / DATAGRAM)),
        "ipip",
        fields={"protocol": 17},
    ),
    _of(
        "inner later fragment of IPv6",
        with_protocol(OUTER_4, 41, bytes(INNER_6 / IPv6ExtHdrFragment(offset=9, nh=6) / PAYLOAD)),
        "ipip",
        v6=True,
        fields={"protocol": 6},
    ),
    _of(
        "first outer fragment holds the inner headers",
        over(ETHER / IP(src="172.16.0.1", dst="172.16.0.2", flags="MF"), port=4789, header=_VXLAN, inner=INSIDE / _4),
        "vxlan",
        tunnel_id=0xFFFFFF,
        fields=UDP_FIELDS,
    ),
    _of(
        "inner layer 4 cut behind its ports",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / SEGMENT)[:28]),
        "ipip",
        fields={"protocol": 6, "src_port": 1111, "dst_port": 53},
    ),
    _of(
        "inner layer 4 cut before its ports",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / SEGMENT)[:23]),
        "ipip",
        fields={"protocol": 6},
    ),
    _of(
        "inner ICMP cut behind its code",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / ICMP(type=3, code=13))[:22]),
        "ipip",
        fields={"protocol": 1, "src_port": 3, "dst_port": 13},
    ),
    _of(
        "inner ICMP cut before its code",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / ICMP(type=3, code=13))[:21]),
        "ipip",
        fields={"protocol": 1, "src_port": NO_ICMP_TYPE},
    ),
    _of(
        "inner later fragment of ICMP",
        with_protocol(OUTER_4, 4, bytes(IP(src=A4, dst=B4, ttl=61, tos=0xB8, frag=9, proto=1) / PAYLOAD)),
        "ipip",
        fields={"protocol": 1, "src_port": NO_ICMP_TYPE},
    ),
    _of(
        "inner later fragment of ICMPv6",
        with_protocol(OUTER_4, 41, bytes(INNER_6 / IPv6ExtHdrFragment(offset=9, nh=58) / PAYLOAD)),
        "ipip",
        v6=True,
        fields={"protocol": 58, "src_port": NO_ICMP_TYPE},
    ),
    _of(
        "one level only",
        with_protocol(OUTER_4, 4, bytes(INNER_4 / IP(src="1.1.1.1") / DATAGRAM)),
        "ipip",
        fields={"protocol": 4},
    ),
    _of(
        "inner total length 0",
        with_protocol(OUTER_4, 4, bytes(IP(src=A4, dst=B4, ttl=61, tos=0xB8, len=0) / SEGMENT)),
        "ipip",
        fields=TCP_FIELDS,
    ),
]

_PADDING = bytes(INNER_4 / DATAGRAM / PAYLOAD)
_short_outer = ETHER / IP(src="172.16.0.1", dst="172.16.0.2", len=20, proto=4)
_half_outer = ETHER / IP(src="172.16.0.1", dst="172.16.0.2", len=20 + 19, proto=4)

KEPT = {
    "VXLAN without its flag": over(OUTER_4, port=4789, header=b"\0" * 4 + b"\0\0\x05\0", inner=INSIDE / _4),
    "VXLAN cut in its header": over(OUTER_4, port=4789, header=b"\x08\0\0\0\0\0\x05", inner=b""),
    "VXLAN cut in the inner Ethernet header": over(OUTER_4, port=4789, header=_VXLAN, inner=bytes(INSIDE)[:13]),
    "VXLAN with ARP inside": over(
        OUTER_4, port=4789, header=_VXLAN, inner=bytes(INSIDE)[:12] + b"\x08\x06" + b"a" * 28
    ),
    "VXLAN with a frame of IEEE 802.3 inside": over(
        OUTER_4, port=4789, header=_VXLAN, inner=bytes(INSIDE)[:12] + b"\0\x40" + b"B" * 64
    ),
    "VXLAN's port as the source": bytes(OUTER_4 / UDP(sport=4789, dport=9) / Raw(_VXLAN + bytes(INSIDE / _4))),
    "VXLAN's port of TCP": bytes(OUTER_4 / TCP(sport=9, dport=4789) / Raw(_VXLAN + bytes(INSIDE / _4))),
    "inner IPv4 cut": over(OUTER_4, port=4789, header=_VXLAN, inner=bytes(INSIDE / _4)[: 14 + 19]),
    "inner IPv6 cut": over(OUTER_4, port=4789, header=_VXLAN, inner=bytes(INSIDE / _6)[: 14 + 39]),
    "inner IHL below 5": with_protocol(OUTER_4, 4, b"\x44" + bytes(_4)[1:]),
    "inner version that is not the protocol's": with_protocol(OUTER_4, 4, bytes(_6)),
    "inner version that is not the protocol's, IPv6": with_protocol(OUTER_6, 41, bytes(_4) + b"p" * 40),
    "inner options beyond the frame": with_protocol(OUTER_4, 4, b"\x4f" + bytes(INNER_4 / ICMP())[1:]),
    "inner extension header beyond the frame": with_protocol(
        OUTER_4, 41, bytes(INNER_6 / IPv6ExtHdrDestOpt(len=200) / DATAGRAM)
    ),
    "inner total length below the header": with_protocol(OUTER_4, 4, bytes(IP(len=19) / DATAGRAM)),
    "geneve of another version": over(OUTER_4, port=6081, header=geneve(version=1), inner=INSIDE / _4),
    "geneve's control": over(OUTER_4, port=6081, header=geneve(flags=0x80), inner=INSIDE / _4),
    "geneve with options beyond the frame": over(
        OUTER_4, port=6081, header=geneve()[:8].replace(b"\0", b"\x3f", 1), inner=INSIDE / _4
    ),
    "geneve with something else": over(OUTER_4, port=6081, header=geneve(ethertype=0x88CC), inner=_4),
    "GRE with routing": with_protocol(OUTER_4, 47, gre(0x800, flags=0x4000) + bytes(_4)),
    "PPTP's GRE": with_protocol(OUTER_4, 47, gre(0x880B, key=True, flags=1) + bytes(_4)),
    "GRE keepalive": with_protocol(OUTER_4, 47, gre(0)),
    "GRE with ERSPAN": with_protocol(OUTER_4, 47, gre(0x88BE, sequence=True) + bytes(8) + bytes(INSIDE / _4)),
    "GRE cut in its key": with_protocol(OUTER_4, 47, gre(0x800, key=True)[:7]),
    "GTP-U echo request": over(OUTER_4, port=2152, header=gtpu(kind=1, optional=2), inner=b""),
    "GTP-U end marker": over(OUTER_4, port=2152, header=gtpu(kind=254), inner=_4),
    "GTP version 2": over(OUTER_4, port=2152, header=gtpu(flags=0x50), inner=_4),
    "GTP'": over(OUTER_4, port=2152, header=gtpu(flags=0x20), inner=_4),
    "GTP-U with five extension headers": over(
        OUTER_4, port=2152, header=gtpu(extensions=(b"\x85\0\x09",) * 5), inner=_4
    ),
    "GTP-U with an extension header of no length": over(
        OUTER_4, port=2152, header=gtpu(extensions=(b"\x85\0\x09",))[:12] + b"\0\0\0\0", inner=_4
    ),
    "GTP-U with something that is not IP": over(OUTER_4, port=2152, header=gtpu(), inner=b"\x21" * 60),
    "GTP-U with nothing inside": over(OUTER_4, port=2152, header=gtpu(), inner=b""),
    "padding behind the outer packet is not opened": bytes(_short_outer) + _PADDING,
    "an inner header that ends in the padding": bytes(_half_outer) + _PADDING,
    "later outer fragment": bytes(ETHER / IP(src="172.16.0.1", dst="172.16.0.2", proto=4, frag=9)) + bytes(_4),
    "later outer fragment of IPv6": bytes(OUTER_6 / IPv6ExtHdrFragment(offset=9, nh=4) / _4),
    "UDP header cut": bytes(OUTER_4)[:-20]
    + bytes(IP(src="172.16.0.1", dst="172.16.0.2", proto=17))
    + bytes(UDP(sport=1, dport=4789))[:6],
    "an ordinary packet": bytes(ETHER / _4),
}
"""What is inside cannot be read: the outer packet stays, as if nothing were to be opened."""
