"""Frames and what the program must make of them. scapy builds them; what is expected is written by hand."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from producer.kernel.abi import NO_ICMP_TYPE

A4, B4 = "10.0.0.1", "192.0.2.7"
A6, B6 = "2001:db8::1", "fe80::2"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8)
V6 = ETHER / IPv6(src=A6, dst=B6, hlim=62, tc=0xB9)
PAYLOAD = Raw(b"p" * 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A frame that becomes an event."""

    name: str
    frame: bytes
    v6: bool = False
    fields: dict[str, Any] = field(default_factory=dict)  # what differs from a packet without ports and flags


def octets_of(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def expected(case: Case) -> dict[str, Any]:
    """All fields but time, hash and epoch."""
    common = {
        "src": octets_of(A6 if case.v6 else A4),
        "dst": octets_of(B6 if case.v6 else B4),
        "ttl": 62 if case.v6 else 61,
        "tos": 0xB9 if case.v6 else 0xB8,
        "bytes": len(case.frame),
        "packets": 1,
        "src_port": 0,
        "dst_port": 0,
        "vlan_id": 0,
        "tcp_flags": 0,
        "slot": 0,
        "segment_bytes": 0,
        "flags": 0,
    }
    return common | case.fields


def _v4(name: str, frame: Any, **fields: Any) -> Case:
    return Case(name=name, frame=bytes(frame), fields=fields)


def _v6(name: str, frame: Any, **fields: Any) -> Case:
    return Case(name=name, frame=bytes(frame), v6=True, fields=fields)


_PORTS = {"src_port": 1111, "dst_port": 53}
_TCP = TCP(sport=1111, dport=53, flags="SA")
_UDP = UDP(sport=1111, dport=53)
_SYN_ACK = 0x12

EVENTS = [
    _v4("IPv4 TCP", V4 / _TCP / PAYLOAD, protocol=6, tcp_flags=_SYN_ACK, **_PORTS),
    _v4("IPv4 TCP all nine flags", V4 / TCP(sport=1111, dport=53, flags=0x1FF), protocol=6, tcp_flags=0x1FF, **_PORTS),
    _v4("IPv4 TCP without flags", V4 / TCP(sport=1111, dport=53, flags=0), protocol=6, **_PORTS),
    _v4("IPv4 UDP", V4 / _UDP / PAYLOAD, protocol=17, **_PORTS),
    _v4("IPv4 ICMP", V4 / ICMP(type=3, code=13) / PAYLOAD, protocol=1, src_port=3, dst_port=13),
    _v4("IPv4 SCTP", V4 / SCTP(sport=1111, dport=53) / PAYLOAD, protocol=132, **_PORTS),
    _v4("IPv4 GRE keeps the outer header", V4 / GRE() / IP(src="1.1.1.1") / _UDP, protocol=47),
    _v4("IPv4 in IPv4 keeps the outer header", V4 / IP(src="1.1.1.1") / _UDP, protocol=4),
    _v4("IPv4 AH is a protocol without ports", V4 / AH(nh=17) / _UDP, protocol=51),
    _v4(
        "IPv4 options move the ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, options=[IPOption(b"\x01" * 8)]) / _UDP / PAYLOAD,
        protocol=17,
        **_PORTS,
    ),
    _v4(
        "IPv4 with 40 octets of options",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, options=[IPOption(b"\x01" * 40)]) / _TCP,
        protocol=6,
        tcp_flags=_SYN_ACK,
        **_PORTS,
    ),
    _v4(
        "IPv4 first fragment has ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, flags="MF") / _UDP / PAYLOAD,
        protocol=17,
        **_PORTS,
    ),
    _v4(
        "IPv4 later fragment has none",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, frag=100, proto=17) / PAYLOAD,
        protocol=17,
    ),
    _v4(
        "IPv4 last fragment of TCP has no flags",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, frag=1, proto=6) / PAYLOAD,
        protocol=6,
    ),
    _v4(
        "IPv4 TCP cut after its ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=6) / Raw(bytes(_TCP)[:8]),
        protocol=6,
        **_PORTS,
    ),
    _v4(
        "IPv4 TCP header that says it has 16 octets",
        V4 / TCP(sport=1111, dport=53, flags="SA", dataofs=4) / PAYLOAD,
        protocol=6,
        **_PORTS,
    ),
    _v4(
        "IPv4 TCP cut behind its flags",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=6) / Raw(bytes(_TCP)[:14]),
        protocol=6,
        tcp_flags=_SYN_ACK,
        **_PORTS,
    ),
    _v4(
        "IPv4 SCTP cut behind its ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=132) / Raw(bytes(SCTP(sport=1111, dport=53))[:4]),
        protocol=132,
        **_PORTS,
    ),
    _v4(
        "ICMP cut behind its code",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=1) / Raw(b"\x03\x0d"),
        protocol=1,
        src_port=3,
        dst_port=13,
    ),
    _v4(
        "ICMP cut before its code has no type",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=1) / Raw(b"\x03"),
        protocol=1,
        src_port=NO_ICMP_TYPE,
    ),
    _v4(
        "Ethernet padding is not read as ICMP",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=1, len=20) / Raw(b"\x08" * 26),
        protocol=1,
        src_port=NO_ICMP_TYPE,
    ),
    _v4(
        "IPv4 first fragment of ICMP has a type",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, flags="MF") / ICMP(type=8) / PAYLOAD,
        protocol=1,
        src_port=8,
    ),
    _v4(
        "IPv4 later fragment of ICMP has no type",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, frag=100, proto=1) / PAYLOAD,
        protocol=1,
        src_port=NO_ICMP_TYPE,
    ),
    _v4("ICMP type and code 255", V4 / ICMP(type=255, code=255), protocol=1, src_port=255, dst_port=255),
    _v4(
        "IPv4 UDP cut before its ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=17) / Raw(bytes(_UDP)[:3]),
        protocol=17,
    ),
    _v4(
        "Ethernet padding is not read as ports",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, proto=17, len=20) / Raw(b"\x55" * 26),
        protocol=17,
    ),
    _v4(
        "IPv4 with total length 0 (BIG TCP)",
        ETHER / IP(src=A4, dst=B4, ttl=61, tos=0xB8, len=0) / _TCP / PAYLOAD,
        protocol=6,
        tcp_flags=_SYN_ACK,
        **_PORTS,
    ),
    _v4("802.1Q in the frame", ETHER / Dot1Q(vlan=77, prio=5) / V4.payload / _UDP, protocol=17, vlan_id=77, **_PORTS),
    _v4(
        "802.1ad outer tag is reported",
        ETHER / Dot1AD(vlan=88) / Dot1Q(vlan=77) / V4.payload / _UDP,
        protocol=17,
        vlan_id=88,
        **_PORTS,
    ),
    _v4(
        "four tags",
        ETHER / Dot1Q(vlan=4) / Dot1Q(vlan=3) / Dot1Q(vlan=2) / Dot1Q(vlan=1) / V4.payload / _UDP,
        protocol=17,
        vlan_id=4,
        **_PORTS,
    ),
    _v4("priority tag is VLAN 0", ETHER / Dot1Q(vlan=0, prio=7) / V4.payload / _UDP, protocol=17, **_PORTS),
    _v4("one MPLS label", ETHER / MPLS(label=7, s=1) / V4.payload / _UDP, protocol=17, **_PORTS),
    _v4(
        "VLAN and two MPLS labels",
        ETHER / Dot1Q(vlan=9) / MPLS(label=7, s=0) / MPLS(label=8, s=1) / V4.payload / _UDP,
        protocol=17,
        vlan_id=9,
        **_PORTS,
    ),
    _v4("PPPoE", ETHER / PPPoE(sessionid=3) / PPP(proto=0x21) / V4.payload / _UDP, protocol=17, **_PORTS),
    _v4(
        "IEEE 802.3 with LLC and SNAP",
        Dot3(src=ETHER.src, dst=ETHER.dst)
        / LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
        / SNAP(OUI=0, code=0x800)
        / V4.payload
        / _UDP,
        protocol=17,
        **_PORTS,
    ),
    _v4(
        "802.1Q with LLC and SNAP",
        ETHER
        / Dot1Q(vlan=9, type=40)
        / LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
        / SNAP(OUI=0, code=0x800)
        / V4.payload
        / _UDP,
        protocol=17,
        vlan_id=9,
        **_PORTS,
    ),
    _v6("IPv6 TCP", V6 / _TCP / PAYLOAD, protocol=6, tcp_flags=_SYN_ACK, **_PORTS),
    _v6("IPv6 UDP", V6 / _UDP / PAYLOAD, protocol=17, **_PORTS),
    _v6("ICMPv6", V6 / ICMPv6EchoRequest(), protocol=58, src_port=128, dst_port=0),
    _v6(
        "ICMPv6 cut before its type has none",
        ETHER / IPv6(src=A6, dst=B6, hlim=62, tc=0xB9, nh=58, plen=1),
        protocol=58,
        src_port=NO_ICMP_TYPE,
    ),
    _v6(
        "ICMPv6 first fragment has a type",
        V6 / IPv6ExtHdrFragment(offset=0, m=1) / ICMPv6EchoRequest(),
        protocol=58,
        src_port=128,
    ),
    _v6(
        "ICMPv6 later fragment has no type",
        V6 / IPv6ExtHdrFragment(offset=10, nh=58) / PAYLOAD,
        protocol=58,
        src_port=NO_ICMP_TYPE,
    ),
    _v6("IPv6 SCTP", V6 / SCTP(sport=1111, dport=53), protocol=132, **_PORTS),
    _v6("IPv6 without next header", ETHER / IPv6(src=A6, dst=B6, hlim=62, tc=0xB9, nh=59), protocol=59),
    _v6("IPv6 hop-by-hop", V6 / IPv6ExtHdrHopByHop() / _UDP, protocol=17, **_PORTS),
    _v6("IPv6 routing", V6 / IPv6ExtHdrRouting(addresses=["::1"]) / _TCP, protocol=6, tcp_flags=_SYN_ACK, **_PORTS),
    _v6("IPv6 AH", V6 / AH(nh=17, icv=b"i" * 12, payloadlen=4) / _UDP, protocol=17, **_PORTS),
    _v6(
        "IPv6 hop-by-hop, destination, routing, AH, destination",
        V6
        / IPv6ExtHdrHopByHop()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrRouting(addresses=["::1"])
        / AH(nh=60, icv=b"i" * 12, payloadlen=4)
        / IPv6ExtHdrDestOpt()
        / _UDP,
        protocol=17,
        **_PORTS,
    ),
    _v6(
        "IPv6 eight extension headers",
        V6
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt()
        / _UDP,
        protocol=17,
        **_PORTS,
    ),
    _v6("IPv6 first fragment has ports", V6 / IPv6ExtHdrFragment(m=1) / _UDP / PAYLOAD, protocol=17, **_PORTS),
    _v6("IPv6 atomic fragment has ports", V6 / IPv6ExtHdrFragment() / _UDP / PAYLOAD, protocol=17, **_PORTS),
    _v6("IPv6 later fragment has none", V6 / IPv6ExtHdrFragment(offset=9, nh=17) / PAYLOAD, protocol=17),
    _v6(
        "IPv6 later fragment of destination options is not walked",
        V6 / IPv6ExtHdrFragment(offset=9, nh=60) / PAYLOAD,
        protocol=60,
    ),
    _v6("IPv6 in VLAN", ETHER / Dot1Q(vlan=77) / V6.payload / _UDP, protocol=17, vlan_id=77, **_PORTS),
    _v6("IPv6 in PPPoE", ETHER / PPPoE(sessionid=3) / PPP(proto=0x57) / V6.payload / _UDP, protocol=17, **_PORTS),
]


def _with_protocol(frame: Any, protocol: int) -> bytes:
    frame = frame.copy()
    frame[IP].proto = protocol
    return bytes(frame)


EVENTS += [
    Case(name="IPv4 ESP", frame=_with_protocol(V4 / Raw(b"\0" * 30), 50), fields={"protocol": 50}),
    Case(
        name="IPv4 UDP-Lite",
        frame=_with_protocol(V4 / Raw(bytes(_UDP / PAYLOAD)), 136),
        fields=_PORTS | {"protocol": 136},
    ),
    Case(name="IPv4 DCCP", frame=_with_protocol(V4 / Raw(bytes(_UDP / PAYLOAD)), 33), fields={"protocol": 33} | _PORTS),
    Case(name="IPv4 IGMP", frame=_with_protocol(V4 / Raw(b"\x16" + bytes(30)), 2), fields={"protocol": 2}),
    Case(name="IPv4 protocol 255", frame=_with_protocol(V4 / PAYLOAD, 255), fields={"protocol": 255}),
]


def _patched(frame: Any, offset: int, value: bytes) -> bytes:
    octets = bytearray(bytes(frame))
    octets[offset : offset + len(value)] = value
    return bytes(octets)


NON_IP = {
    "ARP": bytes(ETHER / ARP() / PAYLOAD),
    "ARP in VLAN": bytes(ETHER / Dot1Q(vlan=5) / ARP() / PAYLOAD),
    "spanning tree (802.3)": bytes(Dot3() / LLC() / STP()),
    "SNAP of another organization": bytes(
        Dot3() / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0xC, code=0x800) / V4.payload / _UDP
    ),
    "IEEE 802.3 of nothing else": bytes(Dot3()) + b"\xaa\xaa\x03" + bytes(20),
    "LLDP": bytes(ETHER.__class__(type=0x88CC) / PAYLOAD),
    "five tags": bytes(ETHER / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / V4.payload / _UDP),
    "MPLS with something else behind": bytes(ETHER / MPLS(label=7, s=1) / Raw(b"\x00" * 40)),
    "five MPLS labels": bytes(ETHER / MPLS(s=0) / MPLS(s=0) / MPLS(s=0) / MPLS(s=0) / MPLS(s=1) / V4.payload / _UDP),
    "PPPoE LCP": bytes(ETHER / PPPoE(sessionid=3) / PPP(proto=0xC021) / PAYLOAD),
}

MALFORMED = {
    "IPv4 with IHL 4": _patched(V4 / _UDP / PAYLOAD, 14, b"\x44"),
    "IPv4 EtherType with version 6": _patched(V4 / _UDP / PAYLOAD, 14, b"\x65"),
    "IPv6 EtherType with version 4": _patched(V6 / _UDP / PAYLOAD, 14, b"\x45"),
    "IPv4 total length below the header": _patched(V4 / _UDP / PAYLOAD, 16, b"\x00\x13"),
    "IPv4 options beyond the frame": _patched(V4 / Raw(b"12345678"), 14, b"\x4f\x00\x00\x3c"),
    "IPv6 cut in its header": bytes(ETHER / Dot1Q(vlan=5) / V6.payload)[: 18 + 39],
    "IPv6 extension header beyond the frame": _patched(V6 / IPv6ExtHdrDestOpt() / _UDP, 14 + 40 + 1, b"\xff"),
    "IPv6 extension header beyond the payload length": _patched(
        V6 / IPv6ExtHdrDestOpt() / _UDP / Raw(b"x" * 300), 14 + 4, b"\x00\x07"
    ),
    "IPv6 AH of four octets": _patched(V6 / AH(nh=17, icv=b"i" * 12, payloadlen=4) / _UDP, 14 + 40 + 1, b"\xff"),
    "VLAN tag without a header behind": bytes(ETHER / Dot1Q(vlan=5, type=0x0800) / Raw(b"\x45" + b"\0" * 17)),
    "MPLS label at the end": bytes(ETHER / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q(type=0x8847) / Raw(b"\0\0\x10\x40")),
}
