"""Frames that may carry a name, and some that look alike. Written by hand but for the headers."""

import socket
import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

CLIENT, SERVER = "192.0.2.1", "198.51.100.7"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ISN = 0xFFFFFF00
"""Sequence numbers of the connections here wrap."""


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def query(text: str = "www.example.org", *, flags: int = 0x0100, additional: bytes = b"") -> bytes:
    head = struct.pack(">6H", 0x1234, flags, 1, 0, 0, bool(additional))
    return head + name(text) + struct.pack(">HH", 1, 1) + additional


EDNS = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)


def answer(text: str = "www.example.org", *, flags: int = 0x8180) -> bytes:
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("203.0.113.9")
    return struct.pack(">6H", 0x1234, flags, 1, 1, 0, 0) + name(text) + struct.pack(">HH", 1, 1) + record


def hello(octets: int) -> bytes:
    """A TLS record with a ClientHello, as long as that; behind its headers there is anything."""
    return struct.pack(">BHHBBH", 22, 0x0301, octets - 5, 1, 0, octets - 9) + bytes(i % 251 for i in range(octets - 9))


def quic(version: int, *, first: int = 0xC3, octets: int = 1200, destination: int = 8) -> bytes:
    return (bytes([first]) + struct.pack(">IB", version, destination) + bytes(range(20)) * 100)[:octets]


def four(upper: Packet, payload: bytes = b"") -> bytes:
    return bytes(ETHER / IP(src=CLIENT, dst=SERVER) / upper / Raw(payload))


def six(upper: Packet, payload: bytes = b"", *extensions: Packet) -> bytes:
    packet = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")
    for each in extensions:
        packet /= each
    return bytes(packet / upper / Raw(payload))


def udp(payload: bytes, dport: int = 9999, sport: int = 40_000) -> bytes:
    return four(UDP(sport=sport, dport=dport), payload)


def syn(sport: int = 40_000, dport: int = 9999) -> bytes:
    return four(TCP(sport=sport, dport=dport, flags="S", seq=ISN))


def tcp(payload: bytes, at: int = 0, *, sport: int = 40_000, dport: int = 9999, flags: str = "PA") -> bytes:
    """A segment `at` octets behind the beginning of the connection's data."""
    return four(TCP(sport=sport, dport=dport, flags=flags, seq=(ISN + 1 + at) % 2**32), payload)
