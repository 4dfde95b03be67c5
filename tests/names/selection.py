"""What the kernel program would copy of a capture, by the rules of bpf/inspect.h, without a kernel.

Up to 2,048 octets of each payload that begins like something with a name; of a ClientHello that is longer than its
segment up to four segments, in any order behind the SYN; up to four fragments of a datagram.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from producer.kernel.abi import COPY, MORE_FRAGMENTS
from producer.names.copies import CONTINUATION, DNS, FRAGMENT, HTTP, QUIC, TCP, TCP_DNS, TLS, UDP
from producer.replay.files.frames import Frames

COPIED = 2_048
_PORTS = {53, 5353, 5355}
_METHODS = (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ")
_MOST_HELLO, _MOST_PARTS = 0x4000, 4
_TAGS = {0x8100, 0x88A8, 0x9100}
_EXTENSIONS = {0, 43, 60, 51, 135, 139, 140}
_FIN_SYN_RST, _SYN = 0x07, 0x02


class Packet(NamedTuple):
    """What an IP header says, and what is behind it as far as it was captured."""

    src: bytes
    dst: bytes
    protocol: int
    identity: int
    fragment_offset: int
    more: bool
    payload: bytes
    on_wire: int  # octets of the payload, by the header


class Copied(NamedTuple):
    """A copy."""

    head: np.void  # of COPY
    octets: bytes


@dataclass(slots=True)
class _Hello:
    first: int
    left: int = 0
    segments: int = _MOST_PARTS


@dataclass(slots=True)
class Selection:
    """Over the frames of one capture."""

    hellos: dict[bytes, _Hello] = field(default_factory=dict)
    datagrams: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)  # ports, fragments that are left

    def copies(self, frames: Frames, no_ethernet: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[Copied]:
        """Of prepared frames."""
        for at in range(len(frames)):
            begin = int(frames.start[at])
            octets = frames.data[begin : begin + int(frames.captured[at])].tobytes()
            packet = ip_packet(octets, bool(no_ethernet[at]))
            if packet is not None and (found := self._copy(packet, int(frames.time_ns[at]))) is not None:
                yield found

    def _copy(self, packet: Packet, time_ns: int) -> Copied | None:
        if packet.more or packet.fragment_offset:
            return self._fragment(packet, time_ns)
        return self._whole(packet, time_ns)

    def _whole(self, packet: Packet, time_ns: int) -> Copied | None:
        octets = packet.payload
        if packet.protocol == UDP and len(octets) >= 8:
            ports, payload, seq = _ports(octets), octets[8:], 0
            kind = udp_kind(payload, packet.on_wire - 8, *ports) if payload else 0
            head = 8
        elif packet.protocol == TCP and len(octets) >= 20:
            ports, head = _ports(octets), 4 * (octets[12] >> 4)
            payload, seq = octets[head:], int.from_bytes(octets[4:8], "big")
            kind = self._tcp_kind(packet, ports, seq, octets[13], payload, packet.on_wire - head)
        else:
            return None
        if not kind:
            return None
        return _copied(packet, kind, ports, seq, payload, packet.on_wire - head, time_ns)

    def _tcp_kind(
        self, packet: Packet, ports: tuple[int, int], seq: int, flags: int, payload: bytes, on_wire: int
    ) -> int:
        key = packet.src + packet.dst + bytes(repr(ports), "ascii")
        if flags & _FIN_SYN_RST == _SYN:
            self.hellos[key] = _Hello((seq + 1) % 2**32)
        if not payload or on_wire <= 0:
            return 0
        kind = tcp_kind(payload, on_wire, *ports)
        hello = self.hellos.get(key)
        if kind == TLS:
            left = _MOST_HELLO
            if on_wire >= 9 and len(payload) >= 9 and not payload[6]:
                left = min(left, int.from_bytes(payload[7:9], "big") + 9)
            left -= on_wire
            segments = _MOST_PARTS
            if hello is not None and hello.left < 0 and hello.first == seq:
                left, segments = left + hello.left, hello.segments
            if left > 0:
                self.hellos[key] = _Hello(seq, left, max(0, segments - 1))
            else:
                self.hellos.pop(key, None)
        elif not kind and hello is not None:
            return self._more(key, hello, seq, payload, on_wire)
        return kind

    def _more(self, key: bytes, hello: _Hello, seq: int, payload: bytes, on_wire: int) -> int:
        if not (hello.segments or hello.left > 0) or (seq - hello.first) % 2**32 >= _MOST_HELLO:
            return 0
        if hello.left <= 0 and seq == hello.first and not (on_wire < 3 and payload[0] == 0x16):
            del self.hellos[key]
            return 0
        segments, still = hello.segments, hello.left - min(on_wire, _MOST_HELLO)
        if hello.left > 0 and still <= 0:
            del self.hellos[key]
        else:
            hello.left, hello.segments = max(still, -_MOST_HELLO), max(0, segments - 1)
        return CONTINUATION if segments else 0

    def _fragment(self, packet: Packet, time_ns: int) -> Copied | None:
        key = packet.src + packet.dst + bytes((packet.protocol,)) + packet.identity.to_bytes(4, "big")
        if not packet.fragment_offset:
            first = self._whole(packet, time_ns)
            if first is None:
                return None
            ports = int(first.head["src_port"]), int(first.head["dst_port"])
            self.datagrams[key] = (*ports, _MOST_PARTS - 1)
        elif key in self.datagrams and self.datagrams[key][2]:
            src, dst, left = self.datagrams[key]
            ports = src, dst
            self.datagrams[key] = src, dst, left - 1
        else:
            return None
        return _copied(packet, FRAGMENT, ports, packet.identity, packet.payload, packet.on_wire, time_ns)


def ip_packet(frame: bytes, no_ethernet: bool) -> Packet | None:
    """The outermost IP header's packet."""
    at, kind = (0, 0) if no_ethernet else (14, int.from_bytes(frame[12:14], "big"))
    while kind in _TAGS:
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    if kind and kind < 0x0600 and frame[at : at + 6] == b"\xaa\xaa\3\0\0\0":
        kind, at = int.from_bytes(frame[at + 6 : at + 8], "big"), at + 8
    if kind == 0x8864:
        kind, at = {0x21: 0x0800, 0x57: 0x86DD}.get(int.from_bytes(frame[at + 6 : at + 8], "big"), 1), at + 8
    if kind == 0x8847:
        while at + 4 < len(frame) and not frame[at + 2] & 1:
            at += 4
        kind, at = 0, at + 4
    octets = frame[at:]
    if not octets or kind not in (0, 0x0800, 0x86DD):
        return None
    return _ipv4(octets) if octets[0] >> 4 == 4 else _ipv6(octets) if octets[0] >> 4 == 6 else None


def _ipv4(octets: bytes) -> Packet | None:
    size = 4 * (octets[0] & 15)
    if size < 20 or len(octets) < size:
        return None
    total, fragment = int.from_bytes(octets[2:4], "big"), int.from_bytes(octets[6:8], "big")
    if total and total < size:
        return None
    end = total or len(octets)
    mapped = bytes(10) + b"\xff\xff"
    return Packet(
        mapped + octets[12:16],
        mapped + octets[16:20],
        octets[9],
        int.from_bytes(octets[4:6], "big"),
        (fragment & 0x1FFF) * 8,
        bool(fragment & 0x2000),
        octets[size:end],
        end - size,
    )


def _ipv6(octets: bytes) -> Packet | None:
    if len(octets) < 40:
        return None
    at, kind, end = 40, octets[6], 40 + int.from_bytes(octets[4:6], "big")
    identity, offset, more = 0, 0, False
    while kind in _EXTENSIONS or kind == 44:
        if at + 8 > len(octets):
            return None
        if kind == 44:
            field_ = int.from_bytes(octets[at + 2 : at + 4], "big")
            offset, more, identity = field_ & 0xFFF8, bool(field_ & 1), int.from_bytes(octets[at + 4 : at + 8], "big")
            size = 8
        else:
            size = 4 * (octets[at + 1] + 2) if kind == 51 else 8 * (octets[at + 1] + 1)
        kind, at = octets[at], at + size
        if offset:
            break
    return Packet(octets[8:24], octets[24:40], kind, identity, offset, more, octets[at:end], max(0, end - at))


def _ports(octets: bytes) -> tuple[int, int]:
    return int.from_bytes(octets[:2], "big"), int.from_bytes(octets[2:4], "big")


def udp_kind(payload: bytes, on_wire: int, src_port: int, dst_port: int) -> int:
    """What a datagram is taken for; 0: nothing with a name."""
    if src_port in _PORTS or dst_port in _PORTS:
        return DNS if on_wire >= 12 else 0
    if payload[0] >= 0xC0 and on_wire >= 1200 and begins_quic(payload):
        return QUIC
    if on_wire >= 17 and 137 not in (src_port, dst_port) and begins_dns(payload):
        return DNS
    return 0


def begins_quic(payload: bytes) -> bool:
    if len(payload) < 16:
        return False
    version, kind = int.from_bytes(payload[1:5], "big"), payload[0] >> 4 & 3
    if version in (1, 0x6B3343CF):
        return kind == (version == 0x6B3343CF) and 1 <= payload[5] <= 20
    return not kind and version >> 8 in (0xFF0000, 0xFACEB0)


def begins_dns(payload: bytes) -> bool:
    if len(payload) < 13:
        return False
    flags, questions, answers, authorities, additional = (
        int.from_bytes(payload[at : at + 2], "big") for at in range(2, 12, 2)
    )
    if questions != 1 or flags & 0x7840 or payload[12] > 63:
        return False
    if flags & 0x8000:
        return answers <= 64
    return not answers and not flags & 0x048F and not authorities and additional <= 2


def tcp_kind(payload: bytes, on_wire: int, src_port: int, dst_port: int) -> int:
    """What a segment is taken for, but for later ones of a hello."""
    if 53 in (src_port, dst_port):
        return TCP_DNS
    if payload[:2] == b"\x16\x03":
        return TLS if payload[2:3] <= b"\4" and (on_wire < 6 or payload[5:6] == b"\1") else 0
    return HTTP if payload[:4] in _METHODS else 0


def _copied(
    packet: Packet, kind: int, ports: tuple[int, int], seq: int, payload: bytes, on_wire: int, time_ns: int
) -> Copied:
    octets = payload[:COPIED]
    head = np.zeros(1, COPY)
    head["ktime_ns"], head["kind"], head["protocol"], head["seq"] = time_ns, kind, packet.protocol, seq
    head["src"], head["dst"] = (np.frombuffer(address, np.uint8) for address in (packet.src, packet.dst))
    head["src_port"], head["dst_port"] = ports
    head["copied"], head["payload_bytes"] = len(octets), min(max(on_wire, len(octets)), 65_535)
    head["fragment_offset"] = packet.fragment_offset
    head["flags"] = MORE_FRAGMENTS if packet.more else 0
    return Copied(head[0], octets)
