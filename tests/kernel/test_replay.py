"""Captures through the real kernel program."""

import random
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from tests.kernel.fix_replay import Directed, Replayer, directed, replay
from tests.unit.producer.replay.captures import Frame, interface, packet, pcap, section

__all__ = ["replay"]

BEGIN_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # or scapy would ask the network for addresses


def moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // SECOND, UTC).replace(microsecond=ns // 1000 % 1_000_000)


def wrapped(frame: bytes, *, time_ns: int = BEGIN_NS, wire: int | None = None) -> Frame:
    return Frame(octets=frame, wire=len(frame) if wire is None else wire, time_ns=time_ns)


def save(path: Path, *frames: bytes | Frame, link: int = 1) -> Path:
    path.write_bytes(pcap([f if isinstance(f, Frame) else wrapped(f) for f in frames], unit=1, link=link))
    return path


def random_packet(rng: random.Random) -> Packet:
    """One of a few hundred flows, of many kinds."""
    host, port = rng.randrange(8), rng.randrange(1, 20)
    four = IP(
        src=f"10.0.0.{host}",
        dst=f"192.0.2.{host % 3}",
        ttl=rng.randrange(1, 255),
        options=rng.choice([[], b"\1\1\1\0"]),
    )
    six = IPv6(src=f"2001:db8::{host:x}", dst=f"2001:db8:1::{host % 3:x}")
    upper = rng.choice([TCP(sport=1000 + port, dport=80, flags=rng.randrange(512)), UDP(sport=port, dport=53)])
    network = rng.choice([four / upper, six / upper, four / ICMP(type=rng.choice([8, 3]), code=1)])
    shim = rng.choice([None, None, Dot1Q(vlan=port), Dot1Q(vlan=port) / Dot1Q(vlan=7)])
    frame = ETHER / shim / network if shim else ETHER / network
    return frame / bytes(rng.randrange(1200))


def truth(packets: Sequence[Packet]) -> Directed:
    """What scapy reads."""
    sums: Directed = {}
    for each in packets:
        layer = each[IP] if IP in each else each[IPv6]
        upper = layer.getlayer(TCP) or layer.getlayer(UDP)
        ports = (upper.sport, upper.dport) if upper else (0, 0)
        number = layer.proto if IP in each else layer.nh
        vlan = each[Dot1Q].vlan if Dot1Q in each else 0
        into = sums.setdefault((number, layer.src, ports[0], layer.dst, ports[1], vlan), [0, 0, 0])
        into[0] += 1
        into[1] += len(each)
        into[2] |= int(each[TCP].flags) if TCP in each else 0
    return sums


def test_flows_are_what_scapy_reads_of_the_same_packets(replay: Replayer, tmp_path: Path) -> None:
    rng = random.Random(4)
    packets = [Ether(bytes(random_packet(rng))) for _ in range(1500)]
    times = sorted(BEGIN_NS + rng.randrange(60 * SECOND) for _ in packets)
    others = [bytes(ETHER / ARP())] * 5 + [bytes(ETHER / IP())[:30]] * 3
    frames: list[bytes | Frame] = [wrapped(bytes(each), time_ns=at) for each, at in zip(packets, times, strict=True)]
    found = replay(save(tmp_path / "a.pcap", *frames, *others))
    assert directed(found.flows) == truth(packets)
    assert found.broken == []
    counted = found.totals.counted
    assert found.totals.frames == counted["seen_packets"] == 1508
    assert (counted["emitted_packets"], counted["non_ip_packets"], counted["malformed_packets"]) == (1500, 5, 3)


def test_fragments_of_a_ping_are_a_flow_without_a_type_and_no_ping_that_never_was(
    replay: Replayer, tmp_path: Path
) -> None:
    there, back = IP(src="10.0.0.2", dst="10.0.0.1", id=1), IP(src="10.0.0.1", dst="10.0.0.2", id=2)
    question, answer = there / ICMP(type=8) / bytes(4000), back / ICMP(type=0) / bytes(4000)
    parts = [part for whole in (question, answer) for part in whole.fragment(1480)]  # type: ignore[no-untyped-call]
    frames = [bytes(ETHER / part) for part in parts]
    found = replay(save(tmp_path / "a.pcap", *frames))
    (ping,) = [flow for flow in found.flows if flow["icmp_type"] == 8]
    (rest,) = [flow for flow in found.flows if flow["icmp_type"] == -1]
    assert len(found.flows) == 2
    assert (ping["src_addr"], ping["packets"], ping["packets_rev"]) == ("10.0.0.2", 1, 1)
    assert (rest["packets"], rest["packets_rev"], rest["icmp_code"]) == (2, 2, 0)
    assert rest["community_id"] == "1:47NQm4XrelhIqVCgeZCTGUPhJyo="  # Wireshark's, of each of them


def test_times_are_those_of_the_capture_to_the_microsecond(replay: Replayer, tmp_path: Path) -> None:
    rng = random.Random(5)
    frames: list[bytes | Frame] = []
    seen: dict[tuple[int, int], list[int]] = {}
    for _ in range(500):
        port, at = rng.randrange(40_000, 40_050), BEGIN_NS + rng.randrange(30 * SECOND)
        frames.append(
            wrapped(bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=port, dport=9999)), time_ns=at)
        )
        seen.setdefault((port, at // (10 * SECOND)), []).append(at)
    found = replay(save(tmp_path / "a.pcap", *frames))
    assert {
        (flow["src_port"], int(flow["window_begin"].replace(tzinfo=UTC).timestamp()) // 10): (
            flow["first_seen"].replace(tzinfo=UTC),
            flow["last_seen"].replace(tzinfo=UTC),
        )
        for flow in found.flows
    } == {key: (moment(min(times)), moment(max(times))) for key, times in seen.items()}
    order = [(flow["window_begin"], flow["first_seen"]) for flow in found.flows]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("captured", "outcome", "ports", "flags"),
    [
        (14, "malformed", None, None),
        (33, "malformed", None, None),
        (34, "emitted", (0, 0), 0),
        (37, "emitted", (0, 0), 0),
        (38, "emitted", (1234, 80), 0),
        (47, "emitted", (1234, 80), 0),
        (48, "emitted", (1234, 80), 2),
        (54, "emitted", (1234, 80), 2),
    ],
)
def test_nothing_is_read_behind_what_was_captured(
    replay: Replayer, tmp_path: Path, captured: int, outcome: str, ports: tuple[int, int] | None, flags: int | None
) -> None:
    # the frame before it holds what a reader of stale octets would find
    whole = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1234, dport=80, flags="S") / bytes(1000))
    found = replay(save(tmp_path / "a.pcap", wrapped(whole), wrapped(whole[:captured], wire=len(whole))))
    assert found.totals.counted[f"{outcome}_packets"] == (2 if outcome == "emitted" else 1)
    assert found.totals.counted["seen_bytes"] == 2 * len(whole)
    if ports is None:
        return
    sums = directed(found.flows)
    expected = {(6, "10.0.0.1", 1234, "10.0.0.2", 80, 0): [1, len(whole), 2]}
    into = expected.setdefault((6, "10.0.0.1", ports[0], "10.0.0.2", ports[1], 0), [0, 0, 0])
    into[0] += 1
    into[1] += len(whole)
    into[2] |= flags or 0
    assert sums == expected


@pytest.mark.parametrize("size", [3_700, 9_000, 15_999, 16_000, 16_001, 65_535, 300_000])
def test_frames_of_any_length_are_counted_with_all_their_bytes(replay: Replayer, tmp_path: Path, size: int) -> None:
    frame = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", len=1000) / UDP(sport=5, dport=6)).ljust(size, b"x")
    found = replay(save(tmp_path / "a.pcap", frame, frame[:60], frame, wrapped(frame[:100], wire=size)))
    assert directed(found.flows) == {(17, "10.0.0.1", 5, "10.0.0.2", 6, 0): [4, 3 * size + 60, 0]}


def test_every_frame_is_counted_once_whatever_is_in_it(replay: Replayer, tmp_path: Path) -> None:
    rng = random.Random(6)
    frames: list[bytes | Frame] = []
    some = [bytes(random_packet(rng)) for _ in range(500)]
    for _ in range(20_000):  # more than one block
        octets = bytearray(rng.choice(some)[: rng.choice([0, 1, 13, 14, 20, 60, 80, 2000])])
        for _ in range(rng.randrange(4) if octets else 0):
            octets[rng.randrange(min(60, len(octets)))] = rng.randrange(256)
        frames.append(wrapped(bytes(octets), wire=len(octets) + rng.randrange(100)))
    for link in (1, 101, 113, 0):
        found = replay(save(tmp_path / "a.pcap", *frames, link=link))
        assert found.totals.frames == found.totals.counted["seen_packets"] == len(frames)
        assert (
            sum(flow["packets"] + flow["packets_rev"] for flow in found.flows)
            == (found.totals.counted["emitted_packets"])
        )
        assert sum(flow["bytes"] + flow["bytes_rev"] for flow in found.flows) == found.totals.counted["emitted_bytes"]
        if link == 1:
            assert found.totals.counted["seen_bytes"] == sum(frame.wire for frame in frames if isinstance(frame, Frame))


def test_interfaces_and_directions_of_pcapng_make_one_flow_of_both_directions(replay: Replayer, tmp_path: Path) -> None:
    there = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=4000, dport=80, flags="S"))
    back = bytes(ETHER / IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=80, dport=4000, flags="SA"))
    path = tmp_path / "a.pcapng"
    ticks = BEGIN_NS // 1000
    path.write_bytes(
        section()
        + interface(name="eth0")
        + interface(name="tun0", link=101)
        + packet(there, 60, ticks, flags=2)
        + packet(back, 61, ticks, flags=1)
        + packet(there[14:], 46, ticks, number=1)
        + packet(back[14:], 47, ticks, number=1, flags=0)
    )
    flows = {(flow["interface"], flow["direction"]): flow for flow in replay(path).flows}
    both = flows.pop(("eth0", "egress"))
    assert (both["packets"], both["bytes"], both["packets_rev"], both["bytes_rev"]) == (1, 60, 1, 61)
    assert (both["tcp_flags"], both["tcp_flags_rev"]) == (2, 18)
    # the capture does not say: the lower address's packets are taken as ingress, the answers as egress
    one = flows.pop(("tun0", "ingress"))
    assert (one["packets"], one["bytes"], one["packets_rev"], one["bytes_rev"]) == (1, 46, 1, 47)
    assert flows == {}


def test_other_link_types_give_the_flows_of_the_device(replay: Replayer, tmp_path: Path) -> None:
    ip = [bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=n, dport=53) / bytes(n)) for n in range(1, 50)]
    ip += [bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=n, dport=53)) for n in range(1, 50)]

    def family(octets: bytes) -> int:
        return 0x0800 if octets[0] >> 4 == 4 else 0x86DD

    bare = directed(replay(save(tmp_path / "a.pcap", *ip, link=101)).flows)
    assert sum(packets for packets, _, _ in bare.values()) == len(ip)
    assert sum(octets for _, octets, _ in bare.values()) == sum(map(len, ip))
    as_null = [struct.pack("<I", 2 if each[0] >> 4 == 4 else 10) + each for each in ip]
    assert directed(replay(save(tmp_path / "n.pcap", *as_null, link=0)).flows) == bare
    with_ethernet = directed(
        replay(save(tmp_path / "e.pcap", *(bytes(12) + struct.pack("!H", family(e)) + e for e in ip))).flows
    )
    as_sll = [struct.pack("!HHH8sH", 0, 1, 6, b"", family(each)) + each for each in ip]
    assert directed(replay(save(tmp_path / "s.pcap", *as_sll, link=113)).flows) == with_ethernet
    as_sll2 = [struct.pack("!HHIHBB8s", family(each), 0, 3, 1, 0, 6, b"") + each for each in ip]
    assert directed(replay(save(tmp_path / "t.pcap", *as_sll2, link=276)).flows) == with_ethernet


def test_a_broken_file_does_not_keep_the_next_one_from_being_read(replay: Replayer, tmp_path: Path) -> None:
    frame = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5, dport=6))
    first = save(tmp_path / "a.pcap", frame, frame)
    first.write_bytes(first.read_bytes()[:-1])
    found = replay(first, save(tmp_path / "b.pcap", frame))
    assert {flow["interface"]: flow["packets"] for flow in found.flows} == {"a": 1, "b": 1}
    assert found.broken == [f"{first} ends in the middle of a packet at byte {len(first.read_bytes())}"]


def test_captures_may_name_more_interfaces_than_the_kernel_program_has_numbers(
    replay: Replayer, tmp_path: Path
) -> None:
    """In one file, and in many; those with and without an Ethernet header take turns at a number."""
    ours = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5, dport=6)
    ip, frame = bytes(ours), bytes(ETHER / ours)
    names = [f"eth{i}" for i in range(1300)]
    raw = [i % 3 == 0 for i in range(1300)]
    path = tmp_path / "a.pcapng"
    path.write_bytes(
        section()
        + b"".join(interface(name=name, link=101 if is_raw else 1) for name, is_raw in zip(names, raw, strict=True))
        + b"".join(
            packet(ip if raw[i] else frame, len(ip if raw[i] else frame), 0, number=i)
            for _ in range(3)
            for i in range(1300)
        )
    )
    found = replay(path)
    assert {flow["interface"]: flow["packets"] for flow in found.flows} == dict.fromkeys(names, 3)
    assert found.totals.counted["emitted_packets"] == found.totals.frames == 3900
    found = replay(*(save(tmp_path / f"many-{i}.pcap", frame) for i in range(514)))
    assert {flow["interface"] for flow in found.flows} == {f"many-{i}" for i in range(514)}


def test_no_time_stamp_is_too_strange(replay: Replayer, tmp_path: Path) -> None:
    frame = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5, dport=6))
    path = tmp_path / "a.pcap"
    records: list[Any] = [(0, 0), (2**32 - 1, 2**32 - 1), (2**31, 999_999), (1, 2_000_000)]
    path.write_bytes(
        pcap([]) + b"".join(struct.pack("<IIII", *each, len(frame), len(frame)) + frame for each in records)
    )
    found = replay(path)
    assert sum(flow["packets"] for flow in found.flows) == 4
    assert found.totals.bad_times == 1
