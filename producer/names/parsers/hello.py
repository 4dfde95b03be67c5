"""A TLS ClientHello: name, ALPN, JA4, whether ECH is in it; by hello.c. Pure."""

import ctypes
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

from producer.names.parsers.native import required

READ, SHORT, BROKEN = range(3)
"""What became of the octets: whole; more are needed; they cannot be a ClientHello."""
NO_ECH, OUTER_ECH, HAS_ESNI = range(3)

_HEAD = struct.Struct("=i4H3B9s")
_NAME = _HEAD.size
_ALPN = _NAME + 4 * 255
_CIPHERS = _ALPN + 4 * 255
_EXTENSIONS = _CIPHERS + 5 * 1024
_BYTES = _EXTENSIONS + 5 * (512 + 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What of a ClientHello could be read."""

    outcome: int  # READ, SHORT, BROKEN
    name: str  # lower case, no final dot; what is not printable as \DDD; "" without one
    alpn: str  # the first protocol it offers
    ja4: str  # "" unless it was read whole
    ech: int  # NO_ECH; OUTER_ECH: real or GREASE, which look alike; HAS_ESNI: its predecessor
    ech_config: int  # the number in its ECH extension, -1: none


class HelloParser:
    """Holds the place that hello.c writes to (12 KB). Raises EnvironmentProblem where it was not compiled."""

    def __init__(self) -> None:
        self._read = _function()
        self._out = bytearray(_BYTES + 8)
        self._place = (ctypes.c_char * len(self._out)).from_buffer(self._out)

    def records(self, octets: bytes) -> Hello:
        """Of a TCP stream, from the header of the record on in which the hello begins."""
        return self._hello(octets, 1, "t")

    def crypto(self, octets: bytes) -> Hello:
        """Of QUIC's CRYPTO frames, joined."""
        return self._hello(octets, 0, "q")

    def _hello(self, octets: bytes, records: int, protocol: str) -> Hello:
        self._read(octets, len(octets), records, self._place)
        out = self._out
        config, name, alpn, ciphers, extensions, outcome, ech, _, first = _HEAD.unpack_from(out)
        ja4 = ""
        if first[0]:
            hashes = (
                _hash(bytes(out[_CIPHERS : _CIPHERS + ciphers])),
                _hash(bytes(out[_EXTENSIONS : _EXTENSIONS + extensions])),
            )
            ja4 = f"{protocol}{first.decode('ascii')}_{hashes[0]}_{hashes[1]}"
        return Hello(
            outcome=outcome,
            name=out[_NAME : _NAME + name].decode("ascii"),
            alpn=out[_ALPN : _ALPN + alpn].decode("ascii"),
            ja4=ja4,
            ech=ech,
            ech_config=config,
        )


@lru_cache(4096)  # clients are few
def _hash(listed: bytes) -> str:
    """A part of JA4: 12 hexadecimal digits."""
    return hashlib.sha256(listed).hexdigest()[:12] if listed else "0" * 12


@cache
def _function() -> Callable[..., None]:
    return required(
        "hello", "ayaflow_hello_read", None, [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p]
    )
