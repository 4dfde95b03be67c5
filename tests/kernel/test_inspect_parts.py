"""Names that come in several segments or fragments: all of them are copied, or counted. By TEST_RUN."""

import itertools
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from producer.kernel.abi import COPY_KINDS, MORE_FRAGMENTS
from tests.kernel.fix_inspect import LONG, copies, counts, heads, inspecting, nothing_left
from tests.kernel.harness import Program
from tests.kernel.name_frames import CLIENT, ETHER, ISN, SERVER, answer, four, hello, query, syn, tcp

__all__ = ["inspecting", "nothing_left"]

pytestmark = pytest.mark.root

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
