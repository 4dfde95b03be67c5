"""kill -9 of the producer, and Kafka away: the next one goes on, nothing is lost and nothing is sent twice."""

import contextlib
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.kernel import pins
from schemas.avro.codec import Codec
from schemas.avro.records import decode_record
from schemas.avro.registry import newest
from schemas.packets import PacketBatch
from tests.e2e.fix_producer import Node, batches_of, broker_on, by_flow, check_ledger, frames, once, running, stop
from tests.fix_local import free_port
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka]


class Sender:
    """Sends frames over a pair at a steady rate, and knows how many."""

    def __init__(self, pair: tuple[str, str], rate: int) -> None:
        self._pair, self._rate = pair, rate
        self._frames = frames(700)
        self._rounds = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    @property
    def packets(self) -> int:
        return self._rounds * len(self._frames)

    def sends(self, more: int) -> None:
        """Wait until so many more have been sent."""
        goal = self.packets + more
        until(lambda: self.packets >= goal)

    @property
    def octets(self) -> int:
        return self._rounds * sum(len(octets) for octets, _ in self._frames)

    def wanted(self) -> Counter[Any]:
        """What by_flow must find."""
        found: Counter[Any] = Counter()
        for octets, key in self._frames:
            for interface, direction in zip(self._pair, ("egress", "ingress"), strict=True):
                found[(interface, direction, *key), "packets"] += self._rounds
                found[(interface, direction, *key), "bytes"] += self._rounds * len(octets)
        return found

    def _send(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            veth.send(self._pair[0], *(octets for octets, _ in self._frames))
            self._rounds += 1
            due += len(self._frames) / self._rate
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def sent_to(bootstrap: str, node: Node) -> list[PacketBatch]:
    return [Codec().decode_packet_batch(value) for value in batches_of(bootstrap, node)]


@contextlib.contextmanager
def made(bpffs: Path, tmp_path: Path, bootstrap: str, **settings: object) -> Iterator[tuple[Node, tuple[str, str]]]:
    with veth.pair() as pair:
        node = Node(tmp_path, bpffs, bootstrap, ",".join(pair), capture_epoch_ms=100, **settings)
        try:
            yield node, pair
        finally:
            node.clean()


@pytest.mark.parametrize("detail", ["packet", "flow"])
def test_killed_at_any_moment_nothing_is_lost_or_sent_twice(
    detail: str, kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    dice = random.Random(detail)
    with made(bpffs, tmp_path, kafka_broker, capture_detail=detail) as (node, pair):
        process = node.start()
        node.wait_for(process)
        with Sender(pair, 20_000) as sender:
            for _ in range(4):
                time.sleep(dice.uniform(0.05, 0.8))
                process = node.killed_and_started(process, dice.uniform(0, 0.5))
        assert stop(process) == 0
        assert not hooks(pair[0]) | hooks(pair[1])
        assert not node.pin_directory.exists()
    batches = sent_to(kafka_broker, node)
    assert by_flow(batches) == sender.wanted()
    sums = check_ledger(batches)
    assert sums["seen"] == 2 * sender.packets
    assert sums["coalesced"] == sums["seen"] if detail == "flow" else sums["emitted"] > 0 == sums["ring_full"]
    once(batches)
    assert len({batch.ring_id for batch in batches}) == 1


def test_single_events_of_a_killed_producer_are_all_there_and_can_be_told_apart(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    """Some may come twice: their place in the ring says so."""
    dice = random.Random(7)
    with made(bpffs, tmp_path, kafka_broker, producer_encoding="record") as (node, pair):
        process = node.start()
        node.wait_for(process)
        with Sender(pair, 2_000) as sender:
            for _ in range(4):
                time.sleep(dice.uniform(0.3, 0.8))
                process = node.killed_and_started(process)
        assert stop(process) == 0
    events = [
        decode_record(value[5:], newest("PacketEvent"))
        for value in batches_of(kafka_broker, node, "ayaflow.packet-events")
    ]
    places = {event["ring_position"] for event in events}
    assert len(places) == 2 * sender.packets
    assert places == set(range(0, 80 * len(places), 80))


def test_a_small_ring_that_nobody_reads_loses_nothing(kafka_broker: str, bpffs: Path, tmp_path: Path) -> None:
    """It fills within a tenth of a second; the rest is added up by flow."""
    with made(bpffs, tmp_path, kafka_broker, capture_ring_bytes=1 << 17) as (node, pair):
        process = node.start()
        node.wait_for(process)
        with Sender(pair, 20_000) as sender:
            until(lambda: node.health().get("packets"), node.health)
            process.kill()
            process.wait()
            sender.sends(20_000)
        with running(node) as process:
            assert stop(process) == 0
    batches = sent_to(kafka_broker, node)
    assert by_flow(batches) == sender.wanted()
    sums = check_ledger(batches)
    assert sums["ring_full"] == 0
    assert sums["coalesced"] > 0 < sums["emitted"]
    once(batches)


def test_with_other_settings_what_the_last_producer_left_is_sent_first(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    with made(bpffs, tmp_path, kafka_broker, capture_ring_bytes=1 << 20) as (node, pair):
        process = node.start()
        node.wait_for(process)
        with Sender(pair, 10_000) as sender:
            for size in (1 << 18, 1 << 19):
                until(lambda: node.health().get("packets"), node.health)
                process.kill()
                process.wait()
                node.environment["AYAFLOW_CAPTURE_RING_BYTES"] = str(size)
                process = node.start()
                node.wait_for(process)
        until(lambda: not pins.set_aside_runs(node.pin_directory), node.output.read_text)
        assert stop(process) == 0
        assert not node.pin_directory.exists()
    batches = sent_to(kafka_broker, node)
    assert by_flow(batches) == sender.wanted()
    rings = [batch.ring_id for batch in batches]
    assert rings == sorted(rings)
    assert len(set(rings)) == 3
    for ring in set(rings):
        check_ledger([batch for batch in batches if batch.ring_id == ring])
    once(batches)


def test_while_kafka_is_away_batches_go_to_disk_and_survive_a_kill(bpffs: Path, tmp_path: Path) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    kafka = tmp_path / "kafka"
    kafka.mkdir()
    with made(bpffs, tmp_path, bootstrap, capture_ring_bytes=1 << 18) as (node, pair):
        process = node.start()
        try:
            node.wait_for(process)
            with Sender(pair, 10_000) as sender:
                until(lambda: node.health().get("spool_bytes"), node.health)
                sender.sends(10_000)
                process = node.killed_and_started(process)
                assert node.health()["spool_bytes"] > 0
                with broker_on(bootstrap, kafka):
                    node.wait_for(process, ok=True, spool_bytes=0)
                    sender.sends(5_000)
                    sender.__exit__()
                    assert stop(process) == 0
                    batches = sent_to(bootstrap, node)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert by_flow(batches) == sender.wanted()
    assert check_ledger(batches)["ring_full"] == 0
    once(batches)


def test_a_producer_that_stops_while_kafka_is_away_leaves_its_batches_to_the_next(bpffs: Path, tmp_path: Path) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    kafka = tmp_path / "kafka"
    kafka.mkdir()
    with made(bpffs, tmp_path, bootstrap) as (node, pair):
        with running(node) as process:
            with Sender(pair, 10_000) as sender:
                sender.sends(5_000)
            assert stop(process) == 0
        assert not hooks(pair[0]) | hooks(pair[1])
        assert not node.pin_directory.exists()
        with broker_on(bootstrap, kafka):
            with running(node) as process:
                node.wait_for(process, ok=True, spool_bytes=0)
                assert stop(process) == 0
            batches = sent_to(bootstrap, node)
    assert by_flow(batches) == sender.wanted()
    once(batches)


def idle_times(bootstrap: str, node: Node) -> list[tuple[int, int]]:
    return sorted({(batch.idle_start_ns, batch.idle_end_ns) for batch in sent_to(bootstrap, node) if batch.idle_end_ns})


@pytest.mark.parametrize("how", ["killed", "stopped", "other settings"])
def test_a_time_in_which_the_program_counted_nothing_is_told(
    how: str, kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    with made(bpffs, tmp_path, kafka_broker, capture_orphan_timeout_seconds=5) as (node, pair):
        process = node.start()
        node.wait_for(process)
        began = time.time_ns()
        if how == "stopped":
            process.send_signal(signal.SIGSTOP)
            time.sleep(8)
            veth.send(pair[0], *(octets for octets, _ in frames(70)))
            process.send_signal(signal.SIGCONT)
        else:
            process.kill()
            process.wait()
            time.sleep(8)
            veth.send(pair[0], *(octets for octets, _ in frames(70)))
            if how == "other settings":
                node.environment["AYAFLOW_CAPTURE_RING_BYTES"] = str(1 << 19)
            process = node.start()
            node.wait_for(process)
        until(lambda: idle_times(kafka_broker, node), node.output.read_text)
        assert stop(process) == 0
        assert by_flow(sent_to(kafka_broker, node)) == {}, "the test is of a time in which they are not counted"
        ((start, end),) = idle_times(kafka_broker, node)
        assert began + 3_000_000_000 < start < began + 6_000_000_000
        assert began + 7_000_000_000 < end < time.time_ns()
        assert "nothing was counted" in node.output.read_text()


def test_a_registry_that_is_silent_is_named_and_what_passes_meanwhile_is_counted(
    kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with made(bpffs, tmp_path, kafka_broker, capture_orphan_timeout_seconds=5, schema_registry_url=url) as (
            node,
            pair,
        ):
            process = node.start()
            health = node.wait_for(process, ok=False)
            assert health["last_ack_age_seconds"] is None
            assert f"the schema registry at {url} does not answer" in health["error"]
            time.sleep(6)  # longer than the program counts without a word of us
            veth.send(pair[0], *(octets for octets, _ in frames(70)))
            process.kill()
            process.wait()
            del node.environment["AYAFLOW_SCHEMA_REGISTRY_URL"]
            process = node.start()
            node.wait_for(process, ok=True, packets=140)
            assert stop(process) == 0
        assert check_ledger(sent_to(kafka_broker, node))["seen"] == 140
        assert not idle_times(kafka_broker, node)
