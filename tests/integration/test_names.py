"""Names from Kafka to ClickHouse: on flows, and in tables of their own, exactly once whoever is killed."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from common.clickhouse import connect
from common.settings import ClickHouseSettings
from schemas.flows import Loss
from schemas.names import NAME_KINDS, NAME_STATUSES, NameBatch
from streams.names.partition import INSERT_SECONDS, Block, Extents, NamePartition
from streams.names.storing import NameStore, Stored, store_block
from streams.names.testing import MemoryNames
from streams.partition.storing import KafkaPartition
from streams.store.names import ClickHouseNames
from tests.fix_local import (
    WRITER,
    WRITER_SETTINGS,
    clickhouse_answers,
    running_clickhouse,
    start,
    stop,
    temporary_directory,
    until,
)
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch
from tests.unit.streams.names import node as made
from tests.unit.streams.windowing.test_naming import DNS, SNI, Named, named

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

NOW = int(time.time()) // 10 * 10 - 600
ENDS = {"src": "10.0.0.1", "dst": "192.0.2.7", "src_port": 40_000, "dst_port": 443, "direction": 1}


def send_names(p: Pipeline, *messages: NameBatch | bytes, partition: int = 0) -> None:
    for each in messages:
        value = each if isinstance(each, bytes) else p.codec.encode_name_batch(each)
        p.producer.produce(p.topics.names, value=value, key=b"n1", partition=partition)
    assert p.producer.flush(30) == 0


def test_names_stand_on_flows_in_the_table_and_in_the_topic(kafka_broker: str, clickhouse_server: str) -> None:
    def message(number: int, at: float, name: Named) -> Any:
        packet: dict[str, Any] = {"time_ns": int((NOW + at) * SECOND), **ENDS}
        sent = batch([Packet(**packet)], ring_start=number * STRIDE, clock_ns=packet["time_ns"] + 1)
        return named(sent, [name]) if name.domain else sent

    early, good = (
        Named("cdn.example", DNS, 3),
        Named("www.example", SNI, 1, "t13d1516h2_8daaf6152771_02713d6af862", "h2"),
    )
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([message(0, 0, Named()), message(1, 0.5, early), message(2, 1, good), message(3, 1.5, early)])
        p.send([batch([], ring_start=4 * STRIDE, clock_ns=(NOW + 60) * SECOND)])
        p.until(lambda: p.stored_packets() == 4)
        p.send([message(4, 1.6, early), batch([], ring_start=5 * STRIDE, clock_ns=(NOW + 61) * SECOND)])  # late
        p.until(lambda: p.stored_packets() == 5)
        columns = "domain, toString(domain_source), domain_count, ja4, alpn"
        stored = p.query(f"SELECT {columns}, record_id FROM flows ORDER BY revision")
        assert [row[:-1] for row in stored] == [
            ("www.example", "sni", 1, good.ja4, "h2"),
            ("cdn.example", "dns", 3, "", ""),
        ]
        p.until(lambda: len(p.messages(p.topics.flows)) == 2)
        records = p.codec.decode_flow_records([each.value() for each in p.messages(p.topics.flows)]).rows.to_pylist()
        assert [
            tuple(record[name] for name in ("domain", "domain_source", "domain_count", "ja4", "alpn", "record_id"))
            for record in records
        ] == stored
        assert p.stop() == 0


@pytest.mark.wide
def test_names_that_are_refused_hold_up_no_others_and_are_stored_in_the_end(
    kafka_broker: str, clickhouse_server: str
) -> None:
    node = made.Node()

    def send(p: Pipeline) -> None:
        node.acknowledge()
        node.ask()
        sent = node.send()
        send_names(p, replace(sent, base_ns=NOW * SECOND, clock_ns=NOW * SECOND))

    def hosts(p: Pipeline) -> list[str]:
        return [name for (name,) in p.query("SELECT name FROM names ORDER BY name")]

    short = "from streams.worker.output import refusals; refusals.BRING_IN_SECONDS = 1.0\n"
    with pipeline(kafka_broker, clickhouse_server, prelude=short) as p:
        p.start()
        send(p)
        p.until(lambda: p.count("SELECT count() FROM names") == 1)
        p.command("ALTER TABLE names ADD CONSTRAINT two CHECK name != 'host2.example'")
        send(p)
        columns = "refused_by, nodes, records, packets, brought_in"
        p.until(lambda: p.query(f"SELECT {columns} FROM refused FINAL") == [("names", ["n1"], 1, 0, 0)])
        send(p)
        p.until(lambda: hosts(p) == ["host1.example", "host3.example"])
        p.until(lambda: "is violated" in str(p.health()["names"]["troubles"]))
        assert "row(s) of names" in p.audit()[1]["message"]
        p.stop(signal.SIGKILL)
        p.command("ALTER TABLE names DROP CONSTRAINT two")
        p.start()
        send(p)
        p.until(lambda: hosts(p) == [f"host{number}.example" for number in (1, 2, 3, 4)])
        p.until(lambda: p.query("SELECT brought_in FROM refused FINAL") == [(1,)])
        p.until(lambda: not p.health()["names"]["troubles"])
        assert "row(s) of names" not in p.audit()[1]["message"]
        assert p.stop() == 0


class World:
    """A node whose producer dies now and then, and what it sent."""

    def __init__(self, seed: int) -> None:
        self.random, self.node, self.messages = random.Random(seed), made.Node(), 0

    def message(self) -> NameBatch:
        self.node.acknowledge()
        if self.random.random() < 0.1:
            self.node.kill()
        for _ in range(self.random.randint(1, 40)):
            epoch = 1 + self.messages // 3
            if self.random.random() < 0.8:
                self.node.ask(epoch=epoch)
            else:
                self.node.noise(epoch=epoch)
        self.messages += 1
        return self._dated(self.node.send(expire=self.random.random() < 0.1))

    def last(self) -> NameBatch:
        self.node.acknowledge()
        return self._dated(self.node.send(expire=True))

    def _dated(self, message: NameBatch) -> NameBatch:
        base_ns = (NOW + self.messages) * SECOND
        return replace(message, base_ns=base_ns, clock_ns=base_ns)

    def check(self, p: Pipeline) -> None:
        want = Counter(f"host{copy.number}.example" for copy in self.node.ring if copy.what == "answer")
        p.until(lambda: p.count("SELECT sum(count) FROM names WHERE rcode = 0") >= sum(want.values()))
        p.until(lambda: p.count("SELECT sum(copies) FROM names_ledger") >= len(self.node.ring))
        stored = dict(p.query("SELECT name, sum(count) FROM names WHERE rcode = 0 GROUP BY name"))
        assert stored == want
        by_epoch = "SELECT e, sum(n) FROM names_ledger ARRAY JOIN epochs AS e, epoch_copies AS n GROUP BY e"
        assert dict(p.query(by_epoch)) == self.node.copied
        ends = " + ".join(
            [*(f"{status}_copies" for status in NAME_STATUSES), "unused_copies", "lost_copies", "missing_copies"]
        )
        assert p.query(
            f"SELECT count() FROM names_ledger WHERE open_before_copies + copies != {ends} + open_copies"
        ) == [(0,)]
        assert p.query("SELECT sum(abs(missing_copies)) FROM names_ledger") == [(0,)]
        told = p.query("SELECT sum(transactions), sum(named_copies) FROM names_ledger")
        assert told == p.query("SELECT sum(count), sum(copies) FROM names")
        assert p.query("SELECT * FROM losses") == []
        self._audit(p)

    def _audit(self, p: Pipeline) -> None:
        """The audit says the same, of the kernel's counters, too; and what is wrong, when something is."""
        columns = (
            "node, ring_id, epoch, start_time, end_time, inspected_packets, copied_packets, skipped_ring_full_packets"
        )
        rows = ", ".join(
            f"('n1', 7, {epoch}, {NOW + epoch}, {NOW + epoch + 1}, {copies + 3}, {copies}, 3)"
            for epoch, copies in self.node.copied.items()
        )
        p.command(f"INSERT INTO ledger ({columns}) VALUES {rows}")
        (found,) = p.audit()[1]["names"]
        total = len(self.node.ring)
        assert (found["copied"], found["read"], found["in_flight"]) == (total, total, 0)
        assert found["inspected"] == total + found["skipped_ring_full"] == total + 3 * len(self.node.copied)
        wrong = ("kernel", "missing", "surplus", "unexplained", "differing")
        assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
        assert found["transactions"] == p.count("SELECT sum(count) FROM names")
        second = "SELECT DISTINCT kafka_offset_start FROM names ORDER BY 1 LIMIT 1 OFFSET 1"
        p.command(f"ALTER TABLE names DELETE WHERE kafka_offset_start = ({second}) SETTINGS mutations_sync = 1")
        p.command(
            "INSERT INTO ledger (node, ring_id, epoch, end_time, inspected_packets, copied_packets, seen_packets) "
            f"VALUES ('n1', 7, 1, {NOW + 2}, {self.node.copied[1] + 12}, {self.node.copied[1] + 5}, 1)"
        )
        code, told = p.audit()
        (found,) = told["names"]
        assert (found["kernel"], found["missing"]) == (7, 5)
        assert found["differing"] > 0
        assert (code, told["differs"]) == (1, True)
        assert "n1: names: 5 copies of packets never came to streams" in told["message"]


def test_killed_workers_and_a_killed_clickhouse_change_no_name(kafka_broker: str) -> None:
    world = World(1)
    with (
        temporary_directory() as directory,
        running_clickhouse(directory) as (url, server),
        pipeline(kafka_broker, url) as p,
    ):
        enough = threading.Event()

        def produce() -> None:
            while not enough.wait(0.2):
                send_names(p, world.message())

        thread = threading.Thread(target=produce)
        thread.start()
        again = None
        try:
            for kill in (p.stop, p.stop, server.kill):
                p.start()
                before = p.count("SELECT sum(count) FROM names")
                p.until(lambda before=before: p.count("SELECT sum(count) FROM names") > before)  # type: ignore[misc]
                if kill == p.stop:
                    p.stop(signal.SIGKILL)
                else:
                    kill()
                    server.wait()
            p.until(lambda: not p.health()["ok"])
            again = start("clickhouse", directory, clickhouse__url=url, **WRITER_SETTINGS)
            until(lambda: clickhouse_answers(url), again, directory / "clickhouse.out")
        finally:
            enough.set()
            thread.join()
        try:
            send_names(p, world.last())
            world.check(p)
            p.until(lambda: bool(p.health()["ok"]))
            assert p.stop() == 0
        finally:
            stop(again)


def test_what_is_no_name_batch_is_set_aside_and_holds_nothing_up(kafka_broker: str, clickhouse_server: str) -> None:
    node = made.Node()
    node.ask()
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        send_names(p, b"hello", node.send(), p.codec.encode_packet_batch(batch([])))
        p.until(lambda: p.count("SELECT sum(count) FROM names") == 1)
        p.until(lambda: len(p.messages(p.topics.dead_letter)) == 2)
        sources = {dict(each.headers())["source-topic"].decode() for each in p.messages(p.topics.dead_letter)}
        assert sources == {p.topics.names}
        assert p.health()["names"]["dead_letters"] == 2
        assert p.stop() == 0


@pytest.fixture
def settings(clickhouse_server: str) -> Iterator[ClickHouseSettings]:
    found = ClickHouseSettings(url=clickhouse_server, **WRITER, database=f"ayaflow_n_{time.time_ns()}")
    yield found
    client = connect(found, database="default", timeout_seconds=60)
    client.command(f"DROP DATABASE IF EXISTS {found.database} SYNC")
    client.close()


@pytest.fixture(params=["memory", "ClickHouse"])
def store(request: pytest.FixtureRequest, settings: ClickHouseSettings) -> Iterator[NameStore]:
    if request.param == "memory":
        yield MemoryNames()
        return
    real = ClickHouseNames(settings, "t.names")
    yield real
    real.close()


def blocks(*, ends: tuple[int, ...]) -> list[Block]:
    """The same messages, in blocks that end there."""
    node, state, found = made.Node(), NamePartition(2, position=0, window_seconds=10, topic_id=5), []
    now = time.time()
    for offset in range(max(ends)):
        node.ask()
        state.take(offset, int(now), node.send(), now)
        if offset + 1 in ends:
            block = state.due(now + INSERT_SECONDS)
            assert block is not None
            found.append(block)
            state.stored(block, offset + 1)
    return found


def test_the_first_of_a_name_counts(store: NameStore) -> None:
    source = KafkaPartition(5, 2)
    (first,), (second,) = blocks(ends=(3,)), blocks(ends=(5,))
    assert not store.blocks(source, 0)
    assert store.end(source, 0) is None
    assert not store.has(first)
    assert store_block(first, store) == Stored(3, 3)
    assert store_block(second, store) == Stored(3, 0), "of the same first message"
    assert store_block(replace(first, decided=True), store) == Stored(3, 0)
    assert store_block(first, store).end == 3
    assert store.has(first)
    assert store.blocks(source, 0) == store.blocks(source, 2) == [Extents(0, 3)]
    assert (
        store.blocks(source, 3) == store.blocks(KafkaPartition(5, 3), 0) == store.blocks(KafkaPartition(6, 2), 0) == []
    )


def test_a_block_that_was_decided_and_not_written_is_written_by_whoever_comes_next(store: NameStore) -> None:
    first, second = blocks(ends=(2, 4))
    for block in (first, second):
        store.decide(block)
        assert not store.has(block)
        assert store_block(replace(block, decided=True), store) == Stored(block.messages.end, 2)
        assert store.has(block)


def test_a_row_of_the_table_has_what_the_message_says(settings: ClickHouseSettings) -> None:
    store = ClickHouseNames(settings, "t.names")
    row = {
        "name": "www.example", "kind": NAME_KINDS.index("quic"), "status": NAME_STATUSES.index("encrypted"),
        "qtype": 65, "rcode": 3, "latency_us": 70, "ttl": 9, "answers": "b.example 2001:db8::1", "ja4": 0, "alpn": 0,
        "ech": 2, "row_count": 2, "row_copies": 4, "server_port": 8443,
    }  # fmt: skip
    state, now = NamePartition(2, position=0, window_seconds=10, topic_id=2**64 - 1), time.time()
    message = made.batch([row, {**row, "name": "", "answers": ""}], copies=8, ja4s=("q13d",), alpns=("h3",))
    state.take(0, int(now), message, now)
    block = state.due(now + INSERT_SECONDS)
    assert block is not None
    store_block(block, store)
    state.losses.messages(0, 7, now)
    losses: list[Loss] = state.losses.waiting()
    store.insert_losses(losses, state.source)
    store.close()
    client = connect(settings, database=settings.database, timeout_seconds=60)
    columns = (
        "toUnixTimestamp(window_begin), window_seconds, node, toString(kind), toString(status), toString(client), "
        "toString(server), server_port, name, qtype, rcode, ja4, alpn, toString(ech), count, latency_count, "
        "latency_us_sum, latency_us_max, ttl, answers, copies"
    )
    found = [tuple(each) for each in client.query(f"SELECT {columns} FROM names ORDER BY name").result_rows]
    same = ("n1", "quic", "encrypted", "::ffff:10.0.0.1", "::ffff:10.0.0.53", 8443)
    more = (65, 3, "q13d", "h3", "real", 2, 2, 140, 70, 9)
    assert found == [
        (made.START, 10, *same, "", *more, [], 4),
        (made.START, 10, *same, "www.example", *more, ["b.example", "2001:db8::1"], 4),
    ]
    assert client.query("SELECT toString(kind), lost FROM losses").result_rows == [("names", 7)]
    client.close()
