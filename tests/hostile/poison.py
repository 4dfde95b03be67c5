"""Messages that are not what their topic says, of all sizes: garbage, lies about lengths, megabytes of zeros."""

import struct

from schemas.avro.codec import Codec
from schemas.avro.records import encode_record
from schemas.avro.registry import newest
from tests.faults.faults import POISON

ZEROS = (9_400_000, 12_000_000)
"""Octets that compress to some kilobytes; the second is more than a message of ours may have."""


def long(value: int) -> bytes:
    """Avro's long: zigzag, then seven bits an octet."""
    value = (value << 1 ^ value >> 63) & (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def header(codec: Codec, record: str) -> bytes:
    """What a message with the newest schema of a record begins with."""
    return codec._header(record)


def packets(codec: Codec) -> list[bytes | None]:
    """Values that the packets topic should not have."""
    begin = header(codec, "PacketBatch")
    return [
        *POISON,
        *(begin + lie for lie in lies()),
        *(bytes(size) for size in ZEROS),
        *(begin + bytes(size) for size in ZEROS),
        b"\xff" * 100_000,
    ]


def lies() -> list[bytes]:
    """Bodies of a record whose first field is a string, or an array."""
    return [
        long(2**60),  # of a length that nobody has
        long(-1),
        long(4) + b"\xff\xfe\xfd\xfc" + bytes(60),  # no UTF-8
        bytes(200),
        b"\xff" * 9 + b"\x01" + bytes(50),  # the smallest number
        long(-(2**60)) + long(2**50) + bytes(50),
        long(10**9) + bytes(1000),
    ]


def live(codec: Codec) -> list[bytes]:
    """Live statistics of impossible times and intervals, and others that are none at all."""
    begin = header(codec, "LiveStats")
    times = (253_402_300_799_000, 2**62, -(2**62), 0)  # of year 9999, of none, before all, 1970
    told = [
        begin + encode_record({"node": f"liar-{number}", "time": at, "interval_ms": interval}, newest("LiveStats"))
        for number, at in enumerate(times)
        for interval in (1000, 0, -1, 2**31 - 1)
    ]
    seen = {"node": "liar-4", "top_src_addr": ["::1"], "top_first_seen_us": [2**62], "interface": ["a"] * 1000}
    told.append(begin + encode_record(seen, newest("LiveStats")))
    return [*told, *(begin + lie for lie in lies()), b"", b"\0", struct.pack(">bI", 0, 1) + bytes(300), bytes(100_000)]
