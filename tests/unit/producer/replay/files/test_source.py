import gzip
import io
import subprocess
import sys
from pathlib import Path

import cramjam
import pytest

from common.errors import SettingsError
from producer.replay.files.reader import read
from producer.replay.files.source import stem
from tests.unit.producer.replay.captures import Frame, frames_of, pcap

FRAMES = [Frame(octets=bytes([i % 256, i // 256]) * 40, wire=80, time_ns=i * 1000) for i in range(3000)]


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
    from producer.replay.files.source import Gunzip

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(3, size or 3))

    whole = gzip.compress(b"x" * 1000)
    reader, found = Gunzip(Trickle(whole)), b""
    while octets := reader.read(100):
        assert len(octets) <= 100
        found += octets
    assert found == b"x" * 1000
