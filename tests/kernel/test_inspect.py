"""Which payload is copied, and that each packet that should be is copied or counted. By TEST_RUN."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from producer.kernel import bpfsys, pins
from tests.kernel.fix_inspect import COPY_PAGES, LONG, copies, counts, heads, inspecting, loaded, nothing_left, opening
from tests.kernel.frames import EVENTS, MALFORMED, NON_IP
from tests.kernel.harness import Program
from tests.kernel.name_frames import (
    CLIENT,
    EDNS,
    ETHER,
    ISN,
    SERVER,
    answer,
    four,
    hello,
    query,
    quic,
    six,
    syn,
    tcp,
    udp,
)
from tests.kernel.tunnel_headers import ALL

__all__ = ["inspecting", "nothing_left", "opening"]

pytestmark = pytest.mark.root

_QUARTER = 2**28 / 1e9  # seconds for which a budget is


MATCHING = {
    "a query to any port": ("DNS", query()),
    "one with EDNS": ("DNS", query(additional=EDNS)),
    "one about the root": ("DNS", query("")[:12] + b"\0\0\2\0\1"),
    "an answer": ("DNS", answer()),
    "an answer that there is no such name": ("DNS", answer(flags=0x8583)),
    "QUIC 1": ("QUIC", quic(1)),
    "QUIC 2": ("QUIC", quic(0x6B3343CF, first=0xD3)),
    "QUIC draft 29": ("QUIC", quic(0xFF00001D)),
    "QUIC draft 18, whose fifth octet is two lengths": ("QUIC", quic(0xFF000012, destination=0x50)),
    "QUIC of mvfst": ("QUIC", quic(0xFACEB002)),
    "QUIC of a version that is none": ("QUIC", quic(0x1A2A3A4A)),
    "QUIC of 1452 octets": ("QUIC", quic(1, octets=1452)),
}
ALIKE = {
    "two questions": query()[:4] + b"\0\2" + query()[6:],
    "an update (opcode 5)": query(flags=0x2800),
    "a query with an answer": query()[:6] + b"\0\1" + query()[8:],
    "a query with a response code": query(flags=0x0103),
    "a query with an authority": query()[:8] + b"\0\1\0\0" + query()[12:],
    "a label of 64 octets": query()[:12] + b"\x40" + query()[13:],
    "an answer of 65 records": answer()[:6] + b"\0\x41" + answer()[8:],
    "16 octets": query()[:16],
    "QUIC, a handshake packet": quic(1, first=0xE3),
    "QUIC 2, a 0-RTT packet": quic(0x6B3343CF, first=0xE3),
    "QUIC of 1199 octets": quic(1, octets=1199),
    "QUIC, a server's answer to a client without an identifier": quic(1, destination=0),
    "QUIC, an identifier of 21 octets": quic(1, destination=21),
    "QUIC, version negotiation": quic(0),
    "zeros": bytes(600),
    "ones": b"\xff" * 1400,
}


@pytest.mark.parametrize("name", MATCHING)
def test_a_datagram_is_known_by_what_it_begins_with(inspecting: Program, name: str) -> None:
    kind, payload = MATCHING[name]
    assert copies(inspecting, udp(payload)) == [(kind, payload)]
    assert copies(inspecting, six(UDP(sport=7, dport=9), payload), hook="egress") == [(kind, payload)]


@pytest.mark.parametrize("name", ALIKE)
def test_what_only_looks_alike_is_not_copied(inspecting: Program, name: str) -> None:
    before = counts(inspecting)
    assert copies(inspecting, udp(ALIKE[name])) == []
    assert counts(inspecting) == before


@pytest.mark.parametrize("port", [53, 5353, 5355])
def test_what_comes_from_or_goes_to_a_port_of_dns_is_copied_if_it_has_a_header(inspecting: Program, port: int) -> None:
    for frame in (udp(bytes(12), port), udp(bytes(12), 9999, port)):
        assert copies(inspecting, frame) == [("DNS", bytes(12))]
    assert copies(inspecting, udp(bytes(11), port)) == []


def test_netbios_is_no_dns(inspecting: Program) -> None:
    assert copies(inspecting, udp(query(), 137), udp(answer(), 137, 137)) == []


def test_dns_over_tcp_is_copied_segment_by_segment(inspecting: Program) -> None:
    message = len(query()).to_bytes(2, "big") + query()
    frames = [
        syn(dport=53),
        tcp(message[:2], dport=53),
        tcp(message[2:], 2, dport=53),
        tcp(b"", 40, dport=53, flags="A"),
    ]
    assert copies(inspecting, *frames) == [("TCP_DNS", message[:2]), ("TCP_DNS", message[2:])]
    assert copies(inspecting, tcp(message, sport=53)) == [("TCP_DNS", message)]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "PRI"])
def test_a_request_of_http_is_copied(inspecting: Program, method: str) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: example.org\r\n\r\n".encode()
    assert copies(inspecting, tcp(request)) == [("HTTP", request)]
    assert copies(inspecting, tcp(b"HTTP/1.1 200 OK\r\n\r\n"), tcp(request.lower()), udp(request)) == []


@pytest.mark.parametrize("octets", [9, 10, 100, 517, 1400])
def test_a_hello_is_copied_wherever_it_comes(inspecting: Program, octets: int) -> None:
    port = 20_000 + octets
    assert copies(inspecting, tcp(hello(octets), sport=port)) == [("TLS", hello(octets))]
    assert copies(inspecting, tcp(hello(octets), 5000, sport=port, dport=143)) == [("TLS", hello(octets))]
    ((head, _),) = heads(inspecting, four(TCP(sport=port, dport=443, flags="S", seq=77), hello(octets)))  # Fast Open
    assert head["seq"] == 78


def test_other_records_of_tls_are_not(inspecting: Program) -> None:
    server, data = b"\x16\x03\x03" + hello(100)[3:5] + b"\2" + bytes(90), b"\x17\x03\x03" + bytes(900)
    assert (
        copies(
            inspecting, tcp(server), tcp(data), tcp(b"\x16\x02\0" + hello(100)[3:]), tcp(b"\x16\x03\x05" + bytes(90))
        )
        == []
    )


def test_an_acknowledgement_padded_by_ethernet_has_no_payload(inspecting: Program) -> None:
    assert copies(inspecting, tcp(b"", flags="A") + b"\x16\x03\x01\0\0\1", tcp(b"", flags="A") + b"GET / ") == []
    assert copies(inspecting, tcp(b"GET /") + b"padding") == [("HTTP", b"GET /")]


@pytest.mark.parametrize("octets", [1, 127, 128, 129, 512, 513, 1536, 1537, 2047, 2048, 2049, 3400])
def test_so_much_is_copied_as_the_settings_say_and_no_more(inspecting: Program, octets: int) -> None:
    payload = (b"GET " + LONG * 3)[:octets]
    frame = tcp(payload, dport=53 if octets < 4 else 80)
    ((head, copied),) = heads(inspecting, frame)
    assert copied == payload[:2048]
    assert (head["payload_bytes"], head["copied"]) == (octets, min(octets, 2048))


def test_the_head_says_what_the_event_says(inspecting: Program) -> None:
    for frame, protocol, hook in ((udp(query(), 9), 17, "ingress"), (tcp(hello(99), 7), 6, "egress")):
        (event,) = inspecting.run(frame, hook).events
        ((head, _),) = inspecting.take_copies()
        for each in ("ktime_ns", "flow_hash", "src_port", "dst_port", "slot", "protocol", "direction", "epoch"):
            assert head[each] == event[each], each
        assert bytes(head["src"]) == bytes(event["src"])
        assert bytes(head["dst"]) == bytes(event["dst"])
        assert head["seq"] == ((ISN + 8) % 2**32 if protocol == 6 else 0)
        assert (head["flags"], head["fragment_offset"]) == (0, 0)


# -- headers


@pytest.mark.parametrize(
    "frame",
    [
        bytes(ETHER / Dot1Q(vlan=5) / IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=2) / query()),
        bytes(ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / IPv6() / UDP(sport=1, dport=2) / query()),
        bytes(ETHER / IP(src=CLIENT, dst=SERVER, options=[]) / UDP(sport=1, dport=2) / query()),
        bytes(ETHER / IP(bytes(IP(src=CLIENT, dst=SERVER, ihl=15) / (b"\1" * 40)) + b"") / b"")[:14]
        + bytes(IP(src=CLIENT, dst=SERVER, ihl=15, proto=17, len=60 + 8 + len(query())) / Raw(b"\1" * 40))
        + bytes(UDP(sport=1, dport=2, len=8 + len(query())))
        + query(),
        six(UDP(sport=1, dport=2), query(), IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(), IPv6ExtHdrDestOpt()),
        six(UDP(sport=1, dport=2), query(), IPv6ExtHdrFragment()),
    ],
    ids=["a tag", "two tags, IPv6", "IPv4", "40 octets of options", "extension headers", "an atomic fragment"],
)
def test_the_payload_is_found_behind_any_headers(inspecting: Program, frame: bytes) -> None:
    assert copies(inspecting, frame) == [("DNS", query())]


def test_options_of_tcp_are_no_payload(inspecting: Program) -> None:
    frame = four(TCP(sport=1, dport=2, flags="PA", options=[("Timestamp", (1, 2)), ("NOP", None)]), hello(600))
    assert copies(inspecting, frame) == [("TLS", hello(600))]


@pytest.mark.parametrize("octets", [42, 43, 53, 54, 57, 58])
def test_nothing_is_read_that_a_frame_does_not_hold(inspecting: Program, octets: int) -> None:
    assert copies(inspecting, udp(query())[:octets]) == ([] if octets < 58 else [("DNS", query()[:16])])


def test_what_is_no_packet_is_not_looked_at(inspecting: Program) -> None:
    before = counts(inspecting)
    for frame in (*NON_IP.values(), *MALFORMED.values()):
        inspecting.run(frame)
    assert counts(inspecting) == before


@pytest.mark.parametrize("case", EVENTS, ids=lambda case: case.name)
def test_events_are_what_they_are_without(inspecting: Program, program: Program, case: Any) -> None:
    (one,), (other,) = inspecting.run(case.frame).events, program.run(case.frame).events
    for each in one.dtype.names:
        assert each in {"ktime_ns", "flow_hash"} or (one[each] == other[each]).all(), each
    inspecting.take_copies()


@pytest.mark.parametrize("kind", ALL)
def test_a_query_in_each_kind_of_tunnel_is_copied(opening: Program, kind: str) -> None:
    inner = bytes(IP(src=CLIENT, dst=SERVER) / UDP(sport=7, dport=99) / query())
    outer = IP(src="10.1.1.1", dst="10.1.1.2")
    carried = {
        "vxlan": UDP(dport=4789) / Raw(b"\x08\0\0\0\0\0\x07\0" + bytes(12) + b"\x08\0"),
        "geneve": UDP(dport=6081) / Raw(b"\0\0\x65\x58\0\0\x07\0" + bytes(12) + b"\x08\0"),
        "gtpu": UDP(dport=2152) / Raw(b"\x30\xff" + len(inner).to_bytes(2, "big") + b"\0\0\0\7"),
    }
    if kind in carried:
        frame = bytes(ETHER / outer / carried[kind] / Raw(inner))
    elif kind == "gre":
        frame = bytes(ETHER / IP(src="10.1.1.1", dst="10.1.1.2", proto=47) / Raw(b"\0\0\x08\0" + inner))
    else:
        frame = bytes(ETHER / IP(src="10.1.1.1", dst="10.1.1.2", proto=4) / Raw(inner))
    assert copies(opening, frame) == [("DNS", query())]


# -- counted


def test_without_room_in_the_ring_of_copies_they_are_counted_and_events_go_on(inspecting: Program) -> None:
    before, size = counts(inspecting), 8 + 72 + 128
    frame, more = udp(query()), 50
    fits = COPY_PAGES * 4096 // size
    for _ in range(fits + more):
        bpfsys.prog_test_run(inspecting.fds["ingress"], frame)
    inspecting.take_events()
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert moved["inspected"] == fits + more == moved["copied"] + moved["skipped_ring_full"]
    assert 0 < moved["skipped_ring_full"] <= more + 1
    assert len(inspecting.take_copies()) == moved["copied"]
    assert copies(inspecting, frame) == [("DNS", query())]


def test_more_copies_than_the_budget_are_counted(inspecting: Program) -> None:
    inspecting.kernel.config.inspect(100)  # 26 in a quarter of a second or so
    before, frame, begin = counts(inspecting), udp(query()), time.monotonic()
    apart, behind = 0, begin  # runs that are surely of quarters of their own, also where we did not run for a while
    while (now := time.monotonic()) < begin + 1:
        bpfsys.prog_test_run(inspecting.fds["ingress"], frame, repeat=200)
        if now >= behind + _QUARTER:
            apart, behind = apart + 1, time.monotonic()
        inspecting.take_events()
    quarters = (time.monotonic() - begin) / _QUARTER
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert moved["inspected"] == moved["copied"] + moved["skipped_over_budget"]
    assert 26 * apart <= moved["copied"] <= 26 * (quarters + 2)
    assert len(inspecting.take_copies()) == moved["copied"]


def test_packets_that_are_added_up_by_flow_are_inspected_too(inspecting: Program) -> None:
    inspecting.kernel.config.coalesce(True)
    assert len(inspecting.run(udp(query())).events) == 0
    assert [octets for _, octets in inspecting.take_copies()] == [query()]
    keys, _ = inspecting.kernel.maps.flows(1)
    inspecting.kernel.maps.clear(1, keys)


def test_what_another_interface_counts_is_not_copied_twice(inspecting: Program) -> None:
    inspecting.set_interface(flags=4)  # ELSEWHERE, of ingress
    before = counts(inspecting)
    assert copies(inspecting, udp(query())) == []
    assert counts(inspecting) == before
    inspecting.set_interface(flags=0)
    assert copies(inspecting, udp(query())) == [("DNS", query())]


@pytest.mark.parametrize("octets", [128, 512, 1000])
def test_settings_may_ask_for_less(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, octets: int) -> None:
    for program in loaded(bpffs, tmp_path_factory, f"inspect-{octets}", inspect=octets):
        ((head, copied),) = heads(program, tcp(hello(1400)))
        assert (copied, head["payload_bytes"]) == (hello(1400)[:octets], 1400)


def test_the_verifier_is_far_from_giving_up(opening: Program) -> None:
    """With everything on: at a million instructions a kernel refuses the program."""
    for hook in pins.PROGRAMS:
        text = Path(f"/proc/self/fdinfo/{opening.fds[hook]}").read_text()
        (verified,) = [int(line.split()[1]) for line in text.splitlines() if line.startswith("verified_insns")]
        assert verified < 100_000


def test_copies_of_all_sizes_are_read_over_the_end_of_the_ring_and_of_its_parts(
    bpffs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dice = random.Random(3)
    for program in loaded(bpffs, tmp_path_factory, "inspect-ring", copy_pages=512):
        ring = program.kernel.copies
        assert ring is not None
        while ring.consumer_position() < 1.2 * ring.size:
            sent = [bytes([dice.randrange(256)]) * dice.randrange(12, 2049) for _ in range(dice.randrange(50, 250))]
            for payload in sent:
                bpfsys.prog_test_run(program.fds["ingress"], udp(payload, 53))
            program.take_events()
            assert [octets for _, octets in program.take_copies()] == sent
