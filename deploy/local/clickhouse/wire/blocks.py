"""ClickHouse's own compression of octets (compress=1, decompress=1): blocks with a checksum each. Pure.

A block: CityHash128 of what follows it (16), method (1), length of method, lengths and data (4), length of the plain
octets (4), data. Numbers are little-endian. https://clickhouse.com/docs/development/tcp_compression
"""

import importlib
import struct
from collections import deque
from functools import cache
from typing import Any

import lz4.block
from backports.zstd import ZstdDecompressor, ZstdError, compress

from common.errors import QueryError

NAME = "clickhouse"  # among the encodings; no Content-Encoding names it
METHODS = {"NONE": 0x02, "LZ4": 0x82, "ZSTD": 0x90}
MOST_BYTES = 128 << 20  # of one block, packed or plain: some clients send a whole batch as one
PLAIN_BYTES = 1 << 20  # of the blocks that we make
_HEAD = struct.Struct("<BII")
_CHECKSUM = 16


class Decoder:
    """Unpacks blocks as the octets come; no more than one is plain at a time."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._plain = memoryview(b"")

    def push(self, data: bytes) -> None:
        """The next octets of the body."""
        self._pieces.append(data)
        self._size += len(data)

    def pull(self, most: int) -> bytes:
        """Up to `most` plain octets; nothing: it wants more of the body. Raises QueryError for damaged data."""
        while not self._plain:
            block = self._next_block()
            if block is None:
                return b""
            self._plain = memoryview(_plain(block))
        part, self._plain = self._plain[:most], self._plain[most:]
        return bytes(part)

    def finish(self) -> None:
        """The body is at its end. Raises QueryError when its data is not."""
        if self._size:
            raise QueryError("decompress=1: the body ends within one of ClickHouse's compressed blocks, or is none")

    def _next_block(self) -> bytes | None:
        """A whole block with its checksum, once all of it came."""
        head = _CHECKSUM + _HEAD.size
        if self._size < head:
            return None
        if len(self._pieces[0]) < head:
            self._pieces = deque([b"".join(self._pieces)])
        method, packed, plain = _HEAD.unpack_from(self._pieces[0], _CHECKSUM)
        if method not in METHODS.values() or packed < _HEAD.size:
            raise QueryError("decompress=1: the body is not made of ClickHouse's compressed blocks (LZ4, ZSTD or NONE)")
        if max(packed, plain) > MOST_BYTES:
            raise QueryError(f"decompress=1: a block may have {MOST_BYTES >> 20} MB; send smaller ones")
        if self._size < _CHECKSUM + packed:
            return None
        whole = b"".join(self._pieces)
        block, rest = whole[: _CHECKSUM + packed], whole[_CHECKSUM + packed :]
        self._pieces, self._size = deque([rest] if rest else []), len(rest)
        return block


class Encoder:
    """Packs an answer into blocks."""

    def __init__(self, method: str) -> None:
        self._method = METHODS[method]

    def pack(self, data: bytes) -> bytes:
        """The blocks of these octets."""
        return b"".join(self._block(data[at : at + PLAIN_BYTES]) for at in range(0, len(data), PLAIN_BYTES))

    def finish(self) -> bytes:
        """Nothing: each block is whole."""
        return b""

    def _block(self, data: bytes) -> bytes:
        match self._method:
            case 0x82:
                packed: bytes = lz4.block.compress(data, store_size=False)
            case 0x90:
                packed = compress(data, 1)
            case _:
                packed = data
        body = _HEAD.pack(self._method, _HEAD.size + len(packed), len(data)) + packed
        return _checksum(body) + body


def _plain(block: bytes) -> bytes:
    """What a block stands for."""
    body = block[_CHECKSUM:]
    if _checksum(body) != block[:_CHECKSUM]:
        raise QueryError("decompress=1: the checksum of a block is wrong: it was damaged on its way")
    method, _, length = _HEAD.unpack_from(body)
    packed = memoryview(body)[_HEAD.size :]
    try:
        match method:
            case 0x82:
                plain: bytes = lz4.block.decompress(packed, uncompressed_size=length) if length else b""
            case 0x90:
                plain = ZstdDecompressor().decompress(packed, length + 1)
            case _:
                plain = bytes(packed)
    except (lz4.block.LZ4BlockError, ZstdError, ValueError) as error:
        raise QueryError(f"decompress=1: a block is damaged: {error}") from error
    if len(plain) != length:
        raise QueryError(f"decompress=1: a block says that it has {length} octets, and has {len(plain)}")
    return plain


def _checksum(body: bytes) -> bytes:
    """CityHash128 of version 1.0.2, as ClickHouse writes it."""
    number: int = _cityhash().CityHash128(body)
    return (number >> 64).to_bytes(8, "little") + (number & (1 << 64) - 1).to_bytes(8, "little")


@cache
def _cityhash() -> Any:
    return importlib.import_module("clickhouse_cityhash.cityhash")
