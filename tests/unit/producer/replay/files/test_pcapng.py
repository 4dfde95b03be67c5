import struct
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter

from producer.replay.files import source
from producer.replay.files.frames import UNDIRECTED
from schemas.packets import EGRESS, INGRESS
from tests.unit.producer.replay.captures import (
    Frame,
    block,
    frames_of,
    interface,
    old_packet,
    option,
    packet,
    section,
    simple_packet,
)

MICRO = 1_700_000_000_000_000  # ticks


@st.composite
def captures(draw: st.DrawFn) -> tuple[bytes, list[Frame], list[int]]:
    """A file of several sections, what stands in it, and where its blocks end."""
    parts: list[bytes] = []
    frames: list[Frame] = []
    last_ns = 0
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        parts.append(section(order))
        known: list[tuple[str, int, int, int]] = []
        for _ in range(draw(st.integers(0, 12))):
            kind = draw(st.sampled_from(["interface", "packet", "old", "simple", "statistics", "unknown"]))
            if kind == "interface" or (not known and kind in {"packet", "old", "simple"}):
                name, link = (
                    draw(st.sampled_from(["eth0", "wlan0", "any"])),
                    draw(st.sampled_from([1, 101, 113, 65_000])),
                )
                digits, offset = draw(st.sampled_from([3, 6, 9])), draw(st.sampled_from([0, 0, 1_000_000]))
                known.append((name, link, digits, offset))
                parts.append(interface(order, link=link, name=name, tsresol=digits, offset=offset))
                continue
            if kind == "statistics":
                parts.append(block(5, bytes(12) + option(0, b"", order), order))
                continue
            if kind == "unknown":
                parts.append(block(0x0BAD, draw(st.binary(max_size=3)).ljust(4, b"\0"), order))
                continue
            octets = draw(st.binary(max_size=60))
            wire = len(octets) + (draw(st.integers(0, 2000)) if kind != "simple" else 0)
            number = draw(st.integers(0, len(known) - 1)) if kind != "simple" else 0
            name, link, digits, offset = known[number]
            ticks = draw(st.integers(0, 4_000_000_000 * 10**digits))
            time_ns = ticks * 10 ** (9 - digits) + offset * 10**9
            direction = UNDIRECTED
            if kind == "packet":
                flags = draw(st.sampled_from([None, 0, 1, 2, 3]))
                direction = {1: INGRESS, 2: EGRESS}.get(flags or 0, UNDIRECTED)
                parts.append(packet(octets, wire, ticks, order, number=number, flags=flags))
            elif kind == "old":
                parts.append(old_packet(octets, wire, ticks, order, number=number))
            else:
                time_ns = last_ns
                parts.append(simple_packet(octets, wire, order))
            last_ns = time_ns
            frames.append(
                Frame(octets=octets, wire=wire, time_ns=time_ns, direction=direction, interface=name, link=link)
            )
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    return b"".join(parts), frames, ends


@given(captures())
def test_what_was_written_is_read(capture: tuple[bytes, list[Frame], list[int]]) -> None:
    octets, frames, _ = capture
    with TemporaryDirectory() as directory:
        path = Path(directory) / "test.pcapng"
        path.write_bytes(octets)
        assert frames_of(path) == (frames, "")


def test_what_scapy_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "test.pcapng"
    packets = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / UDP(sport=i, dport=53)
        / bytes(i)
        for i in range(50)
    ]
    with PcapNgWriter(str(path)) as writer:
        for number, each in enumerate(packets):
            each.time = 1_700_000_000 + number * 0.5
            each.wirelen = 2000
            writer.write(each)
    found, wrong = frames_of(path)
    assert wrong == ""
    assert [frame.octets for frame in found] == [bytes(each) for each in packets]
    assert [frame.time_ns for frame in found] == [1_700_000_000_000_000_000 + i * 500_000_000 for i in range(50)]


def small_file() -> tuple[bytes, list[Frame], list[int]]:
    parts = [
        section(),
        interface(name="eth0"),
        packet(b"abcde", 9, MICRO),
        packet(b"xyz", 3, MICRO + 1, flags=2),
        section(">"),
        interface(">", name="eth1", tsresol=9),
        packet(b"1234", 70, 5, ">"),
        simple_packet(b"12", 2, ">"),
    ]
    first = Frame(octets=b"abcde", wire=9, time_ns=MICRO * 1000, interface="eth0")
    frames = [
        first,
        replace(first, octets=b"xyz", wire=3, time_ns=(MICRO + 1) * 1000, direction=EGRESS),
        Frame(octets=b"1234", wire=70, time_ns=5, interface="eth1"),
        Frame(octets=b"12", wire=2, time_ns=5, interface="eth1"),
    ]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    return b"".join(parts), frames, ends


def test_a_file_cut_anywhere_gives_the_packets_before_and_says_where(tmp_path: Path) -> None:
    whole, frames, ends = small_file()
    path = tmp_path / "test.pcapng"
    path.write_bytes(whole)
    assert frames_of(path) == (frames, "")
    packet_ends = [ends[3], ends[4], ends[7], ends[8]]
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        found, wrong = frames_of(path)
        assert found == frames[: sum(end <= cut for end in packet_ends)]
        if cut in ends:
            assert wrong == ""
        else:
            assert wrong.endswith(f"at byte {cut}")


def test_blocks_across_chunks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", 7)
    whole, frames, _ = small_file()
    path = tmp_path / "test.pcapng"
    path.write_bytes(whole)
    assert frames_of(path) == (frames, "")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (packet(b"abcd", 4, 0, number=1), "has a packet block that does not hold what it says"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + bytes(8)), "has a packet block that does not hold"),
        (struct.pack("<II", 5, 13) + bytes(40), "has a block of 13 bytes, which cannot be,"),
        (struct.pack("<II", 5, 0) + bytes(40), "has a block of 0 bytes, which cannot be,"),
        (struct.pack("<II", 6, 0xFFFFFFF0) + bytes(40), "has a block of 4,294,967,280 bytes, which cannot be,"),
        (struct.pack("<II", 5, 16) + bytes(4) + struct.pack("<I", 20), "has a block whose two lengths differ"),
        (block(0x0A0D0D0A, bytes(16)), "has a section of unknown byte order"),
        (struct.pack("<II", 1, 8) + bytes(40), "has a block of 8 bytes, which cannot be,"),
    ],
)
def test_a_bad_block_is_an_error_with_its_position(tmp_path: Path, bad: bytes, what: str) -> None:
    begin = section() + interface(name="eth0") + packet(b"abcde", 9, MICRO)
    path = tmp_path / "test.pcapng"
    path.write_bytes(begin + bad + packet(b"behind", 6, MICRO))
    found, wrong = frames_of(path)
    assert [frame.octets for frame in found] == [b"abcde"]
    assert what in wrong
    assert wrong.endswith(f"at byte {len(begin)}")


def test_interfaces_without_a_name_are_called_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "office.pcapng"
    path.write_bytes(
        section() + interface() + interface() + packet(b"a", 1, 0, number=0) + packet(b"b", 1, 0, number=1)
    )
    assert [frame.interface for frame in frames_of(path)[0]] == ["office", "office-1"]


def test_a_simple_packet_is_as_long_as_the_snaplen_allows(tmp_path: Path) -> None:
    path = tmp_path / "test.pcapng"
    path.write_bytes(section() + interface(name="eth0", snaplen=5) + simple_packet(b"12345", 100))
    assert frames_of(path)[0] == [Frame(octets=b"12345", wire=100, time_ns=0, interface="eth0")]
