"""Reads pcapng: any number of sections and interfaces; enhanced, simple and the obsolete packet blocks."""

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from producer.replay.files.frames import UNDIRECTED, Frames, Link, make, words
from producer.replay.files.source import Source
from producer.replay.files.times import to_ns
from schemas.packets import EGRESS, I64, INGRESS, U8

MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_LONGEST_BLOCK = 32 << 20
_END, _IF_NAME, _FLAGS, _IF_TSRESOL, _IF_TSOFFSET = 0, 2, 2, 9, 14
_DIRECTIONS = (UNDIRECTED, INGRESS, EGRESS, UNDIRECTED)  # by the low bits of epb_flags
_HEADERS, _PACKETS = {_SECTION, _INTERFACE}, {_PACKET, _OLD_PACKET, _SIMPLE_PACKET}
_TWO_LENGTHS = "has a block whose two lengths differ"
_SMALLEST = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE_PACKET: 16, _PACKET: 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interface:
    link: int  # index into _Section.links
    snaplen: int  # 0: no limit
    resolution: int  # if_tsresol
    offset: int  # if_tsoffset, seconds


@dataclass(slots=True)
class _Section:
    """What a section has said so far; `links` goes on over sections."""

    base: str  # of the names of interfaces that have none
    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    last_ns: int = 0  # time of the packet before: simple packets have none


def read(source: Source, base: str) -> Iterator[Frames]:
    """All frames; interfaces without a name are `base`, `base-1`, …

    Raises BrokenCaptureError behind the last whole one.
    """
    section = _Section(base)
    while True:
        data = source.data
        scan = _scan(data, section.order)
        good = yield from _frames(data, section, scan.packets)
        if good < len(scan.packets):
            raise source.broken(scan.packets[good][0], "has a packet block that does not hold what it says")
        if scan.wrong:
            raise source.broken(scan.end, scan.wrong)
        behind = _take_header(source, section, scan.end, scan.header) if scan.header else 0
        if behind:
            source.skip(behind)
        elif not source.more(scan.end):
            if source.data:
                raise source.broken(len(source.data), "ends in the middle of a block")
            return


@dataclass(slots=True)
class _Scan:
    """What stands in `data` up to a section header, an interface description, or the end."""

    packets: list[tuple[int, int, int]] = field(default_factory=list)  # position, type, length
    end: int = 0
    header: int = 0  # type of the header block at `end`
    wrong: str = ""  # what is wrong with the block at `end`


def _scan(data: bytearray, order: str) -> _Scan:
    scan, at, end = _Scan(), 0, len(data) - 12
    header, trailer = struct.Struct(f"{order}II").unpack_from, struct.Struct(f"{order}I").unpack_from
    while at <= end:
        kind, length = header(data, at)
        if kind in _HEADERS:
            scan.header = kind
            break
        if length < _SMALLEST.get(kind, 12) or length % 4 or length > _LONGEST_BLOCK:
            scan.wrong = _impossible(length)
            break
        if at + length > end + 12:
            break
        if trailer(data, at + length - 4)[0] != length:
            scan.wrong = _TWO_LENGTHS
            break
        if kind in _PACKETS:
            scan.packets.append((at, kind, length))
        at += length
    scan.end = at
    return scan


def _impossible(length: int) -> str:
    return f"has a block of {length:,} bytes, which cannot be,"


def _take_header(source: Source, section: _Section, at: int, kind: int) -> int:
    """Take over a section header or an interface description. Returns its end in data; 0: it is not all there."""
    data = source.data
    order = section.order
    if kind == _SECTION:
        found = _ORDERS.get(bytes(data[at + 8 : at + 12]))
        if found is None:
            raise source.broken(at, "has a section of unknown byte order")
        order = found
    (length,) = struct.unpack_from(f"{order}I", data, at + 4)
    if length < _SMALLEST[kind] or length % 4 or length > _LONGEST_BLOCK:
        raise source.broken(at, _impossible(length))
    if at + length > len(data):
        return 0
    if struct.unpack_from(f"{order}I", data, at + length - 4)[0] != length:
        raise source.broken(at, _TWO_LENGTHS)
    if kind == _SECTION:
        section.order, section.interfaces = order, []
    else:
        _add_interface(section, data, at, length)
    return int(at + length)


def _add_interface(section: _Section, data: bytearray, at: int, length: int) -> None:
    order = section.order
    link_type, snaplen = struct.unpack_from(f"{order}H2xI", data, at + 8)
    options = _options(data, at + 16, at + length - 4, order)
    base, number = section.base, len(section.interfaces)
    name = options.get(_IF_NAME, b"").rstrip(b"\0").decode("utf-8", "replace").strip()
    link = Link(interface=name or (f"{base}-{number}" if number else base), type=link_type)
    if link not in section.links:
        section.links.append(link)
    resolution, offset = options.get(_IF_TSRESOL, b""), options.get(_IF_TSOFFSET, b"")
    section.interfaces.append(
        _Interface(
            link=section.links.index(link),
            snaplen=snaplen,
            resolution=resolution[0] if resolution else 6,
            offset=struct.unpack(f"{order}q", offset)[0] if len(offset) == 8 else 0,
        )
    )


def _options(data: bytearray, at: int, end: int, order: str) -> dict[int, bytes]:
    """Options by code, the first of each; what is cut off is left out."""
    found: dict[int, bytes] = {}
    while at + 4 <= end:
        code, length = struct.unpack_from(f"{order}HH", data, at)
        if code == _END or at + 4 + length > end:
            break
        found.setdefault(code, bytes(data[at + 4 : at + 4 + length]))
        at += 4 + (length + 3) // 4 * 4
    return found


def _frames(data: bytearray, section: _Section, packets: list[tuple[int, int, int]]) -> Generator[Frames, None, int]:
    """Yields the frames of packet blocks (position, type, length) up to the first that is wrong; returns how many."""
    if not packets:
        return 0
    block = np.array(packets, np.int64)
    position, kind, length = block[:, 0], block[:, 1], block[:, 2]
    numbers = words(data, position + 8, 5, section.order)
    simple = kind == _SIMPLE_PACKET
    number = np.where(simple, 0, numbers[:, 0])
    for old in np.flatnonzero(kind == _OLD_PACKET).tolist():
        (number[old],) = struct.unpack_from(f"{section.order}H", data, packets[old][0] + 8)
    known = len(section.interfaces)
    safe = np.where(number < known, number, 0)
    snaplen = np.array([each.snaplen for each in section.interfaces] or [0], np.int64)[safe]
    in_simple = np.minimum(np.minimum(numbers[:, 0], np.where(snaplen > 0, snaplen, 2**32)), length - 16)
    captured = np.where(simple, in_simple, numbers[:, 3])
    wire = np.where(simple, numbers[:, 0], numbers[:, 4])
    room = length - np.where(simple, 16, 32)
    right = (number < known) & (captured <= room)
    good = len(packets) if right.all() else int(np.argmin(right))
    if not good:
        return 0
    picked = slice(0, good)
    start = (position + np.where(simple, 12, 28))[picked]
    yield make(
        data,
        start=start,
        captured=captured[picked],
        wire=wire[picked],
        time_ns=_times(section, numbers[picked], number[picked], simple[picked]),
        link=np.array([each.link for each in section.interfaces], np.int32)[number[picked]],
        direction=_directions(data, section.order, start, captured[picked], (position + length)[picked]),
        links=tuple(section.links),
    )
    return good


def _times(section: _Section, numbers: I64, number: I64, simple: npt.NDArray[np.bool_]) -> I64:
    ticks = numbers[:, 1].astype(np.uint64) << np.uint64(32) | numbers[:, 2].astype(np.uint64)
    times = np.zeros(len(ticks), np.int64)
    for each in np.unique(number).tolist():
        rows = number == each
        interface = section.interfaces[each]
        times[rows] = to_ns(ticks[rows], interface.resolution, interface.offset)
    if simple.any():
        last = np.maximum.accumulate(np.where(simple, -1, np.arange(len(times))))
        times = np.where(last < 0, section.last_ns, times[np.maximum(last, 0)])
    section.last_ns = int(times[-1])
    return times


def _directions(data: bytearray, order: str, start: I64, captured: I64, end: I64) -> U8:
    """From the flags of those packet blocks that have options."""
    options = start + (captured + 3) // 4 * 4
    direction = np.full(len(start), UNDIRECTED, np.uint8)
    for row in np.flatnonzero(options + 8 <= end).tolist():
        flags = _options(data, int(options[row]), int(end[row]) - 4, order).get(_FLAGS, b"")
        if len(flags) == 4:
            direction[row] = _DIRECTIONS[struct.unpack(f"{order}I", flags)[0] & 3]
    return direction
