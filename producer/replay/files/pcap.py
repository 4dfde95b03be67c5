"""Reads pcap: both byte orders, microseconds and nanoseconds."""

import struct
from collections.abc import Iterator

import numpy as np

from producer.replay.files.frames import Frames, Link, make, words
from producer.replay.files.source import Source

MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""Byte order, and nanoseconds of a unit of the time stamps."""
LONGEST_FRAME = 16 << 20  # a longer one is garbage
_HEADER, _RECORD = 24, 16


def read(source: Source, interface: str) -> Iterator[Frames]:
    """All frames, of one interface. Raises BrokenCaptureError behind the last whole one."""
    order, unit = MAGICS[bytes(source.data[:4])]
    while len(source.data) < _HEADER:
        if not source.more(0):
            raise source.broken(len(source.data), "ends in the header of the file")
    link_type = struct.unpack_from(f"{order}I", source.data, 20)[0] & 0xFFFF  # above it: length of an FCS
    links = (Link(interface=interface, type=link_type),)
    source.skip(_HEADER)
    captured_at = struct.Struct(f"{order}8xI").unpack_from
    while True:
        data = source.data
        positions, at, end, length = [], 0, len(data) - _RECORD, 0
        while at <= end:
            (length,) = captured_at(data, at)
            behind = at + _RECORD + length
            if behind > end + _RECORD:
                break
            positions.append(at)
            at = behind
        if positions:
            record = np.array(positions, np.int64)
            numbers = words(data, record, 4, order)
            yield make(
                data,
                start=record + _RECORD,
                captured=numbers[:, 2],
                wire=numbers[:, 3],
                time_ns=numbers[:, 0] * 1_000_000_000 + numbers[:, 1] * unit,
                links=links,
            )
        if at <= end and length > LONGEST_FRAME:
            raise source.broken(at, f"has a packet of {length:,} bytes, which cannot be,")
        if not source.more(at):
            if source.data:
                raise source.broken(len(source.data), "ends in the middle of a packet")
            return
