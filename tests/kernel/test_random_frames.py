"""The kernel program over random header stacks, with scapy as a reader of its own, and over damaged frames."""

import errno
import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from producer.kernel.abi import NO_ICMP_TYPE
from tests.kernel.frames import ETHER, EVENTS, MALFORMED, NON_IP
from tests.kernel.harness import UNSPEC, Program, shown

pytestmark = pytest.mark.root

FUZZ_SECONDS = 4.0
IPV6_BYTES = 54
LONGEST = 3_600  # octets that TEST_RUN takes
EXTENSIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, IPv6ExtHdrFragment, AH)

NUMBERS: dict[type[Packet], int] = {
    TCP: 6,
    UDP: 17,
    SCTP: 132,
    ICMPv6EchoRequest: 58,
    ICMPv6EchoReply: 58,
    IPv6ExtHdrHopByHop: 0,
    IPv6ExtHdrDestOpt: 60,
    IPv6ExtHdrRouting: 43,
    IPv6ExtHdrFragment: 44,
    AH: 51,
}
KINDS = {number: kind for kind, number in NUMBERS.items() if number != 58}

ports = st.integers(0, 65_535)
octet = st.integers(0, 255)
payloads = st.binary(max_size=60).map(Raw)
v4 = st.builds("{}.{}.{}.{}".format, octet, octet, octet, octet)
v6 = st.builds("2001:db8::{:x}:{:x}".format, ports, ports)

transports = st.one_of(
    st.builds(
        TCP,
        sport=ports,
        dport=ports,
        flags=st.integers(0, 0x1FF),
        options=st.lists(st.just(("NOP", None)), max_size=12),
    ),
    st.builds(UDP, sport=ports, dport=ports),
    st.builds(SCTP, sport=ports, dport=ports),
)
extensions = st.one_of(
    st.builds(IPv6ExtHdrHopByHop),
    st.builds(IPv6ExtHdrDestOpt),
    st.builds(IPv6ExtHdrRouting, addresses=st.lists(v6, max_size=3)),
    st.builds(AH, icv=st.integers(1, 4).map(lambda words: bytes(4 * words))),
    st.builds(IPv6ExtHdrFragment, offset=st.sampled_from([0, 0, 1, 185]), m=st.integers(0, 1)),
)


@st.composite
def ipv4(draw: st.DrawFn) -> Packet:
    words = draw(st.integers(0, 10))
    header = IP(
        src=draw(v4),
        dst=draw(v4),
        ttl=draw(octet),
        tos=draw(octet),
        flags=draw(st.sampled_from(["", "DF", "MF"])),
        frag=draw(st.sampled_from([0, 0, 0, 1, 185])),
        options=[IPOption(b"\1" * 4 * words)] if words else [],
    )
    return header / draw(st.one_of(transports, st.builds(ICMP, type=octet, code=octet)))


@st.composite
def ipv6(draw: st.DrawFn) -> Packet:
    packet = IPv6(src=draw(v6), dst=draw(v6), hlim=draw(octet), tc=draw(octet), fl=draw(st.integers(0, 2**20 - 1)))
    upper = draw(st.one_of(transports, st.builds(ICMPv6EchoRequest), st.builds(ICMPv6EchoReply)))
    headers = [*draw(st.lists(extensions, max_size=5)), upper]
    for header, following in itertools.pairwise(headers):
        if isinstance(header, AH):  # scapy does not fill these in
            header.payloadlen = (12 + len(header.icv)) // 4 - 2
            header.nh = NUMBERS[type(following)]
        packet /= header
    return packet / upper


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    six = draw(st.booleans())
    inner = draw(ipv6() if six else ipv4()) / draw(payloads)
    frame: Any = ETHER
    for _ in range(draw(st.integers(0, 3))):
        frame /= draw(st.sampled_from([Dot1Q, Dot1AD]))(vlan=draw(st.integers(0, 4095)), prio=draw(st.integers(0, 7)))
    shim = draw(st.sampled_from(["", "", "", "mpls", "pppoe"]))
    if shim == "mpls":
        labels = draw(st.integers(1, 4))
        for i in range(labels):
            frame /= MPLS(label=draw(st.integers(16, 2**20 - 1)), s=int(i == labels - 1))
    elif shim == "pppoe":
        frame /= PPPoE(sessionid=3) / PPP(proto=0x57 if six else 0x21)
    return bytes(frame / inner)


def read(octets: bytes) -> dict[str, int | str]:
    """The same fields, as scapy takes the frame apart."""
    packet = Ether(octets)
    tag = next((layer for layer in _layers(packet) if isinstance(layer, Dot1Q | Dot1AD)), None)
    ip = next(layer for layer in _layers(packet) if isinstance(layer, IP | IPv6))
    found = {"vlan_id": tag.vlan if tag else 0, "src_port": 0, "dst_port": 0, "tcp_flags": 0, "bytes": len(octets)}
    if isinstance(ip, IP):
        found |= {"protocol": ip.proto, "ttl": ip.ttl, "tos": ip.tos}
        upper, whole = ip.payload, ip.frag == 0
    else:
        upper, protocol, whole = ip.payload, ip.nh, True
        while whole and isinstance(upper, EXTENSIONS):
            whole = not (isinstance(upper, IPv6ExtHdrFragment) and upper.offset)
            protocol, upper = upper.nh, upper.payload
            kind = KINDS.get(protocol)
            if kind and not isinstance(upper, kind):  # scapy is not at home behind AH
                upper = kind(upper.original)
            if protocol == 58 and whole and not isinstance(upper, ICMPv6EchoRequest | ICMPv6EchoReply):
                upper = ICMPv6EchoRequest(upper.original)
        found |= {"protocol": protocol, "ttl": ip.hlim, "tos": ip.tc}
    if whole and isinstance(upper, TCP | UDP | SCTP):
        found |= {"src_port": upper.sport, "dst_port": upper.dport}
        found["tcp_flags"] = int(upper.flags) if isinstance(upper, TCP) else 0
    elif whole and isinstance(upper, ICMP | ICMPv6EchoRequest | ICMPv6EchoReply):
        found |= {"src_port": upper.type, "dst_port": upper.code}
    elif found["protocol"] in {1, 58}:
        found["src_port"] = NO_ICMP_TYPE
    return found


def _layers(packet: Packet) -> list[Packet]:
    found = []
    while packet:
        found.append(packet)
        packet = packet.payload
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
def test_any_stack_of_headers_is_read_as_scapy_reads_it(program: Program, frame: bytes) -> None:
    outcome = program.run(frame)
    assert outcome.returned == UNSPEC
    (event,) = outcome.events
    wanted = read(frame)
    assert {name: shown(event)[name] for name in wanted} == wanted


def _damaged(rng: random.Random, frame: bytes) -> bytes:
    octets = bytearray(frame)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(12, min(len(octets), 90))  # behind the addresses, in the headers
        octets[at] = rng.choice([0, 255, rng.randrange(256), octets[at] ^ 1 << rng.randrange(8)])
    if rng.random() < 0.4:
        del octets[rng.randrange(14, len(octets)) :]
    elif rng.random() < 0.2:
        octets += rng.randbytes(rng.randrange(2_000))
    return bytes(octets[:LONGEST].ljust(34, b"\0"))  # TEST_RUN takes no shorter ones


def test_damaged_frames_are_each_counted_once_and_never_more(program: Program) -> None:
    seed = random.randrange(2**32)
    rng, deadline, tried = random.Random(seed), time.monotonic() + FUZZ_SECONDS, 0
    originals = [*(case.frame for case in EVENTS), *NON_IP.values(), *MALFORMED.values()]
    reached: set[str] = set()
    while time.monotonic() < deadline or tried < 1_000:
        frame = _damaged(rng, rng.choice(originals))
        size = rng.choice([0, 0, 0, 1, 500, 1448])
        context = {"gso_size": size, "gso_segs": rng.choice([0, 1, 3, 65_535]), "wire_len": len(frame)} if size else {}
        try:
            outcome = program.run(frame, rng.choice(["ingress", "egress"]), **context)
        except OSError as error:
            if error.errno != errno.EINVAL or len(frame) >= IPV6_BYTES:
                raise
            continue  # the kernel runs no program over an IPv6 frame without the whole header
        tried += 1
        said = f"seed {seed}, frame {tried}: {frame.hex()} {context} {outcome.counted}"
        assert outcome.returned == UNSPEC, said
        kinds = {name.rpartition("_")[0] for name in outcome.counted} - {"seen"}
        assert len(kinds) == 1, said
        reached |= kinds
        (kind,) = kinds
        for unit in ("packets", "bytes"):
            assert outcome.counted[f"seen_{unit}"] == outcome.counted[f"{kind}_{unit}"], said
        assert len(outcome.events) == (kind == "emitted"), said
        if not context:
            assert (outcome.counted["seen_packets"], outcome.counted["seen_bytes"]) == (1, len(frame)), said
        for event in outcome.events:
            assert (event["packets"], event["bytes"]) == (
                outcome.counted["seen_packets"],
                outcome.counted["seen_bytes"],
            ), said
    assert reached == {"emitted", "non_ip", "malformed"}
