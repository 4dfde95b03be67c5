"""The acceptance lines of issue 5 that have a number in them. Long form."""

import ctypes
import os
import struct
from pathlib import Path

import pytest

from producer.kernel import bpfsys, pins
from tests.faults import check, results
from tests.faults.installation import PRODUCER, Installation, installation
from tests.faults.rss import Memory
from tests.faults.traffic import Sender, received
from tests.kernel.attached import hooks

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults, pytest.mark.timeout(600)]

RATE = 50_000


def outage(system: Installation, part: str, seconds: float, name: str, *, rate: int = RATE) -> dict[str, int]:
    """Kill a part under traffic, start it again, check. Returns the highest RSS of each part, MB."""
    with Memory(system) as memory:
        with Sender(system.sends, rate=rate) as sender:
            system.mind(10)
            at_rest = {name: round(part.rss_mb()) for name, part in system.parts.items()}
            system.parts[part].kill()
            system.mind(seconds)
            spooled = system.health(PRODUCER).get("spool_bytes", 0)
            system.parts[part].release()
            system.mind(10)
        found = check.exact(system, sender.totals(), seconds=200)
    sent = sender.stop()
    results.record(
        "limits",
        name,
        seconds=seconds,
        rate=round(sent.rate),
        sent=sent.packets,
        stored=found.packets,
        coalesced=found.coalesced,
        dropped=0,
        spooled_mb=round(spooled / 2**20),
        settled_after_s=found.settle_seconds,
        rss_before_mb=at_rest,
        rss_peak_mb=memory.peaks(),
    )
    return memory.peaks()


def test_the_producer_is_dead_for_5_s_at_50_k_packets_a_second() -> None:
    with installation() as system:
        outage(system, "producer", 5, "kill -9 of the producer for 5 s")


def test_60_s_without_kafka_at_50_k_packets_a_second() -> None:
    with installation() as system:
        peaks = outage(system, "kafka", 60, "60 s without Kafka")
        assert peaks["producer"] < 300
        assert peaks["streams-1"] < 1_000


def test_60_s_without_clickhouse_at_50_k_packets_a_second() -> None:
    with installation() as system:
        peaks = outage(system, "clickhouse", 60, "60 s without ClickHouse")
        assert peaks["producer"] < 300
        assert peaks["streams-1"] < 1_000


def test_at_the_highest_rate_all_that_is_sent_is_in_flows_or_counted_and_nothing_is_dropped() -> None:
    with installation() as system:
        with Sender(system.sends, rate=0, flows=1_000, mix="small", family="4") as sender:
            system.mind(20)
        sent = sender.stop()
        assert received(system.watched) == sent.packets
        found = check.exact(system, sender.totals(), seconds=200)
        rows = found.audit["rows"]
        assert found.packets + sum(row["ring_full_packets"] for row in rows) == sent.packets
        results.record(
            "limits",
            "the generator's highest rate, 20 s",
            seconds=round(sent.seconds),
            rate=round(sent.rate),
            sent=sent.packets,
            stored=found.packets,
            coalesced=found.coalesced,
            dropped=sum(row["ring_full_packets"] for row in rows),
            settled_after_s=found.settle_seconds,
        )


def test_nothing_is_left_in_the_kernel_after_detach_also_after_kill_9_of_everything() -> None:
    with installation() as system, Sender(system.sends, rate=1_000):
        system.mind(3)
        directory = pins.node_directory(system.bpffs, system.node)
        programs = [identity(directory / name, "prog_id") for name in pins.PROGRAMS]
        maps = [identity(directory / name, "map_id") for name in pins.MAPS]
        assert all(is_loaded(PROG_GET_FD_BY_ID, each) for each in programs)
        assert all(is_loaded(MAP_GET_FD_BY_ID, each) for each in maps)
        for part in system.parts.values():
            part.kill()
        assert len(hooks(system.watched)) == 2
        # without /run/netns: what others have attached in namespaces with names is not ours to remove
        hide = 'mkdir -p /run/netns; mount -t tmpfs none /run/netns; exec "$@"'
        hidden = ("unshare", "--mount", "sh", "-c", hide, "sh")
        said = system.ayaflow("detach", before=hidden)
        assert said.returncode == 0, said.stderr
        assert f"on {system.watched} ingress" in said.stdout
        assert not hooks(system.watched)
        assert not (system.bpffs / pins.TOP).exists()
        system.mind(0.5)  # the kernel frees them after a grace period
        assert not any(is_loaded(PROG_GET_FD_BY_ID, each) for each in programs)
        assert not any(is_loaded(MAP_GET_FD_BY_ID, each) for each in maps)
        assert "nothing of ayaflow" in system.ayaflow("detach", before=hidden).stdout
        results.record(
            "limits",
            "detach after kill -9 of everything",
            left_filters=0,
            left_pins=0,
            left_programs_of=len(programs),
            left_maps_of=len(maps),
        )


PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID = 13, 14


def identity(path: Path, name: str) -> int:
    """Of what is pinned: the kernel's number of it."""
    fd = bpfsys.obj_get(path)
    try:
        with Path(f"/proc/self/fdinfo/{fd}").open() as file:
            return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
    finally:
        os.close(fd)


def is_loaded(command: int, number: int) -> bool:
    """Whether the kernel still has the program or map of a number."""
    attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(bpfsys.number(), command, attributes, 12)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)
