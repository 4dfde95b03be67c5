"""A producer as a process, and what it has sent."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, TopicPartition
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from producer.kernel import child, pins
from producer.kernel.abi import OUTCOMES
from schemas.fields import DIRECTIONS
from schemas.packets import PacketBatch
from tests import fix_local
from tests.fix_local import REPOSITORY, environment, free_port
from tests.kernel.harness import LOADER
from tests.waiting import HANG_SECONDS, until

ENTRY = """
import functools, os, sys
from common import logs, settings
from common.errors import AyaflowError
from producer import component, detach, parts
from producer.roles import capabilities
if ways := os.environ.get("TEST_WAYS"):
    parts.ChildAttacher = functools.partial(parts.ChildAttacher, ways=(ways,))
logs.configure(form="text")
if sys.argv[1] == "run":
    capabilities.give_up()
try:
    sys.exit({"run": component, "detach": detach}[sys.argv[1]].run(settings.load()))
except AyaflowError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Node:
    """A producer process with settings of its own."""

    def __init__(self, directory: Path, bpffs: Path, bootstrap: str, interfaces: str, **settings: object) -> None:
        self.name = f"test-{os.getpid()}-{time.monotonic_ns()}"
        self.port = free_port()
        self.bpffs = bpffs
        self.environment = {"PYTHONFAULTHANDLER": "1"} | environment(
            node=self.name,
            capture_interfaces=interfaces,
            capture_bpffs=bpffs,
            data_dir=directory,
            kafka_bootstrap_servers=bootstrap,
            producer_metrics_listen=f"127.0.0.1:{self.port}",
            **{"capture_loader": LOADER, **settings},
        )
        self.output = directory / "producer.out"
        self._started: list[subprocess.Popen[bytes]] = []

    def attaching_by(self, way: str) -> Self:
        """Not by whatever works."""
        self.environment["TEST_WAYS"] = way
        return self

    def start(self, *before: str) -> "subprocess.Popen[bytes]":
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [*before, sys.executable, "-c", ENTRY, "run"],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        self._started.append(process)
        return process

    def killed_and_started(
        self, process: "subprocess.Popen[bytes]", dead_seconds: float = 0.0, before: Iterable[str] = ()
    ) -> "subprocess.Popen[bytes]":
        """kill -9, and the next producer, once it answers."""
        process.kill()
        process.wait()
        time.sleep(dead_seconds)
        process = self.start(*before)
        self.wait_for(process)
        return process

    def detach(self, *before: str) -> str:
        done = subprocess.run(
            [*before, sys.executable, "-c", ENTRY, "detach"],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def clean(self) -> None:
        """End what runs, and remove what this node has left in the kernel; `detach` takes other nodes' things, too."""
        for process in self._started:
            process.kill()
            process.wait()
        child.run("detach", {"node": self.name}, log=self.output.with_suffix(".detach.log"))
        pins.remove(self.pin_directory)

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=HANG_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        except OSError:
            found = {}
        return found

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=HANG_SECONDS) as answer:
            return str(answer.read().decode())

    def wait_for(self, process: "subprocess.Popen[bytes]", **wanted: Any) -> dict[str, Any]:
        """Until it answers and its health is as wanted -> its health."""

        def healthy() -> dict[str, Any]:
            assert process.poll() is None, self.output.read_text()
            health = self.health()
            return health if wanted.items() <= health.items() else {}

        return until(healthy, lambda: f"{self.health()}\n{self.output.read_text()}")

    @property
    def pin_directory(self) -> Path:
        return pins.node_directory(self.bpffs, self.name)


@contextlib.contextmanager
def running(node: Node) -> Iterator["subprocess.Popen[bytes]"]:
    process = node.start()
    try:
        node.wait_for(process)
        yield process
    except subprocess.TimeoutExpired as error:
        error.add_note(node.output.read_text())
        raise
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # its output says where it was (PYTHONFAULTHANDLER)
        process.wait()
        raise


@contextlib.contextmanager
def broker_on(bootstrap: str, directory: Path) -> Iterator[None]:
    """A broker on a port that is known before."""
    ports = {"kafka__bootstrap_servers": bootstrap, "local__kafka_controller_port": free_port()}
    broker = fix_local.start("kafka", directory, local__kafka_heap_mb=256, **ports)
    try:
        fix_local.until(lambda: fix_local.kafka_answers(bootstrap), broker, directory / "kafka.out")
        yield
    finally:
        fix_local.stop(broker)


def batches_of(bootstrap: str, node: Node, topic: str = "ayaflow.packets") -> list[bytes]:
    """The messages of a node, in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": node.name, "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=HANG_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found, left = [], 0
        for p in partitions:
            left += consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=HANG_SECONDS)[1]
        while left > 0:
            message = consumer.poll(HANG_SECONDS)
            assert message is not None
            assert message.error() is None
            left -= 1
            value = message.value()
            if message.key() == node.name.encode() and value is not None:
                found.append(value)
        return found
    finally:
        consumer.close()


def by_flow(batches: list[PacketBatch]) -> Counter[Any]:
    """(interface, direction, protocol, source port, VLAN, …) -> packets, bytes."""
    found: Counter[Any] = Counter()
    for batch in batches:
        flows = batch.flows
        for i, packets, size in zip(batch.flow, batch.packets, batch.bytes, strict=True):
            key = (
                batch.interface_names[flows.interface[i]],
                DIRECTIONS[flows.direction[i]],
                int(flows.protocol[i]),
                int(flows.src_port[i]),
                int(flows.vlan_id[i]),
                int(flows.icmp_type[i]),
            )
            found[key, "packets"] += int(packets)
            found[key, "bytes"] += int(size)
    return found


def check_ledger(batches: list[PacketBatch]) -> Counter[str]:
    """Every epoch's emitted and coalesced packets are those that came; returns the sums of the kernel's counters."""
    came: Counter[Any] = Counter()
    counted: Counter[Any] = Counter()
    sums: Counter[str] = Counter()
    for batch in batches:
        flows = batch.flows
        for i, packets, size in zip(batch.flow, batch.packets, batch.bytes, strict=True):
            key = (int(flows.epoch[i]), batch.interface_names[flows.interface[i]], int(flows.direction[i]))
            came[key, "packets"] += int(packets)
            came[key, "bytes"] += int(size)
        for row in batch.counters:
            counted[(row.epoch, row.interface, row.direction), "packets"] += row.emitted_packets + row.coalesced_packets
            counted[(row.epoch, row.interface, row.direction), "bytes"] += row.emitted_bytes + row.coalesced_bytes
            for name in OUTCOMES:
                sums[name] += getattr(row, f"{name}_packets")
    assert came == +counted
    assert sums["seen"] == sum(sums[name] for name in OUTCOMES if name != "seen")
    return sums


def frames(count: int) -> list[tuple[bytes, tuple[int, int, int, int]]]:
    """Frames, each with (protocol, source port, VLAN, ICMP type)."""
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    v4, v6 = ether / IP(src="10.9.0.1", dst="10.9.0.2"), ether / IPv6(src="2001:db8::1", dst="2001:db8::2")
    kinds = [
        (v4 / UDP(sport=1000, dport=53) / Raw(bytes(30)), (17, 1000, 0, 0)),
        (v4 / TCP(sport=1001, dport=80, flags="PA") / Raw(bytes(500)), (6, 1001, 0, 0)),
        (v6 / UDP(sport=1002, dport=53) / Raw(bytes(900)), (17, 1002, 0, 0)),
        (v6 / TCP(sport=1003, dport=80, flags="S"), (6, 1003, 0, 0)),
        (v4 / ICMP(type=8) / Raw(bytes(50)), (1, 0, 0, 8)),
        (v6 / ICMPv6EchoRequest() / Raw(bytes(50)), (58, 0, 0, 128)),
        (ether / Dot1Q(vlan=7) / v4.payload / UDP(sport=1004, dport=53) / Raw(bytes(30)), (17, 1004, 7, 0)),
    ]
    octets = [(bytes(frame), key) for frame, key in kinds]
    return [octets[i % len(octets)] for i in range(count)]


def once(batches: list[PacketBatch]) -> None:
    """Batches of a ring follow one another: nothing is missing in between, nothing stands in two of them."""
    for ring in {batch.ring_id for batch in batches}:
        ours = [batch for batch in batches if batch.ring_id == ring]
        assert [batch.ring_start for batch in ours] == [0, *(batch.ring_end for batch in ours[:-1])]
        coalesced = [batch for batch in ours if batch.coalesced_end]
        assert [batch.coalesced_start for batch in coalesced] == [0, *(b.coalesced_end for b in coalesced)][:-1]
