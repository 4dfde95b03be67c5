"""Nothing is lost or counted twice when the streams app is killed, ClickHouse is away, or Kafka comes late."""

import random
import re
import signal
import threading
import time
from collections import Counter
from datetime import datetime, timedelta

import pytest

from common.logs import EVERY_SECONDS
from schemas.packets import PacketBatch
from tests.fix_local import (
    WRITER_SETTINGS,
    clickhouse_answers,
    free_port,
    kafka_answers,
    running_clickhouse,
    start,
    stop,
    temporary_directory,
    until,
)
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, coalesced, counters

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


class Node:
    """A producer of random packets in event time, some of them added up; some are late, some batches sent twice."""

    def __init__(self, name: str, begin: int, seed: int) -> None:
        self.name, self.random = name, random.Random(seed)
        self.clock, self.position, self.number, self.epoch = begin * SECOND, 0, 0, 1
        self.want: Counter[int] = Counter()  # by window of two seconds
        self.packets = 0
        self.last: PacketBatch | None = None

    def batches(self) -> list[PacketBatch]:
        """Half a second of event time: one batch, or two when it is sent twice."""
        r = self.random
        packets: list[Packet] = []
        added: list[Packet] = []
        for _ in range(r.randint(20, 60)):
            late = r.randint(1, 8) * SECOND if r.random() < 0.02 else 0
            at = self.clock + r.randint(0, SECOND // 2 - 1) - late
            where = added if r.random() < 0.2 else packets
            where.append(
                Packet(
                    time_ns=at,
                    src_port=r.randint(1024, 1100),
                    packets=r.randint(1, 44),
                    bytes=r.randint(60, 64000),
                    protocol=r.choice((6, 17)),
                    direction=r.randint(0, 1),
                    epoch=self.epoch,
                )
            )
            self.want[at // SECOND // 2 * 2] += where[-1].packets
            self.packets += where[-1].packets
        begin, self.clock = self.clock, self.clock + SECOND // 2
        made = batch(
            packets,
            node=self.name,
            ring_start=self.position,
            clock_ns=self.clock,
            counters=counters(self.epoch, packets, start_ns=begin, end_ns=self.clock, coalesced=added),
        )
        sums = coalesced(added, number=self.number, ring_end=self.position, node=self.name)
        self.epoch += 1
        self.position += STRIDE * len(packets)
        self.number += len(added)
        again = [self.last] if self.last and r.random() < 0.1 else []
        self.last = r.choice((made, sums))
        return [sums, made, *again] if added else [made, *again]

    def end(self) -> PacketBatch:
        """A heartbeat that closes all windows."""
        return batch([], node=self.name, ring_start=self.position, clock_ns=self.clock + 60 * SECOND)


def check(p: Pipeline, nodes: list[Node]) -> None:
    """All packets of the nodes are in flows, rollups and ledger, once."""
    want = {(node.name, window): packets for node in nodes for window, packets in node.want.items()}
    p.until(lambda: p.stored_packets() >= sum(want.values()))
    stored = p.query("SELECT node, toUnixTimestamp(window_begin), sum(packets + packets_rev) FROM flows GROUP BY 1, 2")
    assert {(node, window): packets for node, window, packets in stored} == want
    # a rollup gets its rows a moment after its table
    p.until(lambda: p.count("SELECT sum(packets + packets_rev) FROM services_1m") == sum(want.values()))
    p.until(lambda: p.count("SELECT sum(packets + packets_rev) FROM flows_1h") == sum(want.values()))
    epochs = sum(node.epoch - 1 for node in nodes)
    p.until(lambda: p.count("SELECT uniqExact(node, epoch) FROM ledger") == epochs)
    p.until(lambda: p.count("SELECT sum(arraySum(consumed_packets)) FROM ledger FINAL") == sum(want.values()))
    wrong = "emitted_packets + coalesced_packets != arraySum(consumed_packets)"
    assert p.query(f"SELECT count() FROM ledger FINAL WHERE {wrong}") == [(0,)]
    assert p.count("SELECT sum(coalesced_packets) FROM ledger FINAL") > 0
    assert p.query("SELECT * FROM losses") == []
    per_window = p.query(
        "SELECT toUnixTimestamp(w), sum(n) FROM ledger FINAL "
        "ARRAY JOIN consumed_windows AS w, consumed_packets AS n GROUP BY w"
    )
    by_window: Counter[int] = Counter()
    for (_, window), packets in want.items():
        by_window[window] += packets
    assert dict(per_window) == by_window


def assert_trouble_is_told_by_time(output: str) -> None:
    """Every line is one of our log's (no library writes past it), and none repeats within the minute."""
    last: dict[str, datetime] = {}
    for line in output.splitlines():
        stamp, level, text = line.split(maxsplit=2)
        at, about = datetime.fromisoformat(stamp), re.split(r" error=| \[", text)[0]
        if level in {"WARNING", "ERROR"}:
            # by the stamps, which are a little later than the clock that was asked
            assert about not in last or at - last[about] > timedelta(seconds=EVERY_SECONDS / 2), output
            last[about] = at
    assert "streams: trying again until it works service=a broker of Kafka" in last


def test_killed_workers_change_no_total(kafka_broker: str, clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    nodes = [Node("n1", begin, 1), Node("n2", begin, 2), Node("n3", begin, 3)]
    with pipeline(kafka_broker, clickhouse_server, partitions=2) as p:
        enough, done = threading.Event(), threading.Event()

        def produce() -> None:
            while not enough.wait(0.05 if nodes[0].epoch < 30 else 0.5) or nodes[0].epoch < 30:
                for i, node in enumerate(nodes):
                    p.send(node.batches(), partition=i % 2)
            for i, node in enumerate(nodes):
                p.send([node.end()], partition=i % 2)
            done.set()

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            for _ in range(2):
                p.start()
                for _ in range(3):
                    before = p.stored_packets()
                    p.until(lambda before=before: p.stored_packets() > before)  # type: ignore[misc]
                p.stop(signal.SIGKILL)
            p.start()
        finally:
            enough.set()
            thread.join()
        assert done.is_set()
        check(p, nodes)
        assert p.stop() == 0


@pytest.mark.wide  # as in tests/faults/test_short.py, which has two workers
def test_two_workers_share_the_partitions_and_one_dies(kafka_broker: str, clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    nodes = [Node("n1", begin, 4), Node("n2", begin, 5)]
    with pipeline(kafka_broker, clickhouse_server, partitions=2) as p:
        p.start()
        p.send([each for _ in range(20) for each in nodes[0].batches()], partition=0)
        p.until(lambda: p.stored_packets() > 0)
        first, metrics = p.processes[-1], p.metrics
        p.settings["streams_metrics_listen"] = "127.0.0.1:0"
        p.start()  # joins the group: the partitions are divided while windows are open
        for _ in range(20):
            for i, node in enumerate(nodes):
                p.send(node.batches(), partition=i)
            time.sleep(0.05)
        first.kill()
        first.wait()
        for i, node in enumerate(nodes):
            p.send([*(each for _ in range(20) for each in node.batches()), node.end()], partition=i)
        check(p, nodes)
        assert p.stop() == 0
        assert metrics


def test_a_changed_window_length_counts_nothing_twice(kafka_broker: str, clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    node = Node("n1", begin, 8)
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([each for _ in range(30) for each in node.batches()])
        p.until(lambda: p.stored_packets() > node.packets * 0.7)
        p.stop(signal.SIGKILL)
        p.settings["streams_window_seconds"] = "10"
        p.start()
        p.send([*(each for _ in range(30) for each in node.batches()), node.end()])
        p.until(lambda: p.stored_packets() >= node.packets)
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == node.epoch - 1)
        assert "window length changed" in p.output
        assert p.stored_packets() == node.packets
        assert p.count("SELECT sum(arraySum(consumed_packets)) FROM ledger FINAL") == node.packets
        assert p.query("SELECT DISTINCT window_seconds FROM flows ORDER BY 1") == [(2,), (10,)]
        assert p.stop() == 0


def test_streams_waits_for_a_clickhouse_that_is_away(kafka_broker: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    node = Node("n1", begin, 6)
    with (
        temporary_directory() as directory,
        running_clickhouse(directory) as (url, server),
        pipeline(kafka_broker, url) as p,
    ):
        p.start()
        p.send([each for _ in range(24) for each in node.batches()])
        p.until(lambda: p.stored_packets() > 0)
        server.kill()  # in the middle of inserts
        server.wait()
        p.send([*(each for _ in range(24) for each in node.batches()), node.end()])
        p.until(lambda: p.health().get("clickhouse", "ok") != "ok")
        health = p.health()
        assert not health["ok"]
        assert url in health["clickhouse"]
        again = start("clickhouse", directory, clickhouse__url=url, **WRITER_SETTINGS)
        try:
            until(lambda: clickhouse_answers(url), again, directory / "clickhouse.out")
            check(p, [node])
            p.until(lambda: bool(p.health()["ok"]))
            assert p.stop() == 0
        finally:
            stop(again)


@pytest.mark.wide
def test_streams_waits_for_a_kafka_that_is_away(clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    node = Node("n1", begin, 7)
    address, controller = f"127.0.0.1:{free_port()}", free_port()
    settings = {
        "kafka__bootstrap_servers": address,
        "local__kafka_controller_port": controller,
        "local__kafka_heap_mb": 256,
    }
    with temporary_directory() as directory:
        broker = start("kafka", directory, **settings)
        try:
            until(lambda: kafka_answers(address), broker, directory / "kafka.out")
            with pipeline(address, clickhouse_server) as p:
                p.start()
                p.send([each for _ in range(40) for each in node.batches()])
                p.until(lambda: p.stored_packets() > 0)
                stop(broker)
                p.until(lambda: not p.health()["ok"])
                broker = start("kafka", directory, **settings)
                until(lambda: kafka_answers(address), broker, directory / "kafka.out")
                p.send([*(each for _ in range(40) for each in node.batches()), node.end()])
                check(p, [node])
                p.until(lambda: bool(p.health()["ok"]))
                stop(broker)
                assert p.stop() == 0, p.output[-6000:]  # and it ends when asked though Kafka is away again
                assert_trouble_is_told_by_time(p.output)
        finally:
            if broker.poll() is None:
                stop(broker)


def test_without_kafka_it_says_so_and_ends_when_asked(clickhouse_server: str, kafka_broker: str) -> None:
    with pipeline(kafka_broker, clickhouse_server, kafka_bootstrap_servers="127.0.0.1:9") as p:
        p.start()
        p.until(lambda: "waiting for a service" in p.output)
        assert not p.health()["ok"]
        assert p.stop() == 0
