"""Without room in the ring, packets are added up by flow; without room there, they are dropped and counted."""

import os
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from producer.kernel import bpfsys
from producer.kernel.abi import Records
from tests.kernel.frames import EVENTS
from tests.kernel.harness import FLOW_ENTRIES, Program

pytestmark = pytest.mark.root

RING_RECORDS = 64 * 4096 // 80
SYN, ACK, FIN, BARE_SYN = 0x02, 0x10, 0x01, 0x8000


@pytest.fixture(autouse=True)
def empty(program: Program) -> Iterator[None]:
    """Leave no entry to others."""
    yield
    program.kernel.config.coalesce(False)
    keys, _ = program.kernel.maps.flows(1)
    program.kernel.maps.clear(1, keys)


@pytest.fixture
def coalescing(program: Program) -> Program:
    """The program, told to add packets up."""
    program.kernel.config.coalesce(True)
    return program


def flows(program: Program) -> Records:
    return program.kernel.maps.flows(1)[1]


def tcp(flags: int, payload: int = 0, ttl: int = 64, sport: int = 1) -> bytes:
    packet = IP(src="192.0.2.1", dst="192.0.2.2", ttl=ttl) / TCP(sport=sport, dport=2, flags=flags)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet / Raw(bytes(payload)))


def udp(port: int) -> bytes:
    packet = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=port % 65536, dport=9 + port // 65536)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)


def test_a_full_ring_makes_sums_of_what_does_not_fit_and_goes_on_when_there_is_room(program: Program) -> None:
    frame, size = EVENTS[0].frame, len(EVENTS[0].frame)
    before = program.counters()
    bpfsys.prog_test_run(program.fds["ingress"], frame, repeat=RING_RECORDS + 100)
    after = program.counters()
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert moved["seen_packets"] == RING_RECORDS + 100 == moved["emitted_packets"] + moved["coalesced_packets"]
    assert moved["coalesced_packets"] >= 100
    assert moved["coalesced_bytes"] == size * moved["coalesced_packets"]
    assert len(program.take_events()) == moved["emitted_packets"]
    entries = flows(program)
    assert int(entries["packets"].sum()) == moved["coalesced_packets"]
    assert int(entries["bytes"].sum()) == moved["coalesced_bytes"]
    assert program.run(frame).counted == {
        "seen_packets": 1,
        "seen_bytes": size,
        "emitted_packets": 1,
        "emitted_bytes": size,
    }


def test_an_entry_has_what_its_packets_had(coalescing: Program) -> None:
    frames = [tcp(SYN, ttl=60), tcp(SYN | ACK, 100, ttl=70), tcp(ACK, 1000, ttl=50), tcp(FIN | ACK, 3)]
    begin = time.monotonic_ns()
    for frame in frames:
        assert coalescing.run(frame).counted.keys() == {
            "seen_packets",
            "seen_bytes",
            "coalesced_packets",
            "coalesced_bytes",
        }
    end = time.monotonic_ns()
    entries = flows(coalescing)
    assert len(np.unique(entries["first"]["flow_hash"])) == 1
    assert int(entries["packets"].sum()) == len(frames)
    assert int(entries["bytes"].sum()) == sum(map(len, frames))
    assert np.bitwise_or.reduce(entries["tcp_flags"]) == SYN | ACK | FIN | BARE_SYN
    assert (entries["min_ttl"].min(), entries["max_ttl"].max()) == (50, 70)
    assert entries["min_packet_bytes"].min() == min(map(len, frames))
    assert entries["max_packet_bytes"].max() == max(map(len, frames))
    assert begin <= entries["first"]["ktime_ns"].min() <= entries["last_ktime_ns"].max() <= end
    first = entries[np.argmin(entries["first"]["ktime_ns"])]["first"]
    assert (first["protocol"], first["src_port"], first["dst_port"], first["ttl"]) == (6, 1, 2, 60)


def test_cpus_share_an_entry_and_no_sum_is_lost(coalescing: Program) -> None:
    frames, repeat = [tcp(SYN, ttl=60), tcp(ACK, 700, ttl=50), tcp(FIN | ACK, 100, ttl=70), tcp(ACK, 3)], 300_000
    cpus = sorted(os.sched_getaffinity(0))

    def send(number: int) -> None:
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})  # of this thread
        bpfsys.prog_test_run(coalescing.fds["ingress"], frames[number], repeat=repeat)

    with ThreadPoolExecutor(len(frames)) as threads:
        list(threads.map(send, range(len(frames))))
    keys, entries = coalescing.kernel.maps.flows(1)
    assert len(np.unique(keys["flow_hash"])) == 1
    assert len(np.unique(keys["second"])) == len(entries)
    assert int(entries["packets"].sum()) == repeat * len(frames)
    assert int(entries["bytes"].sum()) == repeat * sum(map(len, frames))
    assert np.bitwise_or.reduce(entries["tcp_flags"]) == SYN | ACK | FIN | BARE_SYN
    assert (entries["min_ttl"].min(), entries["max_ttl"].max()) == (50, 70)
    assert entries["min_packet_bytes"].min() == min(map(len, frames))
    assert entries["max_packet_bytes"].max() == max(map(len, frames))
    assert (entries["last_ktime_ns"] >= entries["first"]["ktime_ns"]).all()


def test_a_super_packet_counts_as_its_segments(coalescing: Program) -> None:
    frame = tcp(ACK, 2500)
    coalescing.run(frame, "egress", gso_size=1000, gso_segs=3, wire_len=len(frame))
    (entry,) = flows(coalescing)
    headers = 14 + 20 + 20
    assert (entry["packets"], entry["bytes"]) == (3, 2500 + 3 * headers)
    assert (entry["min_packet_bytes"], entry["max_packet_bytes"]) == (500 + headers, 1000 + headers)


def test_an_entry_never_spans_two_seconds_of_the_wall_clock(coalescing: Program) -> None:
    frame = udp(5)
    offset = coalescing.offset_ns
    sent = 0
    end = time.monotonic() + 1.3
    while time.monotonic() < end:
        bpfsys.prog_test_run(coalescing.fds["ingress"], frame, repeat=1000)
        sent += 1000
    entries = flows(coalescing)
    assert int(entries["packets"].sum()) == sent
    first = (entries["first"]["ktime_ns"].astype(np.int64) + offset) // 10**9
    last = (entries["last_ktime_ns"].astype(np.int64) + offset) // 10**9
    assert len(entries) >= 2
    assert (first == last).all()


def test_a_full_flow_table_drops_and_counts(coalescing: Program) -> None:
    more = 200
    before = coalescing.counters()
    for port in range(FLOW_ENTRIES + more):
        bpfsys.prog_test_run(coalescing.fds["ingress"], udp(port))
    after = coalescing.counters()
    moved = {name: after[name] - before[name] for name in after if name.endswith("packets")}
    assert moved["seen_packets"] == FLOW_ENTRIES + more == moved["coalesced_packets"] + moved["ring_full_packets"]
    assert moved["ring_full_packets"] >= more
    assert int(flows(coalescing)["packets"].sum()) == moved["coalesced_packets"]


def test_without_a_live_producer_the_program_does_nothing(program: Program) -> None:
    frame = udp(7)
    program.kernel.config.live(time.monotonic_ns() - 1, 0)
    outcome = program.run(frame)
    assert (outcome.counted, len(outcome.events), outcome.returned) == ({}, 0, -1)
    program.kernel.config.live(2**63, program.offset_ns)
    assert program.run(frame).counted["emitted_packets"] == 1


def test_entries_of_an_odd_epoch_and_of_an_even_one_lie_apart(coalescing: Program) -> None:
    frame = udp(11)
    maps, state = coalescing.kernel.maps, coalescing.kernel.state
    coalescing.run(frame)
    for key in (0, 1):
        maps.zero(2, key)
    maps.open(2)
    bpfsys.prog_test_run(coalescing.fds["ingress"], frame, repeat=5)
    assert [int(maps.flows(epoch)[1]["packets"].sum()) for epoch in (1, 2)] == [1, 5]
    assert {int(row["epoch"]) for row in maps.counters(2, 0)} == {2}
    keys, _ = maps.flows(2)
    maps.clear(2, keys)
    assert len(maps.flows(2)[0]) == 0
    maps.open(1)
    assert struct.unpack("=I", bpfsys.map_lookup(coalescing.fds["open_epoch"], bytes(4), 4))[0]
    assert state.open == 1
