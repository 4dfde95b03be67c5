"""Which passage of a packet counts, in captures of several interfaces."""

import random
import struct
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from producer.replay.files.frames import Frames, Link, make
from producer.replay.links import Prepared, prepare
from producer.replay.passages import SAME_NS, Passages
from tests.unit.producer.replay.captures import Sll2, sll2

HOST, BROADCAST, OUTGOING = 0, 1, 4
MS = 1_000_000
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # or scapy would ask the network for addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A packet at an interface."""

    packet: Packet
    ifindex: int = 2
    kind: int = HOST
    time_ns: int = 0


def came(packet: Packet, ifindex: int = 2, time_ns: int = 0) -> Passed:
    return Passed(packet=packet, ifindex=ifindex, time_ns=time_ns)


def left(packet: Packet, ifindex: int = 3, time_ns: int = 0) -> Passed:
    return Passed(packet=packet, ifindex=ifindex, kind=OUTGOING, time_ns=time_ns)


def captured(*passed: Passed, snaplen: int = 2000) -> Prepared:
    """As tcpdump -i any writes it."""
    data, starts, lengths = bytearray(), [], []
    for each in passed:
        octets = bytes(each.packet)
        protocol = 0x8100 if Dot1Q in each.packet else 0x86DD if octets[:1] == b"\x60" else 0x0800
        frame = sll2(Sll2(protocol=protocol, ifindex=each.ifindex, kind=each.kind), octets)[:snaplen]
        data += bytes(16)
        starts.append(len(data))
        lengths.append(len(frame))
        data += frame
    return prepare(
        make(
            data,
            start=np.array(starts, np.int64),
            captured=np.array(lengths, np.int64),
            wire=np.full(len(passed), 100, np.int64),
            time_ns=np.array([each.time_ns for each in passed], np.int64),
            links=(Link(interface="any", type=276),),
        )
    )


def secondary(*passed: Passed) -> list[bool]:
    found: list[bool] = Passages().secondary(captured(*passed)).tolist()
    return found


def hop(packet: Packet, **changed: object) -> Packet:
    """The packet behind a router: a TTL less, a checksum of its own, and what is given."""
    behind = packet.copy()
    if IP in behind:
        behind[IP].ttl -= 1
        behind[IP].tos = 3  # congestion experienced
        for layer in (IP, TCP, UDP, ICMP):
            if layer in behind:
                del behind[layer].chksum
    else:
        behind[IPv6].hlim -= 1
    for name, value in changed.items():
        setattr(behind, name, value)
    read: Packet = Ether(bytes(ETHER / behind))[IP if IP in behind else IPv6]
    return read


INSIDE = IP(src="192.168.1.5", dst="192.0.2.1", id=77)
PACKETS = [
    INSIDE / UDP(sport=5000, dport=53) / b"question",
    INSIDE / TCP(sport=5000, dport=443, flags="S", options=[("MSS", 1460), ("SAckOK", b"")]),
    INSIDE / TCP(sport=5000, dport=443, flags="A", seq=5, ack=9) / b"hello",
    INSIDE / ICMP(type=8, id=4, seq=1) / bytes(40),
    INSIDE / ICMP(type=3, code=1) / IP(src="192.0.2.1", dst="192.168.1.5") / UDP(sport=1, dport=2),
    IP(src="192.168.1.5", dst="192.0.2.1", id=77, frag=185, proto=17) / bytes(100),
    IP(src="192.168.1.5", dst="192.0.2.1", id=77, options=[b"\1\1\1\0"]) / UDP(sport=5000, dport=53) / b"question",
    IP(src="192.168.1.5", dst="192.0.2.1", id=77, proto=47) / bytes(100),
]
SIX = [
    IPv6(src="2001:db8::5", dst="2001:db8:1::1", fl=9) / UDP(sport=5000, dport=53) / b"question",
    IPv6(src="2001:db8::5", dst="2001:db8:1::1") / TCP(sport=5000, dport=443, flags="A", seq=5, ack=9) / b"hello",
]


@pytest.mark.parametrize("packet", [*PACKETS, *SIX])
def test_a_packet_that_is_forwarded_counts_where_it_came_in(packet: Packet) -> None:
    assert secondary(came(packet), left(hop(packet), time_ns=MS)) == [False, True]
    assert secondary(came(packet), left(hop(packet), ifindex=2, time_ns=MS)) == [False, True]  # by the same interface


@pytest.mark.parametrize("packet", PACKETS)
@pytest.mark.parametrize("changed", ["src", "dst"])
def test_so_it_does_behind_nat(packet: Packet, changed: str) -> None:
    behind = hop(packet, **{changed: "198.51.100.9"})
    for layer in (TCP, UDP):
        if layer in behind and ICMP not in behind:
            behind[layer].sport = 61_234
    if TCP in behind and behind[TCP].flags == "S":
        behind[TCP].options = [("MSS", 1412), ("SAckOK", b"")]
    if ICMP in behind and behind[ICMP].type == 8:
        behind[ICMP].id = 999
    assert secondary(came(packet), left(behind, time_ns=MS)) == [False, True]


@pytest.mark.parametrize("packet", PACKETS)
def test_what_a_relay_sends_on_is_another_packet(packet: Packet) -> None:
    assert secondary(came(packet), left(hop(packet, src="10.9.9.9", dst="10.9.9.8"), time_ns=MS)) == [False, False]


@pytest.mark.parametrize("packet", [*PACKETS[:4], *SIX])
def test_another_packet_of_the_flow_is_another_packet(packet: Packet) -> None:
    other = hop(packet)
    if IP in other:
        other[IP].id += 1
        del other[IP].chksum
    else:
        other.payload = other.payload.__class__(bytes(other.payload)[:-1] + b"!")
    assert secondary(came(packet), left(other, time_ns=MS)) == [False, False]


@pytest.mark.parametrize("packet", [PACKETS[0], SIX[0]])
def test_a_request_that_is_sent_again_is_two_packets_in_whichever_order_they_pass(packet: Packet) -> None:
    first, second = came(packet), came(packet, time_ns=3 * MS)
    out, again = left(hop(packet), time_ns=2 * MS), left(hop(packet), time_ns=4 * MS)
    assert secondary(first, out, second, again) == [False, True, False, True]
    assert secondary(first, second, out, again) == [False, False, True, True]
    assert secondary(first, second, again) == [False, False, True]  # of which one was dropped here


def test_a_packet_of_more_than_a_second_ago_is_another() -> None:
    packet = PACKETS[0]
    assert secondary(came(packet), left(hop(packet), time_ns=SAME_NS)) == [False, True]
    assert secondary(came(packet), left(hop(packet), time_ns=SAME_NS + 1)) == [False, False]


def test_a_loop_brings_the_packet_again() -> None:
    one = PACKETS[0]
    two, three, four = hop(one), hop(hop(one)), hop(hop(hop(one)))
    assert secondary(came(one), left(two, time_ns=1), came(three, time_ns=2), left(four, time_ns=3)) == [
        False,
        True,
        False,
        True,
    ]


def test_what_loopback_receives_was_sent() -> None:
    assert secondary(left(PACKETS[2], ifindex=1), came(PACKETS[2], ifindex=1, time_ns=1)) == [False, True]


def test_an_interface_that_stands_on_another_has_the_packet_at_the_same_moment() -> None:
    packet = PACKETS[2]
    tagged = Dot1Q(vlan=5, type=0x0800) / packet
    assert secondary(came(tagged), came(packet, ifindex=9)) == [False, True]
    # sent, it comes by the VLAN device first
    assert secondary(left(packet, ifindex=9), left(tagged, ifindex=2, time_ns=9)) == [False, True]


def test_a_broadcast_that_two_cables_bring_is_two_packets() -> None:
    packet = IP(src="10.0.0.1", dst="10.0.0.255", id=3) / UDP(sport=138, dport=138) / b"here"
    assert secondary(came(packet, 2), came(packet, 3, time_ns=1000)) == [False, False]


def test_a_packet_to_several_interfaces_counts_once() -> None:
    packet = PACKETS[0]
    flood = [left(packet, ifindex, time_ns=ifindex) for ifindex in range(3, 9)]
    assert secondary(came(packet), *flood) == [False, *[True] * 6]


def test_what_is_no_ip_or_cut_off_counts() -> None:
    for octets in (b"", b"\x45", bytes(INSIDE)[:19], bytes(SIX[0])[:39], b"\x55" + bytes(60), bytes(4)):
        assert secondary(came(Raw(octets)), left(Raw(octets), time_ns=1)) == [False, False]


def test_short_captures_are_enough() -> None:
    packet = INSIDE / TCP(sport=5000, dport=443, flags="A", seq=5) / bytes(1000)
    tagged = Dot1Q(vlan=5, type=0x0800) / packet
    found = Passages().secondary(captured(came(tagged), came(packet, 9), left(hop(packet), 3, 1), snaplen=88))
    assert found.tolist() == [False, True, True]


def test_packets_are_remembered_from_one_part_of_a_capture_to_the_next() -> None:
    passages = Passages()
    assert passages.secondary(captured(came(PACKETS[0]))).tolist() == [False]
    assert passages.secondary(captured(left(hop(PACKETS[0]), time_ns=MS))).tolist() == [True]


def test_frames_whose_direction_nobody_knows_all_count() -> None:
    prepared = captured(came(PACKETS[0]), left(hop(PACKETS[0]), time_ns=1))
    frames: Frames = replace(prepared.frames, direction=np.full(2, 2, np.uint8))
    assert Passages().secondary(replace(prepared, frames=frames)).tolist() == [False, False]


def test_a_flood_that_is_all_alike_takes_no_longer_for_each_packet() -> None:
    """By many interfaces, too: what is remembered of a packet has an end."""
    packet = bytes(PACKETS[0])
    frames = [sll2(Sll2(protocol=0x0800, ifindex=2 + i, kind=HOST), packet) for i in range(20_000)]
    passages = Passages()
    prepared = captured(came(PACKETS[0]))
    data = bytearray(b"".join(bytes(16) + frame for frame in frames))
    size = 16 + len(frames[0])
    prepared = prepare(
        make(
            data,
            start=np.arange(16, len(data), size, dtype=np.int64),
            captured=np.full(len(frames), size - 16, np.int64),
            wire=np.full(len(frames), 100, np.int64),
            time_ns=np.arange(len(frames), dtype=np.int64),
            links=(Link(interface="any", type=276),),
        )
    )
    assert passages.secondary(prepared).sum() == 0
    (packets,) = {id(packet): packet for packet in passages._young.values()}.values()
    assert len(packets) == 16


def test_a_router_counts_what_came_whatever_passes_it() -> None:
    """Flows of a few packets that are alike, sent again, dropped and sent to several places."""
    rng = random.Random(11)
    passed, packets, now = [], 0, 0
    waiting: list[tuple[int, Passed]] = []
    for _ in range(3000):
        now += rng.randrange(MS)
        for due, each in sorted(waiting, key=lambda pair: pair[0]):
            if due <= now:
                passed.append(replace(each, time_ns=due))
        waiting = [pair for pair in waiting if pair[0] > now]
        packet = rng.choice([*PACKETS, *SIX])
        packets += 1
        passed.append(came(packet, time_ns=now))
        if rng.random() < 0.9:
            waiting.append((now + rng.randrange(1, 20 * MS), left(hop(packet))))
    assert secondary(*passed).count(False) == packets


def test_an_index_makes_an_interface_of_its_own() -> None:
    prepared = captured(came(PACKETS[0], 2), came(PACKETS[0], 70_000), came(PACKETS[0], 0), came(PACKETS[0], 2))
    names = [prepared.frames.links[link].interface for link in prepared.frames.link]
    assert names == ["any-if2", "any-if70000", "any", "any-if2"]


def test_the_header_is_that_of_the_format() -> None:
    """LINKTYPE_LINUX_SLL2, member by member."""
    assert sll2(Sll2(protocol=0x0800, ifindex=7, kind=4), b"x") == (
        struct.pack("!HHIHBB", 0x0800, 0, 7, 1, 4, 6) + bytes(8) + b"x"
    )
