"""The whole producer: a veth, the real kernel program, a real broker, the process as people start it."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from producer.interfaces import namespaces
from producer.kernel import pins
from schemas.avro.codec import Codec
from schemas.avro.records import decode_record
from schemas.avro.registry import newest
from tests.e2e.fix_producer import Node, batches_of, broker_on, by_flow, check_ledger, frames, running, stop
from tests.fix_local import free_port
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.root, pytest.mark.kafka]


def test_every_packet_and_byte_is_found_again_flow_by_flow_and_nothing_is_left_behind(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    wanted: Counter[Any] = Counter()
    begin = time.time_ns()
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
            assert health["last_ack_age_seconds"] >= 0
            assert "ayaflow_producer_events_total 4000.0" in node.metrics()
            wanted_line = f'ayaflow_packets_total{{direction="ingress",interface="{b}"}} 2050.0'
            until(lambda: wanted_line in node.metrics(), node.metrics)  # counted when the epoch is closed
            metrics = node.metrics()
            assert stop(process) == 0
        assert not hooks(a) | hooks(b)
    assert not node.pin_directory.exists()
    values = batches_of(kafka_broker, node)
    counted = float(re.findall(r"^ayaflow_producer_message_bytes_total (\S+)", metrics, re.MULTILINE)[0])
    assert 4_000 < counted <= sum(map(len, values))  # a last batch came with the end
    batches = [Codec().decode_packet_batch(value) for value in values]
    assert by_flow(batches) == wanted
    sums = check_ledger(batches)
    assert (sums["seen"], sums["emitted"], sums["non_ip"]) == (4_100, 4_000, 100)
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    assert [batch.ring_start for batch in batches] == [0, *(batch.ring_end for batch in batches[:-1])]
    clocks = [batch.clock_ns for batch in batches]
    assert clocks == sorted(clocks)
    assert begin < clocks[0]
    assert clocks[-1] < time.time_ns()


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
            assert second.wait(HANG_SECONDS) == 3
            assert "is running on this machine already" in node.output.read_text()
            assert node.health()["ok"]
            assert process.poll() is None


def test_detach_removes_what_a_killed_producer_left(way: str, kafka_broker: str, bpffs: Path, tmp_path: Path) -> None:
    """In a network namespace: detach takes everything of ayaflow, and others may run on this machine."""
    name = f"aya-detach-{os.getpid()}"
    inside = ("nsenter", f"--net=/run/netns/{name}")
    own = tmp_path / "bpf"
    veth.ip("netns", "add", name)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        node = Node(tmp_path, own, kafka_broker, "lo").attaching_by(way)
        process = node.start(*inside)

        def attached() -> bool:
            assert process.poll() is None, node.output.read_text()
            return "attached" in node.output.read_text()

        until(attached, node.output.read_text)
        process.kill()
        process.wait()
        datagram = "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9))"
        subprocess.run([*inside, sys.executable, "-c", datagram], check=True)
        said = node.detach(*inside)
        assert f"events of node {node.name} had not been sent and are lost" in said
        assert any(node.name in line and "on lo ingress" in line for line in said.splitlines())
        assert ("clsact qdisc on lo" in said) == (way == "clsact")
        assert f"pin {node.pin_directory}/events" in said
        assert not node.pin_directory.exists()
        with namespaces.entered(f"/run/netns/{name}"):
            assert not hooks("lo")
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
    assert process.wait(HANG_SECONDS) == 3
    assert "lacks CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: run it as root" in node.output.read_text()
