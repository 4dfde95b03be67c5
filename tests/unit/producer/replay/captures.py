"""Captures made by hand, octet for octet, and what stands in them."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from producer.replay.files.frames import UNDIRECTED, BrokenCaptureError
from producer.replay.files.reader import read

MAGIC = {("<", 1000): 0xA1B2C3D4, (">", 1000): 0xA1B2C3D4, ("<", 1): 0xA1B23C4D, (">", 1): 0xA1B23C4D}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a reader should give."""

    octets: bytes
    wire: int
    time_ns: int
    direction: int = UNDIRECTED
    interface: str = "test"
    link: int = 1


def pcap(frames: Iterable[Frame], *, order: str = "<", unit: int = 1000, link: int = 1, snaplen: int = 65_535) -> bytes:
    parts = [struct.pack(f"{order}IHHiIII", MAGIC[order, unit], 2, 4, 0, 0, snaplen, link)]
    for frame in frames:
        seconds, rest = divmod(frame.time_ns, 1_000_000_000)
        parts.append(struct.pack(f"{order}IIII", seconds, rest // unit, len(frame.octets), frame.wire))
        parts.append(frame.octets)
    return b"".join(parts)


def padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    length = len(body) + 12
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + padded(value)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    order: str = "<", *, link: int = 1, snaplen: int = 0, name: str = "", tsresol: int | None = None, offset: int = 0
) -> bytes:
    options = b""
    if name:
        options += option(2, name.encode(), order)
    if tsresol is not None:
        options += option(9, bytes([tsresol]), order)
    if offset:
        options += option(14, struct.pack(f"{order}q", offset), order)
    if options:
        options += option(0, b"", order)
    return block(1, struct.pack(f"{order}HHI", link, 0, snaplen) + options, order)


def packet(
    octets: bytes, wire: int, ticks: int, order: str = "<", *, number: int = 0, flags: int | None = None
) -> bytes:
    body = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), wire) + padded(octets)
    if flags is not None:
        body += (
            option(1, b"a comment", order) + option(2, struct.pack(f"{order}I", flags), order) + option(0, b"", order)
        )
    return block(6, body, order)


def old_packet(octets: bytes, wire: int, ticks: int, order: str = "<", *, number: int = 0) -> bytes:
    head = struct.pack(f"{order}HHIIII", number, 3, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), wire)
    return block(2, head + padded(octets), order)


def simple_packet(octets: bytes, wire: int, order: str = "<") -> bytes:
    return block(3, struct.pack(f"{order}I", wire) + padded(octets), order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sll2:
    """What the header of Linux cooked capture, version 2, says."""

    protocol: int
    ifindex: int
    kind: int  # 0: to this host, 4: sent by it


def sll2(header: Sll2, payload: bytes) -> bytes:
    return struct.pack("!HHIHBB8x", header.protocol, 0, header.ifindex, 1, header.kind, 6) + payload


def frames_of(path: Path) -> tuple[list[Frame], str]:
    """What the reader gives, and what it says is wrong; empty: nothing."""
    found: list[Frame] = []
    try:
        for frames in read(str(path)):
            for i in range(len(frames)):
                start, captured = int(frames.start[i]), int(frames.captured[i])
                link = frames.links[frames.link[i]]
                found.append(
                    Frame(
                        octets=frames.data[start : start + captured].tobytes(),
                        wire=int(frames.wire[i]),
                        time_ns=int(frames.time_ns[i]),
                        direction=int(frames.direction[i]),
                        interface=link.interface,
                        link=link.type,
                    )
                )
    except BrokenCaptureError as error:
        return found, str(error)
    return found, ""
