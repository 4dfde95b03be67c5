"""Replay and tshark read the same captures: keys, packets, bytes, flags and times, by flow."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from tests.kernel.fix_replay import Replayer, directed, replay
from tests.unit.replay.captures import Frame, pcap

__all__ = ["replay"]

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed; run make setup-test")

SECOND = 1_000_000_000
BEGIN_NS = 1_700_000_000 * SECOND
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
_FIELDS = (
    "frame.time_epoch", "frame.len", "ieee8021ad.id", "vlan.id", "ip.src", "ip.dst", "ip.proto", "ipv6.src", "ipv6.dst",
    "tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport", "udp.dstport", "sctp.srcport", "sctp.dstport",
    "frame.protocols",
)  # fmt: skip

Seen = tuple[tuple[object, ...], int, int, int]
"""Key, bytes, TCP flags, time in microseconds."""


def tshark(path: Path) -> Iterator[Seen]:
    """What tshark reads of each frame's outermost IP header; without reassembly, or fragments would be whole."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"]
    command += ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
    for field in _FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    for line in done.stdout.splitlines():
        row = dict(zip(_FIELDS, line.split("\t"), strict=True))
        source, target = row["ip.src"] or row["ipv6.src"], row["ip.dst"] or row["ipv6.dst"]
        if not source:
            continue
        protocols = row["frame.protocols"].split(":")
        upper = next((name for name in ("tcp", "udp", "sctp") if _follows_ip(protocols, name)), "")
        number = {"tcp": 6, "udp": 17, "sctp": 132}.get(upper) or int(row["ip.proto"] or -1)
        ports = (int(row[f"{upper}.srcport"] or 0), int(row[f"{upper}.dstport"] or 0)) if upper else (0, 0)
        flags = int(row["tcp.flags"] or "0", 16) & 0x1FF if upper == "tcp" else 0
        seconds, _, fraction = row["frame.time_epoch"].partition(".")
        time_us = int(seconds) * 1_000_000 + int(fraction[:6].ljust(6, "0"))
        key = (number, source, ports[0], target, ports[1], int(row["ieee8021ad.id"] or row["vlan.id"] or 0))
        yield key, int(row["frame.len"]), flags, time_us


def _follows_ip(protocols: list[str], name: str) -> bool:
    """Whether `name` is the upper layer of the outermost IP header, and not of one in a tunnel."""
    at = next(i for i, each in enumerate(protocols) if each in {"ip", "ipv6"})
    for each in protocols[at + 1 :]:
        if each == name:
            return True
        if not each.startswith("ipv6."):
            return False
    return False


def random_frame(rng: random.Random) -> Packet:
    """Link layers, a network layer with what may stand between, an upper layer."""
    four = IP(
        src=f"10.0.0.{rng.randrange(20)}", dst=f"192.0.2.{rng.randrange(5)}", id=rng.randrange(1, 65536),
        options=rng.choice([[], [], IPOption_RR()]),
    )  # fmt: skip
    six = IPv6(src=f"2001:db8::{rng.randrange(1, 20):x}", dst=f"2001:db8:1::{rng.randrange(1, 5):x}")
    between = rng.choice([
        None, None, IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(addresses=["::1"]),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=rng.randrange(2**32)),
    ])  # fmt: skip
    sport, dport = rng.randrange(30_000, 30_010), rng.randrange(30_020, 30_025)
    upper = rng.choice([
        TCP(sport=sport, dport=dport, flags=rng.randrange(512)), UDP(sport=sport, dport=dport),
        SCTP(sport=sport, dport=dport),
    ])  # fmt: skip
    payload = Raw(bytes(rng.randrange(64, 600)))
    network: Packet = rng.choice([
        four / upper / payload,
        six / (between / upper / payload if between else upper / payload),
        four / ICMP() / payload,
        IP(src=four.src, dst=four.dst, id=7, flags="MF") / upper / payload,
        IP(src=four.src, dst=four.dst, id=7, frag=100, proto=rng.choice([6, 17])) / payload,
        four / GRE() / IP(src="172.16.0.1", dst="172.16.0.2") / UDP(sport=1, dport=2),
        four / IP(src="172.16.0.1", dst="172.16.0.2") / TCP(sport=1, dport=2),
    ])  # fmt: skip
    is_four = IP in network and network.firstlayer().name == "IP"
    shims: list[Packet | None] = [
        None, None, Dot1Q(vlan=rng.randrange(1, 9)), Dot1AD(vlan=5) / Dot1Q(vlan=rng.randrange(1, 9)),
        MPLS(label=77, s=1), PPPoE(sessionid=3) / PPP(proto=0x21 if is_four else 0x57),
    ]  # fmt: skip
    shim = rng.choice(shims)
    return ETHER / shim / network if shim else ETHER / network


@pytest.mark.parametrize("seed", range(3))
def test_each_flow_is_as_tshark_has_it(replay: Replayer, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    frames = []
    for _ in range(700):
        octets = bytes(random_frame(rng))
        time_ns = BEGIN_NS + rng.randrange(40 * SECOND)
        frames.append(Frame(octets=octets, wire=len(octets), time_ns=time_ns))
    other = bytes(ETHER / ARP(hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))
    frames.append(Frame(octets=other, wire=len(other), time_ns=BEGIN_NS))
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(frames, unit=1))

    sums: dict[tuple[object, ...], list[int]] = {}
    times: dict[tuple[object, ...], list[int]] = {}
    for key, size, flags, time_us in tshark(path):
        # tshark has no number for what is no TCP, UDP or SCTP over IPv6: none of these frames is
        into = sums.setdefault(key, [0, 0, 0])
        into[0] += 1
        into[1] += size
        into[2] |= flags
        times.setdefault(key, []).append(time_us)
    found = replay(path, window_seconds=3600)
    assert directed(found.flows) == sums
    assert found.totals.counted["non_ip_packets"] == 1

    seen = {}
    for flow in found.flows:
        ends = (flow["src_addr"], flow["src_port"]), (flow["dst_addr"], flow["dst_port"])
        one, other_end = ends if flow["packets"] else ends[::-1]
        seen[flow["protocol"], *one, *other_end, flow["vlan_id"]] = [
            int(flow[name].replace(tzinfo=UTC).timestamp() * 1_000_000 + 0.5) for name in ("first_seen", "last_seen")
        ]
    assert seen == {key: [min(each), max(each)] for key, each in times.items()}
