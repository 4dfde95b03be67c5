"""Up to which moment `ayaflow audit` speaks when a part stands still: a real Kafka, streams and ClickHouse."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import admin as kafka_admin
from confluent_kafka.admin import AdminClient

from common.times import iso
from console.audit import model, settled
from console.audit.read import Range, read
from console.store.client import Parameters, Store
from schemas.packets import EpochCounters
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

BEHIND_SECONDS = 2 + 3 + 3  # window_seconds, node_timeout_seconds, and the grace below
PATIENT_SECONDS = 45  # the grace where all is well: a busy machine stores later


class Node:
    """A producer that lives: each beat ends an epoch now."""

    def __init__(self, name: str, ring_id: int = 1) -> None:
        self.name, self.ring_id = name, ring_id
        self.clock, self.position, self.epoch, self.packets = time.time_ns() - SECOND // 4, 0, 1, 0
        self._ends: list[tuple[int, int]] = []  # of epochs: the clock, and packets until then

    def beat(self, p: Pipeline, *, packets: int = 3, partition: int = 0, ended: bool = False) -> None:
        """Send an epoch."""
        begin, self.clock = self.clock, time.time_ns()
        seen = [Packet(time_ns=begin + i, epoch=self.epoch) for i in range(packets)]
        rows = counters(self.epoch, seen, start_ns=begin, end_ns=self.clock) if seen else []
        if ended or not seen:
            end = EpochCounters.nothing(epoch=self.epoch, start_ns=begin, end_ns=self.clock, ended=ended)
            rows.append(end)
        made = batch(
            seen, node=self.name, ring_id=self.ring_id, ring_start=self.position, clock_ns=self.clock, counters=rows
        )
        p.send([made], partition=partition)
        self.epoch, self.position, self.packets = (
            self.epoch + 1,
            self.position + STRIDE * packets,
            self.packets + packets,
        )
        self._ends.append((self.clock, self.packets))

    def had_by(self, moment: float) -> int:
        """Packets in the epochs that ended by then."""
        return max((packets for clock, packets in self._ends if clock / SECOND <= moment), default=0)

    def live(self, p: Pipeline, seconds: float, *, packets: int = 3, partition: int = 0) -> None:
        """Send an epoch each quarter of a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.beat(p, packets=packets, partition=partition)
            time.sleep(0.25)


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "GRACE_SECONDS", 3)


@pytest.fixture
def p(kafka_broker: str, clickhouse_server: str) -> Iterator[Pipeline]:
    with pipeline(kafka_broker, clickhouse_server) as made:
        made.start()
        made.until(lambda: bool(made.health().get("ok")))
        yield made


def live_until_told(p: Pipeline, node: Node) -> bool:
    """Whether the audit says that a node is not settled, while it lives."""
    node.live(p, 1)
    return bool(p.audit()[1]["not_settled"] == [node.name])


def exact(p: Pipeline, node: Node) -> bool:
    """Whether the audit is exact, while the node lives."""
    node.live(p, 0.5)
    return p.audit()[0] == 0


def test_a_running_system_is_exact_up_to_some_seconds_ago_and_an_idle_node_too(
    p: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "GRACE_SECONDS", PATIENT_SECONDS)
    node, idle = Node("n1"), Node("n2")
    p.until(lambda: exact(p, node))
    for _ in range(int(BEHIND_SECONDS * 1.5)):
        node.live(p, 1)
        idle.beat(p, packets=0)
        code, report = p.audit()
        assert code == 0, report["message"]
    assert [one["node"] for one in report["nodes"]] == ["n1", "n2"]
    assert iso(time.time() - BEHIND_SECONDS - PATIENT_SECONDS) <= report["until"] <= iso(time.time())
    assert report["backlog"]["partitions"][0]["read"]
    assert report["heading"] == f"From the first that is kept until {report['until']}; 2 nodes: n1, n2."
    assert p.stop() == 0


class SlowStore(Store):
    """A ClickHouse so slow that what was on its way when the audit began is stored behind its second answer."""

    def __init__(self, p: Pipeline, *nodes: Node) -> None:
        super().__init__(p.audit_settings().clickhouse)
        self._p, self._nodes, self._asked = p, nodes, 0

    def select(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        self._asked += 1
        if self._asked == 1:
            self._p.processes[-1].send_signal(signal.SIGSTOP)
            for node in self._nodes:
                node.live(self._p, 1)
        found = super().select(sql, parameters)
        if self._asked == 2:
            self._p.processes[-1].send_signal(signal.SIGCONT)
            self._p.until(lambda: self._p.stored_packets() == sum(node.packets for node in self._nodes))
        return found


def test_what_comes_while_the_audit_asks_is_neither_called_there_nor_too_much(p: Pipeline) -> None:
    node, new = Node("n1"), Node("n2")
    p.until(lambda: exact(p, node))
    with SlowStore(p, node, new) as store:
        report = model.compare(read(store, Range()))
    assert not report.differs
    for each in (node, new):
        seen = sum(row.seen.packets for row in report.rows if row.place.node == each.name)
        assert seen >= each.had_by(report.until), report
    assert p.stop() == 0


def test_while_streams_is_stopped_all_is_not_settled_since_then_and_exact_when_it_is_back(p: Pipeline) -> None:
    node = Node("n1")
    p.until(lambda: exact(p, node))
    before = p.audit()[1]["settled_until"]
    p.processes[-1].send_signal(signal.SIGSTOP)
    stopped = time.time()
    try:
        node.live(p, BEHIND_SECONDS)
        p.until(lambda: live_until_told(p, node))
        code, report = p.audit()
    finally:
        p.processes[-1].send_signal(signal.SIGCONT)
    assert (code, report["exact"], report["differs"], report["not_settled"]) == (1, False, False, ["n1"])
    assert before <= report["settled_until"] <= iso(stopped + 1)
    assert f"Not settled since {report['settled_until']}: n1: " in report["message"]  # by what it was stopped at
    assert "streams, as asked from here: it does not answer (no answer in time)" in report["message"]
    assert report["backlog"]["oldest_age_seconds"] > BEHIND_SECONDS
    p.until(lambda: exact(p, node))
    assert p.stop() == 0


def test_a_node_that_ended_is_exact_long_after_and_one_that_was_killed_is_not(p: Pipeline) -> None:
    ended, killed = Node("n1"), Node("n2")
    for _ in range(8):
        ended.live(p, 0.5)
        killed.live(p, 0.5)
    ended.beat(p, ended=True)
    end = killed.clock / SECOND
    p.until(lambda: p.stored_packets() == ended.packets + killed.packets)
    time.sleep(BEHIND_SECONDS)
    assert p.audit(Range(node="n1"))[0] == 0
    assert p.audit(Range(node="n1", until=datetime.now(UTC)))[0] == 0
    code, report = p.audit()
    assert (code, report["not_settled"], report["settled_until"]) == (1, ["n2"], iso(end))
    assert {one["node"]: one["standing"] for one in report["nodes"]} == {"n1": "ended", "n2": "live"}
    assert p.audit(Range(until=datetime.fromtimestamp(int(end), UTC)))[0] == 0
    assert p.stop() == 0


def test_a_producer_that_cannot_send_is_not_settled_since_its_last_epoch(p: Pipeline) -> None:
    node = Node("n1")
    p.until(lambda: exact(p, node))
    largest(p, 100)
    refused = time.time()
    node.live(p, BEHIND_SECONDS + 1, packets=500)
    code, report = p.audit()
    assert (code, report["differs"], report["not_settled"]) == (1, False, ["n1"])
    assert report["settled_until"] <= iso(refused)
    assert not any(row["in_flight_packets"] < 0 for row in report["rows"])
    assert p.stop() == 0


def largest(p: Pipeline, octets: int) -> None:
    """What the packets topic takes."""
    api: Any = kafka_admin
    entry = api.ConfigEntry("max.message.bytes", str(octets), incremental_operation=api.AlterConfigOpType.SET)
    resource = api.ConfigResource(api.ResourceType.TOPIC, p.topics.packets, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": p.kafka})  # held until the answer is there
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(HANG_SECONDS)


def test_a_partition_that_nobody_reads_is_named_although_the_ledger_knows_nothing_of_it(p: Pipeline) -> None:
    node = Node("n1")
    p.until(lambda: exact(p, node))
    p.processes[-1].send_signal(signal.SIGSTOP)  # before it can learn of the partition
    try:
        admin = AdminClient({"bootstrap.servers": p.kafka})
        api: Any = kafka_admin
        for answer in admin.create_partitions([api.NewPartitions(p.topics.packets, 2)]).values():
            answer.result(HANG_SECONDS)
        until(lambda: admin.list_topics(timeout=HANG_SECONDS).topics[p.topics.packets].partitions.keys() == {0, 1})
        p.producer = Producer({"bootstrap.servers": p.kafka})  # the other has not heard of the partition
        Node("n9").beat(p, partition=1)
        time.sleep(BEHIND_SECONDS + 1)
        code, report = p.audit()
    finally:
        p.processes[-1].send_signal(signal.SIGCONT)
    assert code == 1
    unread = report["backlog"]["partitions"][1]  # the group may have given up who is stopped, too
    assert (unread["partition"], unread["read"], unread["late"], unread["messages"]) == (1, False, True, 1)
    assert f"partition 1 of {p.topics.packets} has 1 message that nobody has read, the oldest from" in report["message"]
    assert p.stop() == 0


def test_without_kafka_the_audit_says_that_it_knows_the_ledger_alone(
    p: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "GRACE_SECONDS", PATIENT_SECONDS)
    node = Node("n1")
    p.until(lambda: exact(p, node))
    p.kafka = "127.0.0.1:1"
    code, report = p.audit()
    assert (code, report["exact"]) == (0, True)
    assert "Whether Kafka holds more is not known: this is what the ledger proves." in report["message"]
