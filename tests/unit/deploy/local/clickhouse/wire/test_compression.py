"""Bodies are unpacked step by step, never more than was asked for; answers are packed piece by piece."""

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
from backports.zstd import compress as zstd

from common.errors import QueryError
from deploy.local.clickhouse.wire import blocks, compression

TEXT = b"The quick brown fox jumps over the lazy dog, the lazy dog, the lazy dog, the lazy dog."
BLOCKS = {  # of TEXT, made by ClickHouse's own library for Go (ch-go 0.75.0)
    "NONE": "1b818a1dd419e6ab3b505c2aab90bba5025f00000056000000" + TEXT.hex(),
    "LZ4": "ccdec506d201c989f33ce07de939e2a2824900000056000000ff1d54686520717569636b2062726f776e20666f78206a756d7073"
    "206f76657220746865206c617a7920646f672c0e0009e020746865206c617a7920646f672e",
    "ZSTD": "39baec84b23e0764f3f26566d313a2ae904c0000005600000028b52ffd0400b50100d40254686520717569636b2062726f776e20"
    "666f78206a756d7073206f76657220746865206c617a7920646f672c2e01541704231401bf2f3edc",
}


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zstd": ("zstd", zstd),
    "gzip": ("gzip", gzip.compress),
    "lz4": ("lz4", lz4.frame.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without header": ("deflate", raw_deflate),
    "br": ("br", lambda data: bytes(cramjam.brotli.compress(data, 3))),
    "clickhouse": (blocks.NAME, lambda data: blocks.Encoder("LZ4").pack(data)),
}


def unpack(body: bytes, encoding: str, *, piece: int = 1 << 16, most: int = 1 << 20) -> list[bytes]:
    decoder = compression.decoder(encoding)
    assert decoder
    steps = []
    for at in range(0, len(body), piece):
        decoder.push(body[at : at + piece])
        while step := decoder.pull(most):
            steps.append(step)
    decoder.finish()
    return steps


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_what_was_packed_is_unpacked_in_steps(name: str, piece: int) -> None:
    encoding, pack = PACKERS[name]
    data = os.urandom(3000) + bytes(100_000) + os.urandom(3000)
    steps = unpack(pack(data), encoding, piece=piece, most=5000)
    assert b"".join(steps) == data
    assert max(map(len, steps)) <= (32 << 10 if name == "br" else 5000)  # its smallest buffer


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_never_plain_as_a_whole(name: str) -> None:
    encoding, pack = PACKERS[name]
    body = pack(bytes(64 << 20))
    tracemalloc.start()
    decoder = compression.decoder(encoding)
    assert decoder
    decoder.push(body)
    plain = 0
    while step := decoder.pull(1 << 20):
        plain += len(step)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    decoder.finish()
    assert plain == 64 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize("name", PACKERS)
def test_damaged_bodies_and_those_that_end_too_early_are_said(name: str) -> None:
    encoding, pack = PACKERS[name]
    body = pack(os.urandom(5000))
    with pytest.raises(QueryError):
        unpack(body[:-3], encoding)
    with pytest.raises(QueryError):
        unpack(b"\x1fnot packed at all, but long enough for a head" + body, encoding)


@pytest.mark.parametrize("name", ["zstd", "gzip", "lz4"])
def test_frames_may_follow_each_other(name: str) -> None:
    encoding, pack = PACKERS[name]
    assert b"".join(unpack(pack(b"a" * 5000) + pack(b"") + pack(b"b" * 5000), encoding)) == b"a" * 5000 + b"b" * 5000


@pytest.mark.parametrize("method", BLOCKS)
def test_blocks_are_those_of_clickhouse(method: str) -> None:
    assert b"".join(unpack(bytes.fromhex(BLOCKS[method]), blocks.NAME)) == TEXT
    assert b"".join(unpack(blocks.Encoder(method).pack(TEXT), blocks.NAME)) == TEXT
    if method == "NONE":
        assert blocks.Encoder(method).pack(TEXT).hex() == BLOCKS[method]


def test_a_block_says_what_is_wrong_with_it() -> None:
    good = bytes.fromhex(BLOCKS["LZ4"])
    for wrong, sentence in (
        (good[:-1] + b"x", "checksum"),
        (good[:16] + b"\x44" + good[17:], "LZ4, ZSTD or NONE"),
        (good[:21] + b"\xff\xff\xff\x7f" + good[25:], "a block may have 128 MB"),
    ):
        with pytest.raises(QueryError, match=sentence):
            unpack(wrong, blocks.NAME)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "lz4", "deflate", "br"])
def test_an_answer_is_packed_piece_by_piece(encoding: str) -> None:
    encoder = compression.encoder(encoding)
    body = b"".join(encoder.pack(piece) for piece in (b"a" * 100_000, b"b", b"c" * 70_000)) + encoder.finish()
    assert len(body) < 3000
    assert b"".join(unpack(body, encoding)) == b"a" * 100_000 + b"b" + b"c" * 70_000
    assert b"".join(unpack(compression.encoder(encoding).finish(), encoding)) == b""


def test_an_encoding_is_chosen_by_the_clients_wish() -> None:
    assert compression.choose("br;q=0, zstd, gzip") == "zstd"
    assert compression.choose("identity") is None
    with pytest.raises(QueryError, match="not known; use one of lz4, zstd"):
        compression.decoder("clickhouse-x")
