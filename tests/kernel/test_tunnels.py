"""Tunnels that are opened on request, by TEST_RUN: the inner flow with the outer one beside it, or the outer one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import GRE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from producer.kernel import child, pins
from tests.kernel import veth
from tests.kernel.frames import ETHER, EVENTS, MALFORMED, NON_IP, V4, Case, octets_of
from tests.kernel.harness import UNSPEC, Program, shown
from tests.kernel.test_live import events_of
from tests.kernel.test_random_frames import ipv4, ipv6, read
from tests.kernel.tunnel_frames import KEPT, OPENED
from tests.kernel.tunnel_headers import ALL, Tunnelled, expected

pytestmark = pytest.mark.root

_OF_THE_RUN = {"ktime_ns", "flow_hash", "epoch"}
NOTHING = {"outer_src": bytes(16), "outer_dst": bytes(16), "tunnel_id": 0, "tunnel_type": 0}


@pytest.fixture(scope="module")
def opening(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    """The program that opens every tunnel."""
    directory = pins.node_directory(bpffs, f"kernel-test-tunnels-{loader}")
    log = tmp_path_factory.mktemp("tunnels") / "kernel.log"
    program = Program(directory, log, decapsulate=ALL, loader=loader)
    yield program
    program.close()
    pins.remove(directory)


@pytest.mark.parametrize("case", OPENED, ids=lambda case: case.name)
def test_the_flow_is_the_inner_one_with_the_tunnel_beside_it(opening: Program, case: Tunnelled) -> None:
    outcome = opening.run(case.frame)
    assert outcome.returned == UNSPEC
    (event,) = outcome.events
    found, wanted = shown(event), expected(case)
    assert {name: found[name] for name in wanted} == wanted
    assert outcome.counted == {
        "seen_packets": 1,
        "seen_bytes": len(case.frame),
        "emitted_packets": 1,
        "emitted_bytes": len(case.frame),
    }


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_opened_is_what_it_is_without(opening: Program, program: Program, name: str) -> None:
    (with_tunnels,), (without,) = opening.run(KEPT[name]).events, program.run(KEPT[name]).events
    kept = {field: value for field, value in shown(without).items() if field not in _OF_THE_RUN}
    assert {field: value for field, value in shown(with_tunnels).items() if field not in _OF_THE_RUN} == kept | NOTHING


@pytest.mark.parametrize("case", OPENED[:20], ids=lambda case: case.name)
def test_a_tunnel_is_a_packet_like_others_unless_it_is_to_be_opened(program: Program, case: Tunnelled) -> None:
    (event,) = program.run(case.frame).events
    assert bytes(event["src"])[-1] == 1
    assert bytes(event["src"]) != expected(case)["src"]
    assert "tunnel_type" not in (event.dtype.names or ())


@pytest.mark.parametrize("case", [case for case in EVENTS if "keeps the outer" not in case.name], ids=lambda c: c.name)
def test_frames_without_a_tunnel_are_what_they_were(opening: Program, program: Program, case: Case) -> None:
    (one,), (other,) = opening.run(case.frame).events, program.run(case.frame).events
    skip = {"ktime_ns", "flow_hash"}
    assert {k: v for k, v in shown(one).items() if k not in skip} == {
        **{k: v for k, v in shown(other).items() if k not in skip},
        **NOTHING,
    }


@pytest.mark.parametrize("frame", [*NON_IP.values(), *MALFORMED.values()], ids=[*NON_IP, *MALFORMED])
def test_what_is_no_packet_is_counted_as_before(opening: Program, program: Program, frame: bytes) -> None:
    assert opening.run(frame).counted == program.run(frame).counted


def test_each_kind_is_opened_on_its_own(bpffs: Path, tmp_path: Path) -> None:
    cases = {case.kind: case for case in OPENED[:5]}
    assert set(cases) == set(ALL)
    for kind in ALL:
        directory = pins.node_directory(bpffs, f"kernel-test-{kind}")
        program = Program(directory, tmp_path / "kernel.log", decapsulate=(kind,))
        opened = [other for other, case in cases.items() if program.run(case.frame).events["tunnel_type"][0]]
        program.close()
        pins.remove(directory)
        assert opened == [kind]


def test_the_tunnel_is_part_of_the_flow(opening: Program) -> None:
    def hash_of(frame: bytes) -> int:
        return int(opening.run(frame).events[0]["flow_hash"])

    base = next(case.frame for case in OPENED if case.name == "vxlan: IPv4 over IPv4")
    alone = base[50:64] + base[64:]  # the frame in it
    changed = {name: bytearray(base) for name in ("outer source", "outer destination", "VNI", "inner source")}
    for frame, at in zip(changed.values(), (29, 33, 48, 50 + 29), strict=True):
        frame[at] ^= 0x40
    hashes = [hash_of(base), hash_of(alone), *(hash_of(bytes(frame)) for frame in changed.values())]
    assert len(set(hashes)) == len(hashes)
    moved = bytearray(base)
    moved[34] ^= 1  # the outer source port is the tunnel's own choice
    assert hash_of(bytes(moved)) == hashes[0] == hash_of(base)


@pytest.mark.parametrize(("kind", "headers"), [("vxlan", 42 + 8 + 14 + 40), ("gtpu", 42 + 8 + 40)])
def test_each_segment_repeats_the_headers_of_the_tunnel_and_of_what_is_in_it(
    opening: Program, kind: str, headers: int
) -> None:
    frame = next(case.frame for case in OPENED if case.name == f"{kind}: IPv4 over IPv4")
    payload = 2_500
    frame += b"x" * (payload + headers - len(frame))
    (event,) = opening.run(frame, gso_size=1_000, gso_segs=3, wire_len=len(frame)).events
    assert (event["packets"], event["bytes"]) == (3, payload + 3 * headers)
    assert event["segment_bytes"] == 1_000 + headers


@st.composite
def tunnels(draw: st.DrawFn) -> tuple[Packet, bytes, dict[str, int]]:
    """What carries a packet (up to it), the packet as an Ethernet frame, and what the event says of the tunnel."""
    six, outer_six = draw(st.booleans()), draw(st.booleans())
    inner = bytes(draw(ipv6() if six else ipv4()))
    ethertype = 0x86DD if six else 0x800
    tags = b"".join(b"\x81\0" + draw(st.integers(0, 4095)).to_bytes(2, "big") for _ in range(draw(st.integers(0, 2))))
    bridged = bytes(12) + tags + ethertype.to_bytes(2, "big") + inner
    number = draw(st.integers(0, 2**24 - 1))
    outer: Packet = ETHER / (IPv6(src="fd00::1", dst="fd00::2") if outer_six else IP(src="10.1.1.1", dst="10.1.1.2"))
    if outer_six and draw(st.booleans()):
        outer /= IPv6ExtHdrDestOpt()
    words = draw(st.integers(0, 63))
    geneve = bytes([words, 0, 0x65, 0x58]) + (number << 8).to_bytes(4, "big") + bytes(4 * words)
    gtpu = b"\x30\xff" + len(inner).to_bytes(2, "big") + number.to_bytes(4, "big")
    udp = {name: UDP(sport=draw(st.integers(0, 65_535)), dport=port) for name, port in PORTS.items()}
    kind = draw(st.sampled_from(ALL))
    carried: dict[str, Packet] = {
        "vxlan": udp["vxlan"] / VXLAN(vni=number) / Raw(bridged),
        "geneve": udp["geneve"] / Raw(geneve + bridged),
        "gre": GRE(
            proto=ethertype,
            key_present=1,
            key=number,
            seqnum_present=draw(st.integers(0, 1)),
            chksum_present=draw(st.integers(0, 1)),
        )
        / Raw(inner),
        "ipip": Raw(inner),
        "gtpu": udp["gtpu"] / Raw(gtpu + inner),
    }
    protocol = {"gre": 47, "ipip": 41 if six else 4}.get(kind, 17)
    last = outer.lastlayer()
    setattr(last, "proto" if isinstance(last, IP) else "nh", protocol)
    told = {"tunnel_type": ALL.index(kind) + 1, "tunnel_id": 0 if kind == "ipip" else number}
    return outer / carried[kind], bytes(12) + ethertype.to_bytes(2, "big") + inner, told


PORTS = {"vxlan": 4789, "geneve": 6081, "gtpu": 2152}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tunnels())
def test_any_packet_in_any_tunnel_is_read_as_scapy_reads_it_without(
    opening: Program, drawn: tuple[Packet, bytes, dict[str, int]]
) -> None:
    carrier, inside, told = drawn
    octets = bytes(carrier)
    (event,) = opening.run(octets).events
    wanted = read(inside) | {"bytes": len(octets)} | told
    assert {name: shown(event)[name] for name in wanted} == wanted


def test_a_vxlan_device_of_linux_is_opened(bpffs: Path, tmp_path: Path) -> None:
    """Frames that a real device encapsulates, on the interface that carries them."""
    directory = pins.node_directory(bpffs, "kernel-test-vxlan")
    with veth.pair() as (a, b):
        device = f"{a}x"
        veth.ip("addr", "add", "192.168.77.1/24", "dev", a)
        veth.ip("neigh", "add", "192.168.77.2", "lladdr", "02:00:00:00:00:77", "dev", a)
        veth.ip(
            "link", "add", device, "type", "vxlan", "id", "4242", "remote", "192.168.77.2", "dstport", "4789", "dev", a
        )
        try:
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
            veth.ip("link", "set", device, "arp", "off", "up")
            program = Program(directory, tmp_path / "k.log", interfaces=(a, b), decapsulate=("vxlan",))
            octets = bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(40)))
            veth.send(device, octets)
            events = events_of(program, 2)
        finally:
            veth.ip("link", "del", device)
            child.run("detach", {"node": pins.node_of(directory)}, log=tmp_path / "detach.log")
        program.close()
        pins.remove(directory)
    assert sorted(int(event["direction"]) for event in events) == [0, 1]
    for event in events:
        found = shown(event)
        assert (found["src_port"], found["dst_port"], found["protocol"]) == (1111, 53, 17)
        assert (found["tunnel_type"], found["tunnel_id"]) == (1, 4242)
        assert (found["outer_src"], found["outer_dst"]) == (octets_of("192.168.77.1"), octets_of("192.168.77.2"))
        assert found["bytes"] == len(octets) + 14 + 20 + 8 + 8
