"""One interface's trouble is its own: the producer starts, watches what it can, and names the rest."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.avro.codec import Codec
from tests.e2e.fix_producer import Node, batches_of, by_flow, frames, stop
from tests.kernel import veth
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka]


@contextlib.contextmanager
def namespace(name: bytes) -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def cleaned(node: Node) -> Iterator[Node]:
    try:
        yield node
    finally:
        node.clean()


def test_an_interface_that_is_another_program_s_ends_no_start_and_no_restart(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    with veth.pair() as (a, b), veth.pair() as (c, d):
        veth.tc("qdisc", "add", "dev", c, "ingress")
        wanted = ",".join((a, b, c, d))
        with cleaned(Node(tmp_path, bpffs, kafka_broker, wanted, capture_epoch_ms=100)) as node:
            process = node.start()
            for _ in range(2):
                health = node.wait_for(process)
                named = {each["interface"] for each in health["unwatched"]}
                assert {*health["interfaces"], *named} == {a, b, c, d}
                assert {a, b, d} <= {*health["interfaces"]}
                assert health["ok"] == (not named)
                process = node.killed_and_started(process)
            veth.send(a, *(octets for octets, _ in frames(70)))
            node.wait_for(process, packets=140)
            assert "ingress" in veth.tc("qdisc", "show", "dev", c)
            assert stop(process) == 0
        assert veth.tc("qdisc", "show", "dev", c).count("ingress") == 1


def test_a_namespace_whose_name_is_no_text_is_watched_also_by_the_next_producer(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    name = f"odd{os.getpid()}-{time.monotonic_ns()}-".encode() + b"\xff\\" + b"x" * 150
    with namespace(name), veth.pair() as (a, b):
        quiet = "for each in all default; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done"
        subprocess.run(["ip", "netns", "exec", name, "sh", "-c", quiet], check=True)
        veth.ip("link", "set", b, "netns", os.fsdecode(name))
        for command in (("link", "set", b, "arp", "off", "up"), ("link", "set", "lo", "up")):
            veth.ip("-n", os.fsdecode(name), *command)
        settings = {"capture_namespaces": "true", "capture_epoch_ms": 100}
        with cleaned(Node(tmp_path, bpffs, kafka_broker, f"{a},{name[:5].decode()}*/aya*", **settings)) as node:
            process = node.start()
            until(lambda: len(node.health().get("interfaces", ())) == 2, node.output.read_text)
            shown = next(each for each in node.health()["interfaces"] if each != a)
            assert shown.isprintable()
            assert shown.endswith(f"/{b}")
            assert "-\\xff\\\\xxx" in shown
            veth.send(a, *(octets for octets, _ in frames(70)))
            node.wait_for(process, packets=140)
            process = node.killed_and_started(process)
            assert node.health()["interfaces"] == [a, shown]
            veth.send(a, *(octets for octets, _ in frames(70)))
            node.wait_for(process, packets=140)
            assert stop(process) == 0
            found = by_flow([Codec().decode_packet_batch(value) for value in batches_of(kafka_broker, node)])
            assert {key[0] for key, unit in found if unit == "packets"} == {a, shown}
            assert sum(packets for (_, unit), packets in found.items() if unit == "packets") == 280
            assert "Traceback" not in node.output.read_text()
