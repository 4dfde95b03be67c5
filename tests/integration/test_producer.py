"""The whole producer: a veth, the real kernel program, a real broker, the process as people start it."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from producer import pins
from schemas.avro_arrow import decode_record
from schemas.codec import Codec
from schemas.packets import DIRECTIONS, PacketBatch
from schemas.registry import newest
from tests import fix_local
from tests.fix_local import REPOSITORY, free_port
from tests.kernel import veth

pytestmark = [pytest.mark.root, pytest.mark.kafka]

ENTRY = """
import sys
from common import logs, settings
from common.errors import AyaflowError
from producer import component, detach
logs.configure(form="text")
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
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("AYAFLOW_")} | {
            f"AYAFLOW_{name.upper()}": str(value)
            for name, value in {
                "node": self.name, "capture_interfaces": interfaces, "capture_bpffs": bpffs, "data_dir": directory,
                "kafka_bootstrap_servers": bootstrap, "producer_metrics_listen": f"127.0.0.1:{self.port}",
            }.items() | settings.items()
        }  # fmt: skip
        self.output = directory / "producer.out"

    def start(self, *before: str) -> "subprocess.Popen[bytes]":
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [*before, sys.executable, "-c", ENTRY, "run"],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=output,
                stderr=output,
            )

    def detach(self, *before: str) -> str:
        done = subprocess.run(
            [*before, sys.executable, "-c", ENTRY, "detach"], cwd=REPOSITORY, env=self.environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        except OSError:
            found = {}
        return found

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            return str(answer.read().decode())

    def wait_for(self, process: "subprocess.Popen[bytes]", **wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + 40
        while True:
            health = self.health()
            if health and wanted.items() <= health.items():
                return health
            assert process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, f"{health}\n{self.output.read_text()}"
            time.sleep(0.05)

    @property
    def pin_directory(self) -> Path:
        return pins.node_directory(self.bpffs, self.name)


@contextlib.contextmanager
def running(node: Node) -> Iterator["subprocess.Popen[bytes]"]:
    process = node.start()
    try:
        node.wait_for(process)
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextlib.contextmanager
def broker_on(bootstrap: str, directory: Path) -> Iterator[None]:
    """A broker on a port that is known before."""
    ports = {"kafka__bootstrap_servers": bootstrap, "kafka__local_controller_port": free_port()}
    broker = fix_local.start("kafka", directory, kafka__local_heap_mb=256, **ports)
    try:
        fix_local.until(lambda: fix_local.kafka_answers(bootstrap), broker, directory / "kafka.out")
        yield
    finally:
        fix_local.stop(broker)


def batches_of(bootstrap: str, node: Node, topic: str = "ayaflow.packets") -> list[bytes]:
    """The messages of a node, in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": node.name, "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found, left = [], sum(ends.values())
        while left > 0:
            message = consumer.poll(10)
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
                batch.interface_names[flows.interface[i]], DIRECTIONS[flows.direction[i]], int(flows.protocol[i]),
                int(flows.src_port[i]), int(flows.vlan_id[i]), int(flows.icmp_type[i]),
            )  # fmt: skip
            found[key, "packets"] += int(packets)
            found[key, "bytes"] += int(size)
    return found


def check_ledger(batches: list[PacketBatch]) -> Counter[str]:
    """Every epoch's emitted packets are those that came; returns the sums of the kernel's counters."""
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
            counted[(row.epoch, row.interface, row.direction), "packets"] += row.emitted_packets
            counted[(row.epoch, row.interface, row.direction), "bytes"] += row.emitted_bytes
            for name in ("seen", "emitted", "non_ip", "malformed", "ring_full"):
                sums[name] += getattr(row, f"{name}_packets")
    assert came == +counted
    assert sums["seen"] == sums["emitted"] + sums["non_ip"] + sums["malformed"] + sums["ring_full"]
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


def test_every_packet_and_byte_is_found_again_flow_by_flow_and_nothing_is_left_behind(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    wanted: Counter[Any] = Counter()
    with veth.pair() as (a, b):
        node = Node(tmp_path, bpffs, kafka_broker, f"{a},{b}", capture_epoch_ms=100)
        with running(node) as process:
            sent = frames(2_000)
            veth.send(a, *(octets for octets, _ in sent))
            for octets, key in sent:
                for interface, direction in ((a, "egress"), (b, "ingress")):
                    wanted[(interface, direction, *key), "packets"] += 1
                    wanted[(interface, direction, *key), "bytes"] += len(octets)
            veth.send(
                a, *([bytes(Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP() / Raw(bytes(18)))] * 50)
            )
            health = node.wait_for(process, ok=True, packets=4_000, queue=0)
            assert health["interfaces"] == [a, b]
            assert health["last_ack_age_seconds"] < 10
            assert "ayaflow_producer_events_total 4000.0" in node.metrics()
            wanted_line = f'ayaflow_packets_total{{direction="ingress",interface="{b}"}} 2050.0'
            deadline = time.monotonic() + 10
            while wanted_line not in node.metrics():  # counted when the epoch is closed
                assert time.monotonic() < deadline, node.metrics()
                time.sleep(0.05)
            assert stop(process) == 0
        assert "clsact" not in veth.tc("qdisc", "show", "dev", a)
    assert not node.pin_directory.exists()
    batches = [Codec().decode_packet_batch(value) for value in batches_of(kafka_broker, node)]
    assert by_flow(batches) == wanted
    sums = check_ledger(batches)
    assert (sums["seen"], sums["emitted"], sums["non_ip"]) == (4_100, 4_000, 100)
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    assert [batch.ring_start for batch in batches] == [0, *(batch.ring_end for batch in batches[:-1])]
    clocks = [batch.clock_ns for batch in batches]
    assert clocks == sorted(clocks)
    assert abs(clocks[-1] - time.time_ns()) < 60 * 10**9


def test_the_record_encoding_sends_each_packet_as_well(kafka_broker: str, bpffs: Path, tmp_path: Path) -> None:
    with veth.pair() as (a, _):
        node = Node(tmp_path, bpffs, kafka_broker, a, producer_encoding="record")
        with running(node) as process:
            sent = frames(70)
            veth.send(a, *(octets for octets, _ in sent))
            node.wait_for(process, packets=70)
    events = [
        decode_record(value[5:], newest("PacketEvent"))
        for value in batches_of(kafka_broker, node, "ayaflow.packet-events")
    ]
    assert Counter((e["protocol"], e["src_port"], e["vlan_id"], e["icmp_type"]) for e in events) == Counter(
        key for _, key in sent
    )
    assert sum(event["bytes"] for event in events) == sum(len(octets) for octets, _ in sent)
    positions = [event["ring_position"] for event in events]
    assert positions == [80 * i for i in range(70)]


def test_kafka_may_be_away_at_the_start_and_come_later(bpffs: Path, tmp_path: Path) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    with veth.pair() as (a, _):
        node = Node(tmp_path, bpffs, bootstrap, a)
        with running(node) as process:
            veth.send(a, *(octets for octets, _ in frames(70)))
            health = node.wait_for(process, ok=False)
            assert "kafka.bootstrap_servers" in health["error"]
            kafka = tmp_path / "kafka"
            kafka.mkdir()
            with broker_on(bootstrap, kafka):
                node.wait_for(process, ok=True, packets=70)
                assert stop(process) == 0
                batches = [Codec().decode_packet_batch(value) for value in batches_of(bootstrap, node)]
    assert check_ledger(batches)["emitted"] == 70


def test_a_second_producer_of_the_node_is_refused(kafka_broker: str, bpffs: Path, tmp_path: Path) -> None:
    with veth.pair() as (a, _):
        node = Node(tmp_path, bpffs, kafka_broker, a)
        with running(node) as process:
            second = node.start()
            assert second.wait(20) == 3
            assert "is running on this machine already" in node.output.read_text()
            assert node.health()["ok"]
            assert process.poll() is None


def test_after_a_kill_the_next_producer_starts_clean_and_stops_clean(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    with veth.pair() as (a, _):
        node = Node(tmp_path, bpffs, kafka_broker, a)
        process = node.start()
        node.wait_for(process)
        process.kill()
        process.wait()
        assert node.name in veth.tc("filter", "show", "dev", a, "egress")
        assert (node.pin_directory / "events").exists()
        with running(node) as process:
            assert veth.tc("filter", "show", "dev", a, "egress").count(f"ayaflow:{node.name}") == 1
            veth.send(a, *(octets for octets, _ in frames(7)))
            node.wait_for(process, packets=7)
        assert "clsact" not in veth.tc("qdisc", "show", "dev", a)
    assert not node.pin_directory.exists()


def test_detach_removes_what_a_killed_producer_left(kafka_broker: str, bpffs: Path, tmp_path: Path) -> None:
    """In a network namespace: detach takes everything of ayaflow, and others may run on this machine."""
    name = f"aya-detach-{os.getpid()}"
    inside = ("nsenter", f"--net=/run/netns/{name}")
    own = tmp_path / "bpf"
    veth.ip("netns", "add", name)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        node = Node(tmp_path, own, kafka_broker, "lo")
        process = node.start(*inside)
        deadline = time.monotonic() + 30
        while not node.output.exists() or "attached" not in node.output.read_text():
            assert process.poll() is None, node.output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        said = node.detach(*inside)
        assert "clsact qdisc on lo" in said
        assert f"ayaflow:{node.name}:ingress" in said
        assert f"pin {node.pin_directory}/events" in said
        assert not node.pin_directory.exists()
        shown = subprocess.run([*inside, "tc", "qdisc", "show"], check=True, capture_output=True, text=True).stdout
        assert "clsact" not in shown
        assert "nothing of ayaflow" in node.detach(*inside)
    finally:
        veth.ip("netns", "del", name)
        if pins.is_mounted(own):
            subprocess.run(["umount", own], check=True)


def test_a_privilege_that_is_missing_is_named(tmp_path: Path, bpffs: Path) -> None:
    node = Node(tmp_path, bpffs, "127.0.0.1:1", "lo")
    process = node.start("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    assert process.wait(20) == 3
    assert "lacks CAP_NET_ADMIN and CAP_BPF: run it as root" in node.output.read_text()
