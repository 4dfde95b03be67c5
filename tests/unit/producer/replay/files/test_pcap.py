import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter

from producer.replay.files import source
from producer.replay.files.reader import read
from tests.unit.producer.replay.captures import Frame, frames_of, pcap

FRAMES = st.lists(
    st.builds(
        lambda octets, more, micros: Frame(octets=octets, wire=len(octets) + more, time_ns=micros * 1000),
        st.binary(max_size=200),
        st.integers(0, 100_000),
        st.integers(0, 4_000_000_000_000_000),
    ),
    max_size=20,
)
THREE = [Frame(octets=bytes([i]) * (5 * i), wire=5 * i + 7, time_ns=i * 1_000_000_000 + 5000) for i in range(1, 4)]


@given(FRAMES, st.sampled_from("<>"), st.sampled_from([1, 1000]))
def test_what_was_written_is_read(frames: list[Frame], order: str, unit: int) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "test.pcap"
        path.write_bytes(pcap(frames, order=order, unit=unit))
        assert frames_of(path) == (frames, "")


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_what_scapy_writes_is_read(tmp_path: Path, endianness: str, nano: bool) -> None:
    path = tmp_path / "test.pcap"
    packets = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / UDP(sport=i, dport=53)
        / bytes(i)
        for i in range(50)
    ]
    with PcapWriter(str(path), linktype=1, nano=nano, endianness=endianness) as writer:
        for number, each in enumerate(packets):
            each.time = 1_700_000_000 + number * 0.5
            writer.write(each)
    found, wrong = frames_of(path)
    assert wrong == ""
    assert [frame.octets for frame in found] == [bytes(each) for each in packets]
    assert [frame.time_ns for frame in found] == [1_700_000_000_000_000_000 + i * 500_000_000 for i in range(50)]


def test_a_file_cut_anywhere_gives_the_packets_before_and_says_where(tmp_path: Path) -> None:
    whole, path = pcap(THREE), tmp_path / "test.pcap"
    ends = [24]
    for frame in THREE:
        ends.append(ends[-1] + 16 + len(frame.octets))
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found, wrong = frames_of(path)
        assert found == THREE[: sum(end <= cut for end in ends[1:])]
        if cut in ends:
            assert wrong == ""
        else:
            assert wrong.startswith(str(path))
            assert wrong.endswith(f"at byte {cut}")


def test_packets_longer_than_a_chunk_and_across_chunks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", 1000)
    frames = [Frame(octets=bytes([i % 251]) * (i * 37 % 5000), wire=5000, time_ns=i * 1000) for i in range(100)]
    path = tmp_path / "test.pcap"
    path.write_bytes(pcap(frames))
    assert frames_of(path) == (frames, "")


def test_garbage_in_the_place_of_a_length_is_an_error_with_its_position(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(pcap(THREE) + struct.pack("<IIII", 1, 1, 0xFFFFFFFF, 60) + bytes(100))
    found, wrong = frames_of(path)
    assert found == THREE
    assert f"has a packet of 4,294,967,295 bytes, which cannot be, at byte {len(pcap(THREE))}" in wrong


def test_a_packet_without_octets_and_an_absurd_snaplen_are_no_errors(tmp_path: Path) -> None:
    frames = [Frame(octets=b"", wire=0, time_ns=0), Frame(octets=b"ab", wire=2, time_ns=0)]
    for snaplen in (0, 0xFFFFFFFF):
        path = tmp_path / "test.pcap"
        path.write_bytes(pcap(frames, snaplen=snaplen))
        assert frames_of(path) == (frames, "")


def test_a_length_on_the_wire_below_what_was_captured_stays_as_it_is(tmp_path: Path) -> None:
    frames = [Frame(octets=bytes(60), wire=wire, time_ns=0) for wire in (10, 0)]
    path = tmp_path / "test.pcap"
    path.write_bytes(pcap(frames))
    assert frames_of(path) == (frames, "")


def test_times_that_tables_cannot_hold_are_brought_into_range(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(pcap([Frame(octets=b"", wire=0, time_ns=(2**32 - 1) * 1_000_000_000)]))
    (frame,), _ = frames_of(path)
    assert frame.time_ns == (2**32 - 1 - 7200) * 1_000_000_000


def test_bits_above_the_link_type_are_not_the_link_type(tmp_path: Path) -> None:
    path = tmp_path / "test.pcap"
    path.write_bytes(pcap(THREE[:1], link=0x24000001))
    assert frames_of(path)[0][0].link == 1


def test_a_fraction_of_more_than_a_second_is_added_to_the_seconds(tmp_path: Path) -> None:
    octets = bytearray(pcap([Frame(octets=b"x" * 60, wire=60, time_ns=0)]))
    octets[24:32] = struct.pack("<II", 1_000, 2_500_000)
    path = tmp_path / "a.pcap"
    path.write_bytes(octets)
    (frames,) = read(str(path))
    assert frames.time_ns.tolist() == [1_002_500_000_000]
