"""The kernel program over frames of every kind: what becomes an event, what is only counted; each is counted once."""

import struct
import time

import pytest

from producer.kernel.abi import NO_ETHERNET
from tests.kernel.frames import EVENTS, MALFORMED, NON_IP, V4, V6, Case, expected
from tests.kernel.harness import UNSPEC, Program, shown

pytestmark = pytest.mark.root


@pytest.mark.parametrize("hook", ["ingress", "egress"])
@pytest.mark.parametrize("case", EVENTS, ids=lambda case: case.name)
def test_an_ip_packet_becomes_one_event_and_is_counted_once(program: Program, case: Case, hook: str) -> None:
    outcome = program.run(case.frame, hook)
    assert outcome.returned == UNSPEC
    assert len(outcome.events) == 1
    event = shown(outcome.events[0])
    wanted = expected(case) | {"direction": 0 if hook == "ingress" else 1, "epoch": 1}
    assert {name: event[name] for name in wanted} == wanted
    size = len(case.frame)
    assert outcome.counted == {"seen_packets": 1, "seen_bytes": size, "emitted_packets": 1, "emitted_bytes": size}


@pytest.mark.parametrize("name", NON_IP)
def test_what_is_not_ip_is_counted_and_makes_no_event(program: Program, name: str) -> None:
    outcome = program.run(NON_IP[name])
    size = len(NON_IP[name])
    assert (outcome.returned, len(outcome.events)) == (UNSPEC, 0)
    assert outcome.counted == {"seen_packets": 1, "seen_bytes": size, "non_ip_packets": 1, "non_ip_bytes": size}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_impossible_or_cut_header_is_counted_and_makes_no_event(program: Program, name: str) -> None:
    outcome = program.run(MALFORMED[name])
    size = len(MALFORMED[name])
    assert (outcome.returned, len(outcome.events)) == (UNSPEC, 0)
    assert outcome.counted == {"seen_packets": 1, "seen_bytes": size, "malformed_packets": 1, "malformed_bytes": size}


def test_behind_more_extension_headers_than_we_walk_the_packet_is_kept_without_ports(program: Program) -> None:
    nine = b"".join(struct.pack("!BB6x", 60, 0) for _ in range(8)) + struct.pack("!BB6x", 17, 0)
    frame = bytearray(bytes(V6)[:54] + nine + struct.pack("!HHHH", 1111, 53, 8, 0))
    struct.pack_into("!HB", frame, 18, len(nine) + 8, 60)
    (event,) = program.run(bytes(frame)).events
    assert (event["protocol"], event["src_port"], event["dst_port"]) == (60, 0, 0)


DIRECTLY_IP = [case for case in EVENTS if case.frame[12:14] in {b"\x08\x00", b"\x86\xdd"}]


@pytest.mark.parametrize("case", DIRECTLY_IP, ids=lambda case: case.name)
def test_a_link_without_ethernet_begins_with_the_ip_header(program: Program, case: Case) -> None:
    frame = case.frame[14:]
    if len(frame) < 34:
        frame += bytes(34 - len(frame))  # TEST_RUN takes no shorter ones
    program.set_interface(flags=NO_ETHERNET)
    try:
        outcome = program.run(frame)
    finally:
        program.set_interface(flags=0)
    (event,) = (shown(event) for event in outcome.events)
    wanted = expected(case) | {"bytes": len(frame)}
    assert {name: event[name] for name in wanted} == wanted


def test_a_link_without_ethernet_counts_what_is_neither_ipv4_nor_ipv6(program: Program) -> None:
    program.set_interface(flags=NO_ETHERNET)
    try:
        outcome = program.run(b"\x10" + bytes(63))
    finally:
        program.set_interface(flags=0)
    assert outcome.counted == {"seen_packets": 1, "seen_bytes": 64, "non_ip_packets": 1, "non_ip_bytes": 64}


def _tcp(payload: int, *, options: int = 0) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 1111, 53, 1, 1, (20 + options) // 4 << 4, 0x10, 100, 0, 0) + b"\1" * options
    frame = bytearray(bytes(V4) + tcp + b"p" * payload)
    frame[14 + 9] = 6
    struct.pack_into("!H", frame, 16, len(frame) - 14)
    return bytes(frame)


@pytest.mark.parametrize(
    ("segments", "size", "payload"), [(3, 1000, 2500), (2, 1000, 2000), (1, 1000, 1000)], ids=["3", "2", "1"]
)
def test_a_gso_packet_counts_as_its_segments_with_their_headers(
    program: Program, segments: int, size: int, payload: int
) -> None:
    frame, header = _tcp(payload, options=12), 14 + 20 + 32
    outcome = program.run(frame, gso_size=size, gso_segs=segments, wire_len=len(frame))
    wire = payload + segments * header
    assert outcome.counted == {
        "seen_packets": segments,
        "seen_bytes": wire,
        "emitted_packets": segments,
        "emitted_bytes": wire,
    }
    event = outcome.events[0]
    assert (event["packets"], event["bytes"]) == (segments, wire)
    assert event["segment_bytes"] == (size + header if segments > 1 else 0)


@pytest.mark.parametrize(("payload", "segments"), [(2500, 3), (2000, 2), (2001, 3), (1, 1)])
def test_a_gso_packet_that_does_not_know_its_segments_is_counted_by_its_size(
    program: Program, payload: int, segments: int
) -> None:
    (event,) = program.run(_tcp(payload), gso_size=1000).events
    assert (event["packets"], event["bytes"]) == (segments, payload + segments * 54)


def test_an_event_carries_the_epoch_that_counted_it_and_the_time(program: Program) -> None:
    program.open_epoch(0x1234)
    try:
        before = time.monotonic_ns()
        (event,) = program.run(EVENTS[0].frame).events
        assert event["epoch"] == 0x34
        assert before <= event["ktime_ns"] <= time.monotonic_ns()
    finally:
        program.open_epoch(1)


def test_flows_have_hashes_of_their_own_and_a_flow_keeps_its_hash(program: Program) -> None:
    def hash_of(frame: bytes, hook: str = "ingress") -> int:
        return int(program.run(frame, hook).events[0]["flow_hash"])

    base = EVENTS[0].frame
    variants = {name: bytearray(base) for name in ("src", "dst", "src_port", "dst_port", "protocol")}
    for frame, offset in zip(variants.values(), (29, 33, 35, 37, 23), strict=True):
        frame[offset] ^= 0x80 if offset != 23 else 6 ^ 132
    hashes = [hash_of(base), hash_of(base, "egress"), *(hash_of(bytes(frame)) for frame in variants.values())]
    hashes += [
        hash_of(case.frame)
        for case in EVENTS
        if case.name in {"802.1Q in the frame", "IPv6 TCP", "IPv6 UDP", "IPv4 UDP"}
    ]
    swapped = bytearray(base)
    swapped[26:30], swapped[30:34] = base[30:34], base[26:30]
    hashes.append(hash_of(bytes(swapped)))
    assert len(set(hashes)) == len(hashes)
    assert hash_of(base) == hash_of(base)
