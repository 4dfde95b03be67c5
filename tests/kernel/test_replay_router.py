"""Captures of a router's interfaces: each passage is there, and each packet counts once."""

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from common.stopping import Stop
from producer.replay.feed import Block, Feed
from producer.replay.run import Pace, Replay
from tests.consumers.router import router
from tests.kernel.fix_replay import Replayed, Replayer, replay
from tests.lacking import cannot_run
from tests.unit.producer.replay.captures import Frame, Sll2, frames_of, interface, packet, pcap, section, sll2
from tests.waiting import HANG_SECONDS, until

__all__ = ["replay"]

BEGIN_NS = 1_700_000_000_000_000_000
MS = 1_000_000
PORT = 45_678
SLL2, SLL = 276, 113
SENT = 4  # packet type of what a host sent
Passed = dict[tuple[str, str, int], int]
"""Packets by interface, direction and `primary`; both directions of a flow as they passed."""


def datagram(number: int, ttl: int = 64) -> bytes:
    return bytes(IP(src="10.0.0.1", dst="192.0.2.1", id=number, ttl=ttl) / UDP(sport=5, dport=6) / b"x")


def passed(found: Replayed) -> Passed:
    sums: Counter[tuple[str, str, int]] = Counter()
    for flow in found.flows:
        other = {"ingress": "egress", "egress": "ingress"}[flow["direction"]]
        sums[flow["interface"], flow["direction"], flow["primary"]] += flow["packets"]
        sums[flow["interface"], other, flow["primary"]] += flow["packets_rev"]
    return {key: count for key, count in sums.items() if count}


def forwarded(count: int) -> list[Frame]:
    """Datagrams that came by interface 2 and left by interface 3, as `tcpdump -i any` has them."""
    frames = []
    for number in range(count):
        for kind, index in ((0, 2), (SENT, 3)):
            octets = sll2(Sll2(protocol=0x0800, ifindex=index, kind=kind), datagram(number, 64 - index))
            frames.append(Frame(octets=octets, wire=len(octets), time_ns=BEGIN_NS + number * MS + index))
    return frames


def test_a_capture_of_any_counts_what_is_forwarded_once(replay: Replayer, tmp_path: Path) -> None:
    path = tmp_path / "any.pcap"
    path.write_bytes(pcap(forwarded(1000), unit=1, link=SLL2))
    found = replay(path)
    assert passed(found) == {("any-if2", "ingress", 1): 1000, ("any-if3", "egress", 0): 1000}
    # what the capturing host put in front does not count, the Ethernet header that it took away does
    assert {flow["bytes"] for flow in found.flows} == {1000 * (len(datagram(0)) + 14)}
    assert found.totals.counted["emitted_packets"] == found.totals.frames == 2000


def test_files_of_one_rotated_capture_go_on(replay: Replayer, tmp_path: Path) -> None:
    """A packet comes in one file and leaves in the next: they are those of one host where they have one name."""
    frames = forwarded(1)
    paths = [tmp_path / f"any{number}.pcap" for number in range(2)]
    for path, frame in zip(paths, frames, strict=True):
        path.write_bytes(pcap([frame], unit=1, link=SLL2))
    assert passed(replay(*paths, interface="r")) == {("r-if2", "ingress", 1): 1, ("r-if3", "egress", 0): 1}
    assert passed(replay(*paths)) == {("any0-if2", "ingress", 1): 1, ("any1-if3", "egress", 1): 1}


def test_the_first_version_of_cooked_captures_has_one_interface(replay: Replayer, tmp_path: Path) -> None:
    """Without an index; what came and what left is told apart."""
    frames = []
    for number in range(10):
        for kind in (0, SENT):
            octets = kind.to_bytes(2) + b"\0\1\0\6" + bytes(8) + b"\x08\0" + datagram(number, 64 - kind)
            frames.append(Frame(octets=octets, wire=len(octets), time_ns=BEGIN_NS + number * MS + kind))
    path = tmp_path / "any.pcap"
    path.write_bytes(pcap(frames, unit=1, link=SLL))
    assert passed(replay(path)) == {("any", "ingress", 1): 10, ("any", "egress", 0): 10}


def test_interfaces_of_pcapng_count_once_where_directions_are_known(replay: Replayer, tmp_path: Path) -> None:
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800)
    for flags, primary in (((1, 2), {"eth0": 1, "eth1": 0}), ((0, 0), {"eth0": 1, "eth1": 1})):
        path = tmp_path / "router.pcapng"
        octets = [bytes(ether) + datagram(1, ttl) for ttl in (64, 63)]
        path.write_bytes(
            section()
            + interface(name="eth0")
            + interface(name="eth1")
            + b"".join(packet(each, 60, i, number=i, flags=flags[i]) for i, each in enumerate(octets))
        )
        assert {flow["interface"]: flow["primary"] for flow in replay(path).flows} == primary


def test_the_ledger_has_both_passages(replay: Replayer, tmp_path: Path) -> None:
    path = tmp_path / "any.pcap"
    path.write_bytes(pcap(forwarded(100), unit=1, link=SLL2))
    blocks: list[Block] = []

    class Sink:
        def take(self, block: Block) -> None:
            blocks.append(block)

        def idle(self, seconds: float, clock_ns: int) -> None:
            raise AssertionError

    feed = Feed(replay.program, node="test", ring_id=1)
    with closing(Stop()) as stop:
        Replay(feed=feed, sink=Sink(), pace=Pace(None), tell=lambda _: None, stop=stop).run([str(path)])
    counters = [each for block in blocks for each in block.counters]
    assert {(c.interface, c.direction, c.primary, c.seen_packets, c.emitted_packets) for c in counters} == {
        ("any-if2", 0, True, 100, 100),
        ("any-if3", 1, False, 100, 100),
    }


@contextmanager
def capturing(path: Path, *words: str) -> Iterator[None]:
    """Wireshark's dumpcap on all interfaces of our network namespace."""
    if shutil.which("dumpcap") is None:
        cannot_run("dumpcap is not installed; run make setup-test")
    command = ["dumpcap", "-i", "any", "-w", str(path), "-q", "-f", f"udp port {PORT}", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            assert any(line.startswith("File:") for line in running.stderr)  # it has begun
            yield
            running.send_signal(signal.SIGINT)
            assert running.wait(HANG_SECONDS) == 0
        finally:
            running.kill()


@pytest.mark.parametrize("kind", ["LINUX_SLL2", "LINUX_SLL"])
def test_a_real_router_counts_what_its_hosts_sent(replay: Replayer, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "any.pcapng"
    with router() as between, capturing(path, "-y", kind):
        with between.exchange(PORT) as sent:
            until(lambda: len(frames_of(path)[0]) >= 50)
        once = 2 * sent[0]
        until(lambda: len(frames_of(path)[0]) >= 2 * once)
        indexes = [Path(f"/sys/class/net/{end}/ifindex").read_text().strip() for end in between.ends]
    found = passed(replay(path))
    names = [f"any-if{index}" for index in indexes] if kind == "LINUX_SLL2" else ["any", "any"]
    expected: Counter[tuple[str, str, int]] = Counter()
    for name in names:
        expected[name, "ingress", 1] += sent[0]
        expected[name, "egress", 0] += sent[0]
    assert sent[0] > 0
    assert found == expected
