"""What Kafka loses is told, and a topic that is made anew is not taken for the old one. Real Kafka and ClickHouse."""

import asyncio
import contextlib
import signal
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiokafka
import pytest
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings, KafkaSettings
from console.audit.read import Range
from schemas.topics import topics
from streams.kafka.offsets import METADATA, KafkaOffsets
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.clickhouse import ClickHouseStore
from tests.fix_local import WRITER
from tests.integration.fix_streams import Pipeline, pipeline
from tests.integration.test_recovery import Node
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


def remove_all(p: Pipeline) -> int:
    """Remove what is in the topic, as retention does. Returns the offset behind it."""
    admin = AdminClient({"bootstrap.servers": p.kafka})
    (answer,) = admin.delete_records([TopicPartition(p.topics.packets, 0, -1)]).values()
    return int(answer.result(HANG_SECONDS).low_watermark)


def until_the_clock(node: Node) -> Range:
    """A range up to its newest epoch: nothing comes of it any more, and it has not ended."""
    return Range(until=datetime.fromtimestamp(node.clock / SECOND, UTC))


def until_acknowledged(p: Pipeline, offset: int) -> None:
    offsets = KafkaOffsets(KafkaSettings(bootstrap_servers=p.kafka), group=p.database, topic=p.topics.packets)
    try:
        p.until(lambda: offsets.begin(0).committed >= offset)
    finally:
        offsets.close()


def test_messages_that_go_while_streams_is_stopped_are_a_counted_loss(
    kafka_broker: str, clickhouse_server: str
) -> None:
    node = Node("n1", int(time.time()) // 10 * 10 - 600, 11)
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([each for _ in range(10) for each in node.batches()])
        p.send([node.end()])
        kept = node.packets
        p.until(lambda: p.stored_packets() == kept)
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == 10)
        assert p.audit(until_the_clock(node))[0] == 0
        p.stop()
        node.clock += 120 * SECOND
        p.send([each for _ in range(10) for each in node.batches()])
        behind = remove_all(p)
        lost = node.packets - kept
        p.send([*(each for _ in range(10) for each in node.batches()), node.end()])
        p.start()
        p.until(lambda: p.stored_packets() == node.packets - lost)
        p.until(lambda: p.count("SELECT count() FROM losses FINAL") == 1)
        ((kind, start, end, messages),) = p.query("SELECT kind, gap_start, gap_end, lost FROM losses FINAL")
        assert (kind, end, messages) == ("messages", behind, behind - start)
        assert messages >= 10
        assert p.metric("ayaflow_streams_lost_messages_total") == messages
        assert "removed from Kafka" in p.output
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == 20)
        code, report = p.audit()
        assert (code, report["exact"]) == (1, False)
        assert [(loss["kind"], loss["lost"]) for loss in report["losses"]] == [("messages", messages)]
        assert "were removed from Kafka" in report["message"]
        assert p.stop() == 0


def test_what_a_worker_acknowledged_is_known_as_that(kafka_broker: str) -> None:
    topic = f"acknowledged_{uuid.uuid4().hex}"
    places = [aiokafka.TopicPartition(topic, number) for number in range(8)]

    async def acknowledge() -> None:
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=kafka_broker, group_id=topic, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(places)
            await consumer.commit({place: OffsetAndMetadata(7, METADATA) for place in places[1:]})
            await consumer.commit({places[0]: OffsetAndMetadata(7, "set by somebody's tool")})
        finally:
            await consumer.stop()

    admin = AdminClient({"bootstrap.servers": kafka_broker})
    admin.create_topics([NewTopic(topic, len(places), 1)])[topic].result(HANG_SECONDS)
    try:
        asyncio.run(acknowledge())
        offsets = KafkaOffsets(KafkaSettings(bootstrap_servers=kafka_broker), group=topic, topic=topic)
        with contextlib.closing(offsets):
            found = [(begin.committed, begin.ours) for begin in map(offsets.begin, range(len(places)))]
    finally:
        admin.delete_topics([topic])[topic].result(HANG_SECONDS)
    assert found == [(7, False)] + [(7, True)] * (len(places) - 1)


def test_messages_that_somebody_moves_the_group_over_are_a_counted_loss(
    kafka_broker: str, clickhouse_server: str
) -> None:
    node = Node("n1", int(time.time()) // 10 * 10 - 600, 11)
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([each for _ in range(10) for each in node.batches()])
        p.until(lambda: p.count("SELECT max(kafka_offset_end) FROM flows") > 0)
        until_acknowledged(p, 1)
        p.stop()
        p.start()  # where it ended: nothing is lost
        p.send([each for _ in range(5) for each in node.batches()])
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == 15)
        assert p.count("SELECT count() FROM losses") == 0
        p.stop()
        skipped = [each for _ in range(5) for each in node.batches()]
        p.send(skipped)
        moved = move_behind_all(p)
        stored = p.count("SELECT max(kafka_offset_end) FROM flows")
        p.send([*(each for _ in range(10) for each in node.batches()), node.end()])
        p.start()
        p.until(lambda: p.count("SELECT count() FROM losses FINAL") == 1)
        ((kind, start, end, messages),) = p.query("SELECT kind, gap_start, gap_end, lost FROM losses FINAL")
        assert (kind, start, end, messages) == ("messages", stored, moved, moved - stored)
        assert messages >= len(skipped)
        assert "somebody moved the consumer group over messages that were not read" in p.output
        p.until(lambda: p.count("SELECT max(epoch) FROM ledger") >= 30)
        code, report = p.audit()
        assert (code, report["exact"]) == (1, False)
        assert "or somebody moved the consumer group over them" in report["message"]
        assert p.stop() == 0


def move_behind_all(p: Pipeline) -> int:
    """Set the group's offset of an empty group to the end of the topic, as Kafka's tools do. Returns it."""
    settings = KafkaSettings(bootstrap_servers=p.kafka)
    consumer = kafka.consumer(settings, group=p.database, ours=kafka.PEEKING)
    _, end = consumer.get_watermark_offsets(TopicPartition(p.topics.packets, 0), timeout=HANG_SECONDS)
    consumer.close()
    wanted = ConsumerGroupTopicPartitions(p.database, [TopicPartition(p.topics.packets, 0, end)])
    admin = kafka.admin(settings)
    (answer,) = admin.alter_consumer_group_offsets([wanted]).values()
    assert not [each.error for each in answer.result(HANG_SECONDS).topic_partitions if each.error]
    return end


def test_messages_that_go_under_a_running_streams_are_told_with_the_events_in_them(
    kafka_broker: str, clickhouse_server: str
) -> None:
    begin = (int(time.time()) // 10 * 10 - 600) * SECOND

    def second(n: int) -> list[Packet]:
        return [Packet(time_ns=begin + n * SECOND + i, src_port=1000 + i, packets=2, epoch=n + 1) for i in range(7)]

    with pipeline(kafka_broker, clickhouse_server, streams_node_timeout_seconds="600") as p:
        p.start()
        sent = [
            batch(
                second(n),
                ring_start=n * 7 * STRIDE,
                clock_ns=begin + (n + 1) * SECOND,
                counters=counters(n + 1, second(n), start_ns=begin + n * SECOND, end_ns=begin + (n + 1) * SECOND),
            )
            for n in range(40)
        ]
        p.send(sent[:3])
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == 3)
        count, lost = 3, 0
        while not lost:  # a request that waits at the broker may still bring what comes while streams is stopped
            p.processes[-1].send_signal(signal.SIGSTOP)
            try:
                p.send(sent[count : count + 1])
                time.sleep(0.5)
                p.send(sent[count + 1 : count + 3])
                behind = remove_all(p)
            finally:
                p.processes[-1].send_signal(signal.SIGCONT)
            p.send(sent[count + 3 : count + 5])
            count += 5

            def all_told(count: int = count) -> bool:
                lost = p.metric("ayaflow_streams_lost_messages_total")
                return p.metric("ayaflow_streams_batches_total") + lost == count

            p.until(all_told)
            lost = int(p.metric("ayaflow_streams_lost_messages_total"))
        p.send([batch([], ring_start=count * 7 * STRIDE, clock_ns=begin + 60 * SECOND)])
        p.until(lambda: p.count("SELECT count() FROM losses FINAL") == 2)
        p.until(lambda: p.stored_packets() == (count - lost) * 7 * 2)
        first = behind - lost
        assert p.query("SELECT kind, node, gap_start, gap_end, lost FROM losses FINAL ORDER BY kind") == [
            ("messages", "", first, behind, lost),
            ("events", "n1", first * 7 * STRIDE, behind * 7 * STRIDE, 7 * lost),
        ]
        assert p.metric("ayaflow_streams_lost_events_total") == 7 * lost
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == count - lost)
        code, report = p.audit()
        assert code == 1
        assert f"n1: {7 * lost} events of the ring never came" in report["message"]
        until_acknowledged(p, behind)
        assert p.stop() == 0


def test_a_time_in_which_nothing_was_counted_is_not_exact(kafka_broker: str, clickhouse_server: str) -> None:
    node = Node("n1", int(time.time()) // 10 * 10 - 600, 11)
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([each for _ in range(10) for each in node.batches()])
        clock = node.clock
        idle = (clock - 7 * SECOND, clock - SECOND)
        p.send([replace(node.end(), idle_start_ns=idle[0], idle_end_ns=idle[1])])
        p.until(lambda: p.stored_packets() == node.packets)
        p.until(lambda: p.count("SELECT count() FROM losses FINAL") == 1)
        assert p.query("SELECT kind, node, gap_start, gap_end, lost FROM losses") == [("idle", "n1", *idle, None)]
        code, report = p.audit()
        assert (code, report["exact"]) == (1, False)
        assert "n1: nothing was counted from" in report["message"]
        begin = datetime.fromtimestamp(clock / SECOND, UTC)
        for since, until, told in ((-30, -8, False), (-30, -6, True), (-2, 30, True), (0, 30, False)):
            span = Range(since=begin + timedelta(seconds=since), until=begin + timedelta(seconds=until))
            assert ("nothing was counted" in p.audit(span)[1]["message"]) == told, (since, until)
        assert p.stop() == 0


def test_a_topic_that_is_made_anew_begins_afresh(kafka_broker: str, clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 600
    first, second = Node("n1", begin, 12), Node("n1", begin, 13)  # the same windows, the same offsets
    with pipeline(kafka_broker, clickhouse_server) as p:
        settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=p.prefix, partitions=1)
        p.start()
        p.send([*(each for _ in range(20) for each in first.batches()), first.end()])
        p.until(lambda: p.stored_packets() == first.packets)
        p.until(lambda: p.count("SELECT uniqExact(epoch) FROM ledger") == 20)
        p.stop()
        old = kafka.topic_id(settings, p.topics.packets)
        admin = AdminClient({"bootstrap.servers": kafka_broker})
        admin.delete_topics([p.topics.packets])[p.topics.packets].result(HANG_SECONDS)

        def made_anew() -> bool:
            try:
                kafka.create_missing(settings, topics(settings))
                return kafka.topic_id(settings, p.topics.packets) != old
            except ServiceUnavailable:  # its deletion takes a moment, and so does its making
                return False

        until(made_anew)
        p.start()
        others = [each for _ in range(20) for each in second.batches()]
        p.send([of_ring(each, 8) for each in [*others, second.end()]])
        p.until(lambda: p.stored_packets() >= first.packets + second.packets)
        p.until(lambda: p.count("SELECT uniqExact(ring_id, epoch) FROM ledger") == 40)
        assert p.stored_packets() == first.packets + second.packets
        assert p.count("SELECT uniqExact(topic_id) FROM flows") == 2
        assert p.count("SELECT sum(packets + packets_rev) FROM services_1m") == first.packets + second.packets
        code, report = p.audit(until_the_clock(second))
        assert (code, report["exact"]) == (0, True), report["message"]
        assert p.stop() == 0


def of_ring(made: Any, ring_id: int) -> Any:
    return replace(made, ring_id=ring_id)


def test_rows_from_before_topics_had_an_identity_count_as_stored(clickhouse_server: str) -> None:
    database = f"ayaflow_{time.time_ns()}"
    start = int(time.time()) // 10 * 10
    store = ClickHouseStore(ClickHouseSettings(url=clickhouse_server, **WRITER, database=database), "packets")
    try:
        before, now = KafkaPartition(0, 3), KafkaPartition(77, 3)
        window = WindowId(start, 10)
        store.insert(flows(1, window), before, 0, 40)
        assert store.revisions(now, window) == [(0, 40)]
        store.insert(store.rows(now, window, 0), now, 0, 40)  # once more under its name: it is there
        store.insert(flows(1, window), now, 1, 50)
        store.insert(flows(1, window), now, 1, 60)
        assert store.revisions(now, window) == [(0, 40), (1, 50)]
        assert store.revisions(KafkaPartition(78, 3), window) == [(0, 40)]
        assert store.stored_until(now) == 50
        assert store.stored_until(KafkaPartition(78, 3)) == 0
    finally:
        store.close()
