import bz2
import contextlib
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cramjam
import pytest
from backports.zstd import CompressionParameter, ZstdCompressor, compress

from common.errors import SettingsError
from common.stopping import Stop
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.files.source import stem
from tests.unit.producer.replay.captures import Frame, frames_of, pcap

FRAMES = [Frame(octets=bytes([i % 256, i // 256]) * 40, wire=80, time_ns=i * 1000) for i in range(3000)]


Compress = Callable[[bytes], bytes]


def zstd(octets: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(octets))


@pytest.mark.parametrize("name", ["test.pcap.gz", "test.pcap.zst"])
def test_compressed_captures_are_read_whatever_their_name(tmp_path: Path, name: str) -> None:
    whole = pcap(FRAMES)
    half = len(whole) // 3
    compress = gzip.compress if name.endswith("gz") else zstd
    for path in (tmp_path / name, tmp_path / "test.pcap"):
        path.write_bytes(compress(whole))
        assert frames_of(path) == (FRAMES, "")
        path.write_bytes(compress(whole[:half]) + compress(whole[half:]))  # as `cat a.gz b.gz` makes it
        assert frames_of(path) == (FRAMES, "")


def test_a_gzip_file_may_be_filled_up_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(gzip.compress(pcap(FRAMES)) + bytes(5000))
    assert frames_of(path) == (FRAMES, "")


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_compressed_file_that_is_cut_off_gives_what_could_be_read(tmp_path: Path, compress: object) -> None:
    assert callable(compress)
    noisy = [
        Frame(octets=(i * 2654435761 % 2**64).to_bytes(8, "big") * 9, wire=72, time_ns=i * 1000) for i in range(20_000)
    ]
    compressed = compress(pcap(noisy))
    path = tmp_path / "test.pcap"
    for part in (0.3, 0.9):
        path.write_bytes(compressed[: int(len(compressed) * part)])
        found, wrong = frames_of(path)
        assert found == noisy[: len(found)]
        assert len(found) >= 1000
        assert "cannot be read on" in wrong
        assert "of its uncompressed content" in wrong


def test_a_damaged_gzip_file_is_an_error_with_its_position(tmp_path: Path) -> None:
    compressed = bytearray(gzip.compress(pcap(FRAMES)))
    compressed[len(compressed) // 2 :] = b"\xff" * 500
    path = tmp_path / "test.pcap"
    path.write_bytes(compressed)
    found, wrong = frames_of(path)
    assert found == FRAMES[: len(found)]
    assert 0 < len(found) < len(FRAMES)
    assert "of its uncompressed content" in wrong


def zstd_with_checksum(octets: bytes) -> bytes:
    return compress(octets, options={CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize("count", [300, 20_000])
@pytest.mark.parametrize("program", [gzip.compress, zstd_with_checksum])
def test_all_before_a_wrong_checksum_is_given(tmp_path: Path, count: int, program: Compress) -> None:
    whole = pcap(frames := (FRAMES * 10)[:count])
    compressed = program(whole)
    checksum = -8 if program is gzip.compress else -4
    path = tmp_path / "test.pcap"
    path.write_bytes(compressed[:checksum] + bytes(4) + (compressed[-4:] if program is gzip.compress else b""))
    found, wrong = frames_of(path)
    assert len(found) == count
    assert found == frames
    assert "cannot be read on (" in wrong
    assert f"at byte {len(whole):,} of its uncompressed content" in wrong


@pytest.mark.parametrize("program", [gzip.compress, zstd, zstd_with_checksum])
def test_all_before_garbage_is_given(tmp_path: Path, program: Compress) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(program(pcap(FRAMES)) + b"x" * 20)
    found, wrong = frames_of(path)
    assert found == FRAMES
    assert "cannot be read on" in wrong


@pytest.mark.parametrize("flags", [{}, {CompressionParameter.checksum_flag: 1}, {CompressionParameter.window_log: 10}])
@pytest.mark.parametrize("size", [None, 1 << 12])
def test_zstd_is_read_whatever_its_frames_look_like(tmp_path: Path, flags: dict[int, int], size: int | None) -> None:
    whole = pcap(FRAMES) + pcap([Frame(octets=bytes(60_000), wire=60_000, time_ns=0)] * 9)[24:]  # blocks of one octet
    machine = ZstdCompressor(options=flags)
    if size is not None:
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        octets = b"".join(machine.compress(part, machine.FLUSH_FRAME) for part in parts)  # many frames
    else:
        octets = machine.compress(whole) + machine.flush()
    skippable = b"\x53\x2a\x4d\x18\x05\0\0\0hello"  # pzstd begins with one
    path = tmp_path / "test.pcap"
    path.write_bytes(skippable + octets + skippable)
    found, wrong = frames_of(path)
    assert (len(found), wrong) == (len(FRAMES) + 9, "")
    assert found[: len(FRAMES)] == FRAMES
    for cut in (6, 12, 14, 15, len(octets) // 2, len(skippable + octets) - 1):
        path.write_bytes((skippable + octets)[:cut])
        _, wrong = frames_of(path)
        assert "it is cut off" in wrong


def test_captures_that_others_compress_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    for octets, program in ((lzma.compress(b"x"), "xz"), (bz2.compress(b"x"), "bzip2")):
        path.write_bytes(octets)
        assert f"is compressed by {program}, which is not read: decompress it first" in frames_of(path)[1]


def test_a_pipe_is_read_as_it_comes_and_left_when_it_is_silent(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with contextlib.closing(Stop()) as stop:
        frames = read(str(pipe), stop=stop)
        writer = os.open(pipe, os.O_RDWR)
        try:
            whole = pcap(FRAMES[:20])
            os.write(writer, whole[:-50])
            assert len(next(frames)) == 19
            os.write(writer, whole[-50:])
            assert len(next(frames)) == 1
            timer = threading.Timer(0.1, stop.set)
            timer.start()
            assert list(frames) == []
            timer.join()
        finally:
            os.close(writer)


def test_a_named_pipe_that_nobody_writes_to_can_be_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(Stop()) as stop:
        timer = threading.Timer(0.1, stop.set)
        timer.start()
        with pytest.raises(BrokenCaptureError, match="is empty"):
            next(read(str(tmp_path / "pipe"), stop=stop))
        timer.join()


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "is empty"),
        (b"abc", "ends in its first number at byte 3"),
        (b"hello, world", "is neither pcap nor pcapng (it begins with 68 65 6c 6c) at byte 0"),
        (gzip.compress(b"hello, world"), "is neither pcap nor pcapng"),
        (gzip.compress(b""), "is empty"),
        (b"\x1f\x8b\x08", "cannot be read on"),
    ],
)
def test_what_is_no_capture_is_an_error(tmp_path: Path, octets: bytes, what: str) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(octets)
    found, wrong = frames_of(path)
    assert found == []
    assert what in wrong


def test_a_file_that_is_not_there_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        list(read(str(tmp_path / "nothing.pcap")))
    with pytest.raises(SettingsError, match="Is a directory"):
        list(read(str(tmp_path)))


def test_progress_is_told_in_octets_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(gzip.compress(pcap(FRAMES)))
    told: list[int] = []
    for _ in read(str(path), told.append):
        pass
    assert sum(told) == path.stat().st_size


def test_standard_input_is_read(tmp_path: Path) -> None:
    code = (
        "from producer.replay.files.reader import read; "
        "print(*[(len(frames), frames.links[0].interface) for frames in read('-')])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pcap(FRAMES[:10]), capture_output=True, check=True)
    assert done.stdout.decode() == "(10, 'stdin')\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/tmp/office.pcap.gz", "office"),
        ("a.b.pcapng", "a.b"),
        ("x.PCAP", "x"),
        ("trace", "trace"),
        ("t.2024", "t.2024"),
        ("-", "stdin"),
        (".pcap", ".pcap"),
    ],
)
def test_a_capture_is_called_by_its_name_without_endings(path: str, name: str) -> None:
    assert stem(path) == name


def test_a_stream_that_gives_little_at_a_time_is_read() -> None:
    from producer.replay.files.decompress import Gunzip

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(3, size or 3))

    whole = gzip.compress(b"x" * 1000)
    reader, found = Gunzip(Trickle(whole)), b""
    while octets := reader.read(100):
        assert len(octets) <= 100
        found += octets
    assert found == b"x" * 1000
