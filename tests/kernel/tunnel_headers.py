"""Headers of tunnels, a few of them by hand, and what the program must make of a frame that has them."""

import struct
from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.kernel.frames import A4, A6, B4, B6, ETHER, octets_of

OUTER_4 = ETHER / IP(src="172.16.0.1", dst="172.16.0.2", ttl=9, tos=0x20)
OUTER_6 = ETHER / IPv6(src="2001:db8:f::1", dst="2001:db8:f::2", hlim=9)
INSIDE = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
INNER_4 = IP(src=A4, dst=B4, ttl=61, tos=0xB8)
INNER_6 = IPv6(src=A6, dst=B6, hlim=62, tc=0xB9)
PAYLOAD = Raw(b"p" * 40)
SEGMENT = TCP(sport=1111, dport=53, flags="SA")
DATAGRAM = UDP(sport=1111, dport=53)
TCP_FIELDS = {"protocol": 6, "src_port": 1111, "dst_port": 53, "tcp_flags": 0x12}
UDP_FIELDS = {"protocol": 17, "src_port": 1111, "dst_port": 53}
ALL = ("vxlan", "geneve", "gre", "ipip", "gtpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnelled:
    """A frame that is opened."""

    name: str
    frame: bytes
    kind: str  # of TUNNEL_TYPES
    tunnel_id: int = 0
    outer_v6: bool = False
    v6: bool = False
    fields: dict[str, Any] = field(default_factory=dict)  # of the inner packet, besides the usual ones


def expected(case: Tunnelled) -> dict[str, Any]:
    """All fields but time, hash and epoch."""
    outer = ("2001:db8:f::1", "2001:db8:f::2") if case.outer_v6 else ("172.16.0.1", "172.16.0.2")
    inner = {
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
        "outer_src": octets_of(outer[0]),
        "outer_dst": octets_of(outer[1]),
        "tunnel_id": case.tunnel_id,
        "tunnel_type": ("none", *ALL).index(case.kind),
    }
    return inner | case.fields


def over(outer: Packet, *, port: int, header: bytes, inner: Packet | bytes) -> bytes:
    """UDP, a header of octets, and what follows."""
    return bytes(outer / UDP(sport=40000, dport=port) / Raw(header + bytes(inner)))


def with_protocol(outer: Packet, protocol: int, payload: bytes) -> bytes:
    frame = outer.copy()
    if IP in frame:
        frame[IP].proto = protocol
    else:
        frame[IPv6].nh = protocol
    return bytes(frame / Raw(payload))


def geneve(*, options: int = 0, ethertype: int = 0x6558, version: int = 0, flags: int = 0) -> bytes:
    """VNI 0x0a0b0c with so many words of options."""
    return struct.pack("!BBH", version << 6 | options, flags, ethertype) + b"\x0a\x0b\x0c\0" + b"\xaa" * 4 * options


def gre(ethertype: int, *, checksum: bool = False, key: bool = False, sequence: bool = False, flags: int = 0) -> bytes:
    """Key 0x01020304."""
    bits = checksum << 15 | key << 13 | sequence << 12 | flags
    header = struct.pack("!HH", bits, ethertype) + (b"\xab\xcd\0\0" if checksum else b"")
    return header + (b"\1\2\3\4" if key else b"") + (b"\0\0\0\x2a" if sequence else b"")


def gtpu(*, optional: int = 0, extensions: tuple[bytes, ...] = (), kind: int = 0xFF, flags: int = 0x30) -> bytes:
    """TEID 0xdeadbeef. Each extension: its type, then what it holds; padded and chained here."""
    head = struct.pack("!BBHI", flags | optional | (4 if extensions else 0), kind, 99, 0xDEADBEEF)
    if not (optional or extensions):
        return head
    kinds = [each[0] for each in extensions] + [0]
    out = head + b"\0\7\1" + bytes([kinds[0]])
    for each, following in zip(extensions, kinds[1:], strict=True):
        held = each[1:]
        words = (len(held) + 2 + 3) // 4
        out += bytes([words]) + held.ljust(words * 4 - 2, b"\0") + bytes([following])
    return out
