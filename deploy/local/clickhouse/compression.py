"""Content-Encoding of requests and answers: what ClickHouse and its clients speak. Pure."""

import zlib
from collections.abc import Callable

import cramjam

from common.errors import QueryError

Codec = Callable[[bytes], bytes]


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return zlib.decompress(data, -zlib.MAX_WBITS)  # some clients leave out the header


_CODECS: dict[str, tuple[Codec, Codec]] = {
    "lz4": (lambda data: bytes(cramjam.lz4.compress(data)), lambda data: bytes(cramjam.lz4.decompress(data))),
    "zstd": (lambda data: bytes(cramjam.zstd.compress(data, 1)), lambda data: bytes(cramjam.zstd.decompress(data))),
    "gzip": (lambda data: bytes(cramjam.gzip.compress(data, 1)), lambda data: bytes(cramjam.gzip.decompress(data))),
    "deflate": (lambda data: zlib.compress(data, 1), _inflate),
    "br": (lambda data: bytes(cramjam.brotli.compress(data, 3)), lambda data: bytes(cramjam.brotli.decompress(data))),
}


def choose(accept_encoding: str) -> str | None:
    """The first encoding of an Accept-Encoding header that we speak; None: send it as it is."""
    for part in accept_encoding.split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() in _CODECS and weight.replace(" ", "") not in {"q=0", "q=0.0"}:
            return name.strip().lower()
    return None


def compress(data: bytes, encoding: str) -> bytes:
    """Compress a whole answer; `encoding` is what `choose` gave."""
    return _CODECS[encoding][0](data)


def decompress(data: bytes, encoding: str) -> bytes:
    """Decompress a whole body. Raises QueryError for an unknown encoding or damaged data."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return data
    if name not in _CODECS:
        raise QueryError(f"Content-Encoding {encoding} is not known; use one of {', '.join(_CODECS)}")
    try:
        return _CODECS[name][1](data)
    except (cramjam.DecompressionError, zlib.error, ValueError, OSError) as error:
        raise QueryError(f"the body is not {name} data, though Content-Encoding says so: {error}") from error
