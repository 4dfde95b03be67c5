"""Which payload is copied, and that each packet that should be is copied or counted. By TEST_RUN."""

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from producer.kernel import bpfsys, pins
from producer.kernel.abi import COPY_KINDS, MORE_FRAGMENTS
from tests.kernel.frames import EVENTS, MALFORMED, NON_IP
from tests.kernel.harness import LOADER, Program
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

pytestmark = pytest.mark.root

COPY_PAGES = 64
_QUARTER = 2**28 / 1e9  # seconds for which a budget is
INSPECTED = ("inspected", "copied", "skipped_ring_full", "skipped_over_budget", "skipped_table_full")


def _program(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, name: str, **how: Any) -> Iterator[Program]:
    directory = pins.node_directory(bpffs, f"kernel-test-{name}-{how.get('loader', LOADER)}")
    program = Program(directory, tmp_path_factory.mktemp(name) / "kernel.log", **{"copy_pages": COPY_PAGES, **how})
    yield program
    program.close()
    pins.remove(directory)


@pytest.fixture(scope="module")
def inspecting(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    yield from _program(bpffs, tmp_path_factory, "inspect", loader=loader)


@pytest.fixture(scope="module")
def opening(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    yield from _program(bpffs, tmp_path_factory, "inspect-tunnels", decapsulate=ALL, loader=loader)


@pytest.fixture(autouse=True)
def nothing_left(inspecting: Program) -> Iterator[None]:
    """What a test has counted adds up."""
    before = counts(inspecting)
    yield
    inspecting.kernel.config.coalesce(False)
    inspecting.kernel.config.inspect(1_000_000)
    inspecting.take_copies()
    inspecting.take_events()
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert moved["inspected"] == sum(moved[name] for name in INSPECTED[1:])


def counts(program: Program, direction: int = 0) -> dict[str, int]:
    counted = program.counters(direction)
    return {name: counted[f"{name}_packets"] for name in INSPECTED}


def copies(program: Program, *frames: bytes, hook: str = "ingress") -> list[tuple[str, bytes]]:
    """Kinds and octets of what these frames make the program copy."""
    return [(COPY_KINDS[head["kind"]], octets) for head, octets in heads(program, *frames, hook=hook)]


def heads(program: Program, *frames: bytes, hook: str = "ingress") -> list[tuple[Any, bytes]]:
    for frame in frames:
        assert len(program.run(frame, hook).events) == 1
    return program.take_copies()


LONG = bytes(range(256)) * 8
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


# -- a hello in several segments

PARTS = (0, 300, 1200, 1500, 1800)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_a_hello_in_four_segments_is_copied_in_any_order(inspecting: Program, order: tuple[int, ...]) -> None:
    whole, port = hello(1800), 30_000 + hash(order) % 10_000
    parts = {at: whole[at:end] for at, end in itertools.pairwise(PARTS)}
    frames = [tcp(parts[PARTS[number]], PARTS[number], sport=port) for number in order]
    after = [tcp(b"\x17\x03\x03" + bytes(500), 1800 + 503 * n, sport=port) for n in range(4)]
    got = heads(inspecting, syn(port), *frames, *after)
    assert b"".join(octets for _, octets in sorted(got, key=lambda each: (int(each[0]["seq"]) - ISN) % 2**32)) == whole
    assert len(got) == 4


def test_one_whose_connection_nobody_saw_begin_is_copied_in_order(inspecting: Program) -> None:
    whole = hello(3000)
    frames = [tcp(whole[at : at + 1000], at, sport=1, dport=2) for at in (0, 1000, 2000)]
    assert b"".join(octets for _, octets in copies(inspecting, *frames)) == whole
    assert copies(inspecting, tcp(bytes(100), 3000, sport=1, dport=2)) == []


@pytest.mark.parametrize("first", [1, 2, 3, 5, 6, 8])
def test_one_that_begins_with_a_few_octets_is_copied(inspecting: Program, first: int) -> None:
    whole, port = hello(400), 21_000 + first
    frames = [syn(port), tcp(whole[:first], sport=port), tcp(whole[first:], first, sport=port)]
    assert [octets for _, octets in copies(inspecting, *frames)] == [whole[:first], whole[first:]]


def test_what_a_connection_begins_with_and_is_no_hello_is_not_copied(inspecting: Program) -> None:
    frames = [syn(22_000), *(tcp(b"SSH-2.0-" + bytes(90), at, sport=22_000) for at in (0, 98, 196, 294))]
    assert copies(inspecting, *frames) == []


def test_what_overtakes_the_first_segment_is_copied_at_most_four_times(inspecting: Program) -> None:
    frames = [syn(22_001), *(tcp(bytes(100), at, sport=22_001) for at in range(100, 1000, 100))]
    assert [kind for kind, _ in copies(inspecting, *frames)] == ["CONTINUATION"] * 4


def test_segments_beyond_the_fourth_are_counted(inspecting: Program) -> None:
    whole, before = hello(6000), counts(inspecting)
    frames = [syn(22_002), *(tcp(whole[at : at + 1000], at, sport=22_002) for at in range(0, 6000, 1000))]
    assert [kind for kind, _ in copies(inspecting, *frames)] == ["TLS", *["CONTINUATION"] * 3]
    assert copies(inspecting, tcp(bytes(900), 6000, sport=22_002)) == []
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert moved == {
        "inspected": 6,
        "copied": 4,
        "skipped_table_full": 2,
        "skipped_ring_full": 0,
        "skipped_over_budget": 0,
    }


REACH, LOOK = 0x10000, 0x1000
"""Octets to either side of a connection's beginning in which payload is looked at; so many a look takes that finds
nothing."""


@pytest.mark.parametrize(
    ("at", "copied"), [(0, 1), (REACH - LOOK - 1, 1), (REACH - LOOK, 0), (1 << 20, 0), (1 << 31, 0)]
)
def test_a_hello_is_looked_for_where_a_connection_begins(inspecting: Program, at: int, copied: int) -> None:
    port = 22_100 + at % 97
    frames = [syn(port), tcp(b"220 ready\r\n" + bytes(90), sport=port), tcp(hello(400), at, sport=port)]
    assert [kind for kind, _ in copies(inspecting, *frames)] == ["TLS"] * copied


@pytest.mark.parametrize(("others", "copied"), [(15, 1), (16, 0)])
def test_and_behind_at_most_fifteen_small_segments_of_something_else(
    inspecting: Program, others: int, copied: int
) -> None:
    port = 22_500 + others
    frames = [syn(port), *(tcp(b"NOOP\r\n", 6 * n, sport=port) for n in range(others))]
    assert [kind for kind, _ in copies(inspecting, *frames, tcp(hello(400), 96, sport=port))] == ["TLS"] * copied


def test_requests_are_looked_for_as_long_as_they_come(inspecting: Program) -> None:
    frames = [syn(22_600), *(tcp(b"GET / HTTP/1.1\r\n", at, sport=22_600) for at in range(0, 10 * REACH, REACH // 2))]
    assert [kind for kind, _ in copies(inspecting, *frames)] == ["HTTP"] * 20


def test_the_answering_side_may_send_one_too_and_no_others_are_copied_before_it(inspecting: Program) -> None:
    accepted = four(TCP(sport=443, dport=22_200, flags="SA", seq=ISN))
    answers = [tcp(bytes(100), at, sport=443, dport=22_200) for at in (300, 100, 0)]
    assert copies(inspecting, accepted, *answers) == []
    assert [kind for kind, _ in copies(inspecting, tcp(hello(300), 1000, sport=443, dport=22_200))] == ["TLS"]
    assert copies(inspecting, tcp(hello(300), 1000 + REACH, sport=443, dport=22_200)) == []


def test_a_connection_that_nobody_saw_begin_is_looked_at_from_where_it_is_known(inspecting: Program) -> None:
    """One packet in 16 makes it known: by chance, one of 300 does, and then others take what is looked at.

    Before the table is filled with hellos that never end: these give way to beginnings only.
    """
    started = 1 << 20
    known = [tcp(bytes(50), started + 50 * n, sport=22_300) for n in range(300)]
    assert copies(inspecting, known[0], tcp(hello(300), started + 50, sport=22_300)) == [("TLS", hello(300))]
    assert copies(inspecting, *known, tcp(hello(300), started + 15_000, sport=22_300)) == []
    assert copies(inspecting, syn(22_300), tcp(hello(300), sport=22_300)) == [("TLS", hello(300))]


def test_dns_over_tcp_is_copied_however_long_its_connection_lasts(inspecting: Program) -> None:
    frames = [syn(22_400, 53), *(tcp(bytes(30), at, sport=22_400, dport=53) for at in (0, REACH, 1 << 24))]
    assert [kind for kind, _ in copies(inspecting, *frames)] == ["TCP_DNS"] * 3


def test_a_hello_that_never_ends_is_forgotten_when_its_place_is_taken_and_counted(inspecting: Program) -> None:
    before = counts(inspecting)["skipped_table_full"]
    begun = 3000
    heads(inspecting, *(tcp(hello(900)[:100], sport=port) for port in range(1000, 1000 + begun)))
    lost = counts(inspecting)["skipped_table_full"] - before
    assert begun - 2048 <= lost < begun  # of 2048 places some are free yet, or have what others left there
    inspecting.take_copies()


# -- fragments


def fragments(payload: bytes, octets: int, number: int) -> list[bytes]:
    whole = IP(src=CLIENT, dst=SERVER, id=number) / UDP(sport=7, dport=53) / Raw(payload)
    return [bytes(ETHER / part) for part in whole.fragment(octets)]  # type: ignore[no-untyped-call]


def whole_of(got: list[tuple[Any, bytes]]) -> bytes:
    """What the fragments make together, and that they know where they belong."""
    ordered, whole = sorted(got, key=lambda each: int(each[0]["fragment_offset"])), b""
    for head, octets in ordered:
        assert COPY_KINDS[head["kind"]] == "FRAGMENT"
        assert head["fragment_offset"] == len(whole)
        assert head["payload_bytes"] == len(octets)
        assert bool(head["flags"] & MORE_FRAGMENTS) is (head is not ordered[-1][0])
        assert (head["src_port"], head["dst_port"]) == (7, 53)
        assert head["flow_hash"] == ordered[0][0]["flow_hash"]
        whole += octets
    return whole


def test_the_fragments_of_a_datagram_that_is_copied_are_too(inspecting: Program) -> None:
    payload = answer() + LONG
    got = heads(inspecting, *fragments(payload, 800, 77))
    assert len(got) == 3
    assert {int(head["seq"]) for head, _ in got} == {77}
    assert whole_of(got)[8:] == payload
    # and those of others are not
    assert heads(inspecting, *(frame for frame in fragments(bytes(3000), 800, 78)[1:])) == []


def test_fragments_of_ipv6_behind_other_headers_are_copied(inspecting: Program) -> None:
    datagram = bytes(UDP(sport=7, dport=53, len=1208, chksum=1)) + query() + LONG[: 1200 - len(query())]
    parts = [
        bytes(
            ETHER
            / IPv6(src="2001:db8::1", dst="2001:db8::2")
            / IPv6ExtHdrHopByHop()
            / IPv6ExtHdrFragment(nh=17, id=0xABCDEF01, offset=at // 8, m=at < 800)
            / Raw(datagram[at : at + 400])
        )
        for at in (0, 400, 800)
    ]
    got = heads(inspecting, *parts)
    assert whole_of(got) == datagram[:1200]
    assert {int(head["seq"]) for head, _ in got} == {0xABCDEF01}


def test_a_hello_in_fragments_has_the_header_of_tcp_in_its_first(inspecting: Program) -> None:
    packet = IP(src=CLIENT, dst=SERVER, id=9) / TCP(sport=7, dport=53, flags="PA", seq=5) / Raw(hello(1000))
    frames = [bytes(ETHER / part) for part in packet.fragment(496)]  # type: ignore[no-untyped-call]
    assert whole_of(heads(inspecting, *frames)) == bytes(packet)[20:]


def test_fragments_beyond_the_fourth_and_forgotten_ones_are_counted(inspecting: Program) -> None:
    before = counts(inspecting)
    assert len(heads(inspecting, *fragments(query() + LONG, 296, 79))) == 4
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert (moved["inspected"], moved["copied"], moved["skipped_table_full"]) == (8, 4, 4)
    before = counts(inspecting)
    firsts = [fragments(query() + bytes(200), 104, 1000 + number)[0] for number in range(600)]
    assert len(heads(inspecting, *firsts)) == 600
    lost = counts(inspecting)["skipped_table_full"] - before["skipped_table_full"]
    assert 600 - 256 - 1 <= lost < 600


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
    for program in _program(bpffs, tmp_path_factory, f"inspect-{octets}", inspect=octets):
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
    for program in _program(bpffs, tmp_path_factory, "inspect-ring", copy_pages=512):
        ring = program.kernel.copies
        assert ring is not None
        while ring.consumer_position() < 1.2 * ring.size:
            sent = [bytes([dice.randrange(256)]) * dice.randrange(12, 2049) for _ in range(dice.randrange(50, 250))]
            for payload in sent:
                bpfsys.prog_test_run(program.fds["ingress"], udp(payload, 53))
            program.take_events()
            assert [octets for _, octets in program.take_copies()] == sent
