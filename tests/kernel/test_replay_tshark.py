"""Replay and tshark read the same captures: keys, packets, bytes, flags and times, by flow."""

import gzip
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from producer.replay.program import ReplayProgram
from tests.kernel.fix_replay import Replayer, directed, replay
from tests.kernel.harness import LOADER
from tests.kernel.tshark import Compared, Ours, flows, tshark
from tests.kernel.tunnel_frames import OPENED
from tests.kernel.tunnel_headers import ALL
from tests.lacking import cannot_run
from tests.unit.producer.replay.captures import Frame, pcap

__all__ = ["replay"]


@pytest.fixture(autouse=True, scope="module")
def _tshark() -> None:
    if shutil.which("tshark") is None:
        cannot_run("tshark is not installed; run make setup-test")


SECOND = 1_000_000_000
BEGIN_NS = 1_700_000_000 * SECOND
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def run(*words: object) -> str:
    """One of Wireshark's tools."""
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=60).stdout


def random_frame(rng: random.Random) -> Packet:
    """Link layers, a network layer with what may stand between, an upper layer."""
    four = IP(
        src=f"10.0.0.{rng.randrange(20)}",
        dst=f"192.0.2.{rng.randrange(5)}",
        id=rng.randrange(1, 65536),
        options=rng.choice([[], [], IPOption_RR()]),
    )
    six = IPv6(src=f"2001:db8::{rng.randrange(1, 20):x}", dst=f"2001:db8:1::{rng.randrange(1, 5):x}")
    between = rng.choice(
        [
            None,
            None,
            IPv6ExtHdrHopByHop(),
            IPv6ExtHdrDestOpt(),
            IPv6ExtHdrRouting(addresses=["::1"]),
            IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
            IPv6ExtHdrFragment(id=rng.randrange(2**32)),
        ]
    )
    sport, dport = rng.randrange(30_000, 30_010), rng.randrange(30_020, 30_025)
    upper = rng.choice(
        [
            TCP(sport=sport, dport=dport, flags=rng.randrange(512)),
            UDP(sport=sport, dport=dport),
            SCTP(sport=sport, dport=dport),
        ]
    )
    payload = Raw(bytes(rng.randrange(64, 600)))
    network: Packet = rng.choice(
        [
            four / upper / payload,
            six / (between / upper / payload if between else upper / payload),
            six / IPv6ExtHdrFragment(id=7, offset=100, nh=rng.choice([6, 17, 58])) / payload,
            four / ICMP() / payload,
            IP(src=four.src, dst=four.dst, id=7, flags="MF") / upper / payload,
            IP(src=four.src, dst=four.dst, id=7, frag=100, proto=rng.choice([1, 6, 17])) / payload,
            four / GRE() / IP(src="172.16.0.1", dst="172.16.0.2") / UDP(sport=1, dport=2),
            four / IP(src="172.16.0.1", dst="172.16.0.2") / TCP(sport=1, dport=2),
        ]
    )
    is_four = IP in network and network.firstlayer().name == "IP"
    shims: list[Packet | None] = [
        None,
        None,
        Dot1Q(vlan=rng.randrange(1, 9)),
        Dot1AD(vlan=5) / Dot1Q(vlan=rng.randrange(1, 9)),
        MPLS(label=77, s=1),
        PPPoE(sessionid=3) / PPP(proto=0x21 if is_four else 0x57),
    ]
    shim = rng.choice(shims)
    return ETHER / shim / network if shim else ETHER / network


def random_capture(seed: int, *, count: int = 700) -> list[Frame]:
    rng = random.Random(seed)
    frames = []
    for _ in range(count):
        octets = bytes(random_frame(rng))
        frames.append(Frame(octets=octets, wire=len(octets), time_ns=BEGIN_NS + rng.randrange(40 * SECOND)))
    other = bytes(ETHER / ARP(hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))
    return [*frames, Frame(octets=other, wire=len(other), time_ns=BEGIN_NS)]


@pytest.fixture(scope="module")
def ours(root_and_bcc: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    with ReplayProgram(tmp_path_factory.mktemp("tshark") / "kernel.log", loader=LOADER) as program:
        yield Ours(program)


@pytest.fixture(scope="module")
def opening(root_and_bcc: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    with ReplayProgram(tmp_path_factory.mktemp("tunnels") / "kernel.log", ALL, loader=LOADER) as program:
        yield Ours(program, opens=True)


@pytest.mark.parametrize("loader", [LOADER], indirect=True, scope="session")  # test_replay has both
@pytest.mark.parametrize("seed", range(3))
def test_each_flow_is_as_tshark_has_it(replay: Replayer, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(random_capture(seed), unit=1))
    wanted = flows(tshark(path))
    found = replay(path, window_seconds=3600)
    assert found.totals.counted["non_ip_packets"] == 1
    # a FlowRecord has ICMP's type and code in fields of their own; that of these captures all goes one way
    records = [
        flow | {"src_port": flow["icmp_type"] & 0xFFFF, "dst_port": flow["icmp_code"]}
        if flow["protocol"] in {1, 58}
        else flow
        for flow in found.flows
    ]
    assert directed(records) == {key: values[:3] for key, values in wanted.items()}
    seen = {}
    for flow in records:
        ends = (flow["src_addr"], flow["src_port"]), (flow["dst_addr"], flow["dst_port"])
        one, other_end = ends if flow["packets"] else ends[::-1]
        seen[flow["protocol"], *one, *other_end, flow["vlan_id"]] = [
            int(flow[name].replace(tzinfo=UTC).timestamp() * 1_000_000 + 0.5) for name in ("first_seen", "last_seen")
        ]
    assert seen == {key: [values[3] // 1000, values[4] // 1000] for key, values in wanted.items()}


def check(ours: Ours, path: Path) -> Compared:
    """Every frame is as tshark has it."""
    found = Compared()
    found.add(path, ours)
    assert not found.differences
    assert found.flows
    return found


@pytest.mark.parametrize("snaplen", [96, 64, 54, 50, 42])
def test_frames_cut_short_are_as_tshark_has_them(ours: Ours, tmp_path: Path, snaplen: int) -> None:
    whole, cut = tmp_path / "whole.pcap", tmp_path / "cut.pcap"
    uppers: list[Packet] = [UDP(sport=1, dport=2), ICMP(type=3, code=1)]
    if snaplen >= 54:  # of a TCP or SCTP header that is cut off tshark says less than is there: docs/tshark.md
        uppers += [TCP(sport=1, dport=2, flags="SA"), SCTP(sport=3, dport=4)]
    packets = [ETHER / IP(src="10.0.0.1", dst=f"10.0.1.{i}") / upper for upper in uppers for i in range(20)]
    frames = [bytes(packet / Raw(bytes(200))) for packet in packets]
    whole.write_bytes(pcap([Frame(octets=each, wire=len(each), time_ns=BEGIN_NS + i) for i, each in enumerate(frames)]))
    run("editcap", "-s", snaplen, whole, cut)
    assert check(ours, cut).counted["emitted_packets"] == len(frames)


def test_frames_of_which_more_was_captured_than_they_had_on_the_wire_are_as_tshark_has_them(
    ours: Ours, tmp_path: Path
) -> None:
    octets = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.1.1") / TCP(sport=1, dport=2, flags="SA") / Raw(bytes(252)))
    path = tmp_path / "a.pcap"
    frames = [Frame(octets=octets, wire=wire, time_ns=BEGIN_NS) for wire in (51, 36, 14, 10, 0, len(octets))]
    path.write_bytes(pcap(frames, unit=1))
    assert check(ours, path).counted["emitted_packets"] == len(frames)


def test_other_forms_of_a_capture_are_as_tshark_has_them(ours: Ours, tmp_path: Path) -> None:
    first, second, raw = (tmp_path / name for name in ("first.pcap", "second.pcap", "raw.pcap"))
    first.write_bytes(pcap(random_capture(11, count=100), unit=1000))
    second.write_bytes(pcap(random_capture(12, count=100), order=">", unit=1))
    dump = tmp_path / "dump.txt"
    dump.write_text(run("tshark", "-r", first, "-x"))
    run("text2pcap", "-4", "10.0.0.1,10.0.0.2", "-u", "1000,2000", "-l", "101", dump, raw)
    merged, compressed = tmp_path / "merged.pcapng", tmp_path / "first.pcap.gz"
    run("mergecap", "-a", "-w", merged, first, second, raw)  # an interface each, with its link type
    compressed.write_bytes(gzip.compress(first.read_bytes()))
    counts = [check(ours, path).counted["seen_packets"] for path in (first, second, raw, merged, compressed)]
    assert counts[3] == sum(counts[:3])
    for form in ("nseclibpcap", "pcapng"):
        run("editcap", "-F", form, first, tmp_path / form)
        assert check(ours, tmp_path / form).counted["seen_packets"] == counts[0]


def test_what_is_in_a_tunnel_is_as_tshark_has_it(opening: Ours, tmp_path: Path) -> None:
    cases = [case for case in OPENED if case.name not in READ_OTHERWISE]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([Frame(octets=c.frame, wire=len(c.frame), time_ns=BEGIN_NS) for c in cases], unit=1))
    mine, *_ = opening.read(path)
    theirs = tshark(path, opens=True)
    wrong = [(c.name, mine.get(i), theirs.get(i)) for i, c in enumerate(cases) if mine.get(i) != theirs.get(i)]
    assert not wrong
    assert [seen.tunnel[0] for seen in mine.values()] == [case.kind for case in cases]


READ_OTHERWISE = {
    "Linux's old VXLAN port",  # another protocol's to tshark
    "inner ICMP cut behind its code",  # tshark says nothing of an ICMP header that is cut off
}
