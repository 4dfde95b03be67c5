"""The hooks on real interfaces: what a test run cannot show (accelerated tags, paged buffers, other filters)."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Raw

from producer.kernel import child, pins
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.kernel.frames import ETHER, V4
from tests.kernel.harness import Program
from tests.kernel.tagging import pushed
from tests.waiting import until

pytestmark = pytest.mark.root

EGRESS_OF_A, INGRESS_OF_B = 1, 2
"""Keys of the counters: interface * 2 + direction."""

DROP_PORT_666 = "4,40 0 0 36,21 0 1 666,6 0 0 2,6 0 0 4294967295"
"""Classic BPF: the half-word at 36, if it is 666 drop, else no decision."""

Attach = Callable[..., Program]


@pytest.fixture
def attach(way: str, bpffs: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Attach]:
    """Attaches the program to interfaces for the time of the test."""
    directory = pins.node_directory(bpffs, f"live.{abs(hash(request.node.name)) % 10**9}")
    programs = []

    def attach(*interfaces: str) -> Program:
        programs.append(Program(directory, tmp_path / "kernel.log", interfaces=interfaces, ways=(way,)))
        return programs[0]

    yield attach
    child.run("detach", {"node": pins.node_of(directory)}, log=tmp_path / "detach.log")
    for program in programs:
        program.close()
    pins.remove(directory)


def events_of(program: Program, expected: int) -> list[Any]:
    """`expected` events; what was sent over a veth arrives in softirq, at once or a moment later."""
    found: list[Any] = []

    def taken() -> bool:
        found.extend(program.take_events())
        return len(found) >= expected

    until(taken)
    return found


def test_a_tag_counts_alike_in_the_frame_and_taken_out_of_it(attach: Attach) -> None:
    inner = V4.payload / UDP(sport=1111, dport=53) / Raw(bytes(40))
    frames = {
        0: ETHER / inner,
        77: ETHER / Dot1Q(vlan=77, prio=3) / inner,
        88: ETHER / Dot1AD(vlan=88) / Dot1Q(vlan=77) / inner,
    }
    with veth.pair() as (a, b):
        program = attach(a, b)
        for vlan, frame in frames.items():
            veth.send(a, bytes(frame))
            events = events_of(program, 2)  # on receipt the kernel takes the outer tag out of the frame
            assert sorted(int(event["direction"]) for event in events) == [0, 1]
            for event in events:
                assert (event["vlan_id"], event["bytes"], event["src_port"]) == (vlan, len(frame), 1111)


def test_a_tag_beside_the_frame_is_on_the_wire(attach: Attach, bpffs: Path) -> None:
    with veth.pair() as (a, b):
        program = attach(a, b)
        with pushed(a, 5, bpffs / "tagging"):
            for inside in (V4, ETHER / Dot1Q(vlan=7) / V4.payload):  # the tag that is there becomes the inner one
                octets = bytes(inside / UDP(sport=1111, dport=53)) + bytes(40)
                veth.send(a, octets)
                events = events_of(program, 2)
                assert sorted(int(event["direction"]) for event in events) == [0, 1]
                for event in events:
                    assert (event["vlan_id"], event["bytes"], event["src_port"]) == (5, len(octets) + 4, 1111)


def test_each_segment_repeats_the_tag_beside_the_frame(attach: Attach, bpffs: Path) -> None:
    with veth.pair() as (a, b):
        program = attach(a, b)
        with pushed(a, 5, bpffs / "tagging"):
            tcp = TCP(sport=1, dport=2, flags="A") / Raw(bytes(14_480))
            veth.send_gso(a, bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / tcp), headers=54, segment=1448)
            for event in events_of(program, 2):
                assert (event["packets"], event["bytes"], event["vlan_id"]) == (10, 14_480 + 10 * (54 + 4), 5)
                assert event["segment_bytes"] == 1448 + 54 + 4


def test_headers_outside_the_linear_part_are_read(attach: Attach) -> None:
    with veth.pair(mtu=9000) as (a, b):
        program = attach(a, b)
        frames = [
            bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(6000))),
            bytes(ETHER / IPv6() / IPv6ExtHdrDestOpt() / TCP(sport=1111, dport=53, flags="FA") / Raw(bytes(6000))),
            bytes(ETHER / Dot1Q(vlan=9) / IP() / TCP(sport=1111, dport=53, flags="FA") / Raw(bytes(6000))),
        ]
        veth.send(a, *frames)  # AF_PACKET puts all but the link header of a large frame into pages
        events = events_of(program, 6)
        assert [(int(e["protocol"]), int(e["src_port"]), int(e["dst_port"]), int(e["tcp_flags"])) for e in events] == [
            pair for pair in ((17, 1111, 53, 0), (6, 1111, 53, 0x11), (6, 1111, 53, 0x11)) for _ in range(2)
        ]
        assert sorted(int(e["bytes"]) for e in events) == sorted(len(frame) for frame in frames for _ in range(2))


def test_a_super_packet_from_outside_counts_as_what_the_wire_carries(attach: Attach) -> None:
    with veth.pair() as (a, b):
        program = attach(a, b)
        for payload, segments in ((14_480, 10), (14_481, 11)):
            tcp = TCP(sport=1, dport=2, flags="A") / Raw(bytes(payload))
            veth.send_gso(a, bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / tcp), headers=54, segment=1448)
            events = events_of(program, 2)
            assert sorted(int(event["direction"]) for event in events) == [0, 1]
            for event in events:
                assert (event["packets"], event["bytes"]) == (segments, payload + segments * 54)


def test_a_frame_cut_short_is_counted_as_malformed(attach: Attach) -> None:
    v6 = bytes(ETHER)[:12] + b"\x86\xdd" + b"\x60" * 60
    frames = [bytes(V4)[:14], bytes(V4)[:15], bytes(V4)[:33], v6[:34], v6[:53]]
    size = sum(len(frame) for frame in frames)
    wanted = {"seen_packets": 5, "seen_bytes": size, "malformed_packets": 5, "malformed_bytes": size}
    with veth.pair() as (a, b):
        program = attach(a, b)
        veth.send(a, *frames)
        until(lambda: program.counters(INGRESS_OF_B)["seen_packets"] == len(frames))
        for key in (EGRESS_OF_A, INGRESS_OF_B):
            assert {name: value for name, value in program.counters(key).items() if value} == wanted
        assert not len(program.take_events())


def test_other_filters_stay_and_still_decide(attach: Attach, way: str, tmp_path: Path) -> None:
    with veth.pair() as (a, b):
        veth.tc("qdisc", "add", "dev", b, "clsact")
        drop = ("protocol", "ip", "bpf", "da", "bytecode", DROP_PORT_666)
        veth.tc("filter", "add", "dev", b, "ingress", "prio", "1", *drop)
        veth.tc("filter", "add", "dev", b, "ingress", *drop)  # prio chosen by the kernel
        before = veth.tc("filter", "show", "dev", b, "ingress")
        program = attach(a, b)
        assert hooks(b) == {f"{way} ingress", f"{way} egress"}
        veth.send(a, bytes(V4 / UDP(sport=1111, dport=666) / Raw(bytes(30))))
        veth.send(a, bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(30))))
        sent, passed = [(1, 53), (1, 666)], [(0, 53)]
        dropped = [(0, 666)] if way == "tcx" else []  # by the filter at priority 1, which is before our filter
        events = events_of(program, len(sent + passed + dropped))
        assert sorted((int(e["direction"]), int(e["dst_port"])) for e in events) == sorted(sent + passed + dropped)
        removed = child.run("detach", {"node": program.node}, log=tmp_path / "detach.log").values["removed"]
        assert any(a in line and "clsact" in line for line in removed) == (way == "clsact")
        assert not any(b in line and "clsact" in line for line in removed)
        assert veth.tc("filter", "show", "dev", b, "ingress") == before
        assert "clsact" in veth.tc("qdisc", "show", "dev", b)
        assert "clsact" not in veth.tc("qdisc", "show", "dev", a)
        assert not hooks(a) | hooks(b)


def test_traffic_passes_on_to_the_stack_as_without_us(attach: Attach) -> None:
    frame = bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(30)))
    with veth.pair() as (a, b), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind((b, 0))
        tap.settimeout(5)
        veth.send(a, frame)
        without = tap.recv(2000)
        attach(a, b)
        veth.send(a, frame)
        assert tap.recv(2000) == without == frame


def test_two_nodes_share_an_interface_and_the_last_leaves_nothing(way: str, bpffs: Path, tmp_path: Path) -> None:
    log, both = tmp_path / "kernel.log", {f"{way} ingress", f"{way} egress"}
    with veth.pair() as (a, b):
        nodes = ("live-one", "live-two")
        programs = [Program(pins.node_directory(bpffs, node), log, interfaces=(a,), ways=(way,)) for node in nodes]
        assert [hooks(a, node) for node in nodes] == [both, both]
        veth.send(b, bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(30))))
        for program in programs:
            assert [int(event["direction"]) for event in events_of(program, 1)] == [0]
        child.run("detach", {"node": "live-one"}, log=log)
        assert [hooks(a, node) for node in nodes] == [set(), both]
        child.run("detach", {"node": "live-two"}, log=log)
        assert not hooks(a)
        assert "clsact" not in veth.tc("qdisc", "show", "dev", a)
        for node, program in zip(nodes, programs, strict=True):
            program.close()
            pins.remove(pins.node_directory(bpffs, node))
