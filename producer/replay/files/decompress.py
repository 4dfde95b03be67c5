"""Decompresses captures. All that stands before a damaged place is given, to the octet, before the error."""

import zlib
from typing import Protocol

from backports.zstd import ZstdDecompressor, ZstdError

READ_BYTES = 1 << 16
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind an octet from 0x50 to 0x5f
_CUT_OFF = "it is cut off"


class Reader(Protocol):
    """Where octets come from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` octets; none at the end."""


def decompressor(first: bytes) -> "type[Gunzip] | type[Unzstd] | None":
    """What reads a file that begins with these four octets; None: it is not compressed, or in another way."""
    if first.startswith(GZIP):
        return Gunzip
    return Unzstd if first.startswith(ZSTD) or _is_skippable(first) else None


def _is_skippable(magic: bytes) -> bool:
    return magic[1:4] == _SKIPPABLE and magic[0] >> 4 == 5


class Gunzip:
    """Decompresses gzip, of several members too."""

    name = "gzip"

    def __init__(self, raw: Reader) -> None:
        self._raw, self._rest, self._ended = raw, b"", False
        self._wrong: zlib.error | None = None
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read(self, size: int, /) -> bytes:
        """See Reader. Raises zlib.error and EOFError."""
        while not self._ended:
            if self._wrong:
                raise self._wrong
            compressed = self._rest or self._raw.read(READ_BYTES)
            if not compressed:
                raise EOFError(_CUT_OFF)
            if octets := self._decompress(compressed, size):
                return octets
        return b""

    def _decompress(self, compressed: bytes, size: int) -> bytes:
        before = self._inflate.copy()
        try:
            octets = self._inflate.decompress(compressed, size)
        except zlib.error as error:  # and nothing of what this call had decompressed until there
            self._wrong = error
            return _octet_by_octet(before, compressed)
        self._rest = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._next_member(self._inflate.unused_data)
        return octets

    def _next_member(self, rest: bytes) -> None:
        while not rest.lstrip(b"\0"):  # zeros may fill up a tape's block
            rest = self._raw.read(READ_BYTES)
            if not rest:
                self._ended = True
                return
        self._rest = rest
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)


def _octet_by_octet(inflate: "zlib._Decompress", compressed: bytes) -> bytes:
    found = bytearray()
    try:
        for at in range(len(compressed)):
            found += inflate.decompress(compressed[at : at + 1])
    except zlib.error:
        pass
    return bytes(found)


class Unzstd:
    """Decompresses zstd (RFC 8878), of several frames, skippable ones too.

    The decoder is given a block at a time: what an erroneous call had decompressed is lost.
    """

    name = "zstd"

    def __init__(self, raw: Reader) -> None:
        self._raw, self._data = raw, bytearray()  # read, and not used yet
        self._frame: ZstdDecompressor | None = None
        self._checksum, self._is_last = 0, False  # octets of the frame's checksum; its last block was read

    def read(self, _size: int, /) -> bytes:
        """See Reader; at most a block, 128 KiB, whatever `size`. Raises OSError and EOFError."""
        try:
            while self._frame is not None or self._begin():
                if octets := self._next():
                    return octets
        except ZstdError as error:
            raise OSError(str(error)) from error
        return b""

    def _begin(self) -> bool:
        """Read the header of a frame. False: there is none any more."""
        while self._fill(4) and _is_skippable(bytes(self._data[:4])):
            self._take(4)
            left = int.from_bytes(self._take(4), "little")
            while left:
                left -= len(self._take(min(left, READ_BYTES)))
        if not self._data:
            return False
        self._need(5)
        descriptor = self._data[4]
        one_segment = descriptor >> 5 & 1
        self._checksum = 4 * (descriptor >> 2 & 1)
        size = 5 + (not one_segment) + (0, 1, 2, 4)[descriptor & 3] + (one_segment, 2, 4, 8)[descriptor >> 6]
        self._frame, self._is_last = ZstdDecompressor(), False
        self._frame.decompress(self._take(size))
        return True

    def _next(self) -> bytes:
        """The next block, decompressed; behind the last one the frame ends."""
        assert self._frame is not None
        if self._is_last:
            if self._checksum:
                self._frame.decompress(self._take(self._checksum))
            self._frame = None
            return b""
        self._need(3)
        header = int.from_bytes(self._data[:3], "little")
        self._is_last, is_one_octet = bool(header & 1), header >> 1 & 3 == 1
        return self._frame.decompress(self._take(3 + (1 if is_one_octet else header >> 3)))

    def _need(self, size: int) -> None:
        if not self._fill(size):
            raise EOFError(_CUT_OFF)

    def _fill(self, size: int) -> bool:
        """Have so many octets in `_data`; False at the end."""
        while len(self._data) < size:
            octets = self._raw.read(READ_BYTES)
            if not octets:
                return False
            self._data += octets
        return True

    def _take(self, size: int) -> bytes:
        self._need(size)
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken
