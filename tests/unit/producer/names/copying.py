"""Copies as the kernel makes them."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from producer.kernel.abi import COPY
from producer.names.columns import Names
from producer.names.copies import DNS, TCP, UDP, Heads
from producer.names.reader import NameReader

SECOND = 1_000_000_000
CLIENT, SERVER = "192.0.2.1", "198.51.100.53"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one packet brings."""

    octets: bytes
    kind: int = DNS
    src: str = CLIENT
    dst: str = SERVER
    src_port: int = 40_000
    dst_port: int = 53
    protocol: int = UDP
    time_ns: int = SECOND
    seq: int = 0
    on_wire: int = 0  # 0: no more than octets
    fragment_offset: int = 0
    flags: int = 0

    def back(self, octets: bytes, *, after_ns: int = 0) -> "Sent":
        """From the other end."""
        return replace(
            self,
            octets=octets,
            src=self.dst,
            dst=self.src,
            src_port=self.dst_port,
            dst_port=self.src_port,
            time_ns=self.time_ns + after_ns,
        )


def address(text: str) -> bytes:
    number = ipaddress.ip_address(text)
    return number.packed if number.version == 6 else bytes(10) + b"\xff\xff" + number.packed


def heads(sent: Sequence[Sent]) -> Heads:
    found = np.zeros(len(sent), COPY)
    for head, packet in zip(found, sent, strict=True):
        head["ktime_ns"], head["seq"], head["protocol"], head["kind"] = (
            packet.time_ns,
            packet.seq,
            packet.protocol,
            packet.kind,
        )
        head["src"] = np.frombuffer(address(packet.src), np.uint8)
        head["dst"] = np.frombuffer(address(packet.dst), np.uint8)
        head["src_port"], head["dst_port"] = packet.src_port, packet.dst_port
        head["copied"], head["payload_bytes"] = len(packet.octets), packet.on_wire or len(packet.octets)
        head["fragment_offset"], head["flags"] = packet.fragment_offset, packet.flags
        head["flow_hash"] = hash((packet.src, packet.dst, packet.src_port, packet.dst_port)) % 2**64
        head["slot"], head["direction"] = 3, 1
    return found


def read(reader: NameReader, *sent: Sent) -> Names:
    """One call with all of these."""
    lengths = [len(packet.octets) for packet in sent]
    offsets = np.cumsum([0, *lengths[:-1]]).astype(np.int64) + 7  # something else stands before
    return reader.read(heads(sent), memoryview(bytes(7) + b"".join(packet.octets for packet in sent)), offsets)


def tls(octets: bytes, *, kind: int, seq: int = 1000, on_wire: int = 0, src_port: int = 50_000) -> Sent:
    return Sent(octets=octets, kind=kind, dst_port=443, src_port=src_port, protocol=TCP, seq=seq, on_wire=on_wire)


def named(found: Names) -> list[str]:
    """The name of each row."""
    return [found.names[place] if place >= 0 else "" for place in found.rows["name"].tolist()]
