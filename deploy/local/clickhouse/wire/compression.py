"""Content-Encoding of requests and answers, step by step: what ClickHouse and its clients speak. Pure.

A few kilobytes can stand for gigabytes: so a decoder gives as much as it is asked for, and keeps the rest packed.
"""

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import cramjam
import lz4.frame
from backports.zstd import ZstdCompressor, ZstdDecompressor, ZstdError

from common.errors import QueryError
from deploy.local.clickhouse.wire import blocks

STEP_BYTES = 1 << 20
"""Of plain octets that a decoder gives at a time."""

_HEAD_BYTES = 2  # that tell deflate with a header from deflate without; every frame has more


class Decoder(Protocol):
    """Unpacks a body as its pieces come."""

    def push(self, data: bytes) -> None:
        """The next octets of the body."""

    def pull(self, most: int) -> bytes:
        """Up to `most` plain octets (Brotli: 32 KiB at least); nothing: it wants more. Raises QueryError for damage."""

    def finish(self) -> None:
        """The body is at its end. Raises QueryError when its data is not."""


class _Frames:
    """zstd, lz4 and gzip: any number of frames, one after the other, by a standard decompressor object for each."""

    def __init__(self, name: str, make: Callable[[bytes], Any]) -> None:
        self._name, self._make = name, make
        self._frame: Any = None
        self._packed = b""

    def push(self, data: bytes) -> None:
        self._packed += data

    def pull(self, most: int) -> bytes:
        try:
            while True:
                if self._frame is None:
                    if len(self._packed) < _HEAD_BYTES:
                        return b""
                    self._frame = self._make(self._packed)
                frame, packed = self._frame, self._packed
                plain: bytes = frame.decompress(packed, most)
                # zlib hands back what it did not look at, the others keep it
                self._packed = getattr(frame, "unconsumed_tail", b"")
                if frame.eof:
                    self._packed, self._frame = frame.unused_data or b"", None
                if plain or not self._packed or self._packed == packed:
                    return plain
        except (zlib.error, ZstdError, RuntimeError, EOFError, ValueError) as error:
            raise _damaged(self._name, error) from error

    def finish(self) -> None:
        if self._frame is not None or self._packed:
            raise _damaged(self._name, "it ends too early")


class _Brotli:
    """Brotli, whose decompressor has words of its own."""

    def __init__(self) -> None:
        self._brotli: Any = importlib.import_module("brotli")
        self._stream = self._brotli.Decompressor()
        self._packed = b""
        self._begun = False

    def push(self, data: bytes) -> None:
        self._packed += data
        self._begun = True

    def pull(self, most: int) -> bytes:
        packed = b""
        if self._stream.can_accept_more_data():
            packed, self._packed = self._packed, b""
        try:
            plain: bytes = self._stream.process(packed, output_buffer_limit=most)
        except self._brotli.error as error:
            raise _damaged("br", error) from error
        return plain

    def finish(self) -> None:
        if self._begun and not self._stream.is_finished():
            raise _damaged("br", "it ends too early")


def _inflating(beginning: bytes) -> Any:
    """A decompressor of deflate; some clients leave out the header of zlib."""
    head = int.from_bytes(beginning[:2], "big")
    has_header = beginning[0] & 0x0F == 8 and head % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "lz4": lambda: _Frames("lz4", lambda _: lz4.frame.LZ4FrameDecompressor()),
    "zstd": lambda: _Frames("zstd", lambda _: ZstdDecompressor()),
    "gzip": lambda: _Frames("gzip", lambda _: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "deflate": lambda: _Frames("deflate", _inflating),
    "br": _Brotli,
    blocks.NAME: blocks.Decoder,
}


def decoder(encoding: str) -> Decoder | None:
    """For a body of this Content-Encoding; None: it is plain. Raises QueryError when it is not known."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in _DECODERS:
        raise QueryError(f"Content-Encoding {encoding} is not known; use one of {', '.join(_ENCODERS)}")
    return _DECODERS[name]()


class Encoder(Protocol):
    """Packs an answer as its pieces come."""

    def pack(self, data: bytes) -> bytes:
        """The next piece, packed; perhaps nothing yet."""

    def finish(self) -> bytes:
        """What is still to be sent."""


class _Compressor:
    """By an object of a library: what packs, and what ends."""

    def __init__(self, pack: Callable[[bytes], Any], finish: Callable[[], Any], begin: bytes = b"") -> None:
        self._pack, self._finish, self._begin = pack, finish, begin

    def pack(self, data: bytes) -> bytes:
        begin, self._begin = self._begin, b""
        return begin + bytes(self._pack(data))

    def finish(self) -> bytes:
        begin, self._begin = self._begin, b""
        return begin + bytes(self._finish())


def _deflating(window_bits: int) -> Encoder:
    stream = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    return _Compressor(lambda data: stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH), stream.flush)


def _lz4() -> Encoder:
    stream = lz4.frame.LZ4FrameCompressor(auto_flush=True)
    return _Compressor(stream.compress, stream.flush, begin=stream.begin())


def _zstandard() -> Encoder:
    stream = ZstdCompressor(1)
    return _Compressor(lambda data: stream.compress(data, stream.FLUSH_BLOCK), stream.flush)


def _brotli() -> Encoder:
    stream = cramjam.brotli.Compressor(3)

    def pack(data: bytes) -> bytes:
        stream.compress(data)
        return bytes(stream.flush())

    return _Compressor(pack, stream.finish)


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _lz4,
    "zstd": _zstandard,
    "gzip": lambda: _deflating(zlib.MAX_WBITS | 16),
    "deflate": lambda: _deflating(zlib.MAX_WBITS),
    "br": _brotli,
}


def choose(accept_encoding: str) -> str | None:
    """The first encoding of an Accept-Encoding header that we speak; None: send it as it is."""
    for part in accept_encoding.split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() in _ENCODERS and weight.replace(" ", "") not in {"q=0", "q=0.0"}:
            return name.strip().lower()
    return None


def encoder(encoding: str) -> Encoder:
    """For an answer; `encoding` is what `choose` gave."""
    return _ENCODERS[encoding]()


def _damaged(name: str, why: object) -> QueryError:
    return QueryError(f"the body is not {name} data, though Content-Encoding says so: {why}")
