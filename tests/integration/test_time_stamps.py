"""Time stamps in a real Kafka: whose time they are, and that no clock makes a message vanish or be refused."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from common import kafka
from common.kafka import TIMELESS
from common.settings import KafkaSettings
from producer.kafka.client import open_kafka
from producer.kafka.outbox import Batch, Message
from producer.kafka.publisher import Publisher
from schemas.avro.codec import Codec
from schemas.topics import TopicNames, topics
from streams.kafka.publisher import KafkaPublisher
from streams.partition.storing import KafkaPartition, WindowId
from tests.fix_local import REPOSITORY, environment
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.producer.replay.captures import Frame, pcap
from tests.unit.streams.kafka.test_publisher import STATS
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka

YEAR = 365 * 86_400
IN_2010 = 1_262_304_000


class Ahead:
    """A client on a machine whose clock is a year ahead: where it is to take the time itself, it takes that."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __len__(self) -> int:
        return len(self._client)

    def produce(self, topic: str, *, timestamp: int, **message: Any) -> None:
        self._client.produce(topic, timestamp=timestamp or ahead_ms(), **message)


def ahead_ms() -> int:
    return int((time.time() + YEAR) * 1000)


@pytest.fixture
def settings(kafka_broker: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=f"times-{uuid.uuid4().hex}.", partitions=1)


def make_ours(settings: KafkaSettings) -> TopicNames:
    kafka.create_missing(settings, topics(settings))
    return TopicNames.of(settings.topic_prefix)


def make_foreign(settings: KafkaSettings, **config: str) -> TopicNames:
    """Topics as somebody makes them who knows nothing of ours: of one partition, and the broker's defaults."""
    names = TopicNames.of(settings.topic_prefix)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    new = [NewTopic(name, num_partitions=1, config=config) for name in (names.packets, names.flows, names.live)]
    for answer in admin.create_topics([*new, NewTopic(names.dead_letter, num_partitions=1)]).values():
        answer.result(HANG_SECONDS)
    return names


def times(settings: KafkaSettings, topic: str, count: int) -> list[tuple[int, int]]:
    """Kind and ms of the time stamps of a topic's messages, once there are so many."""
    reader = kafka.consumer(settings, group="nobody")
    reader.assign([TopicPartition(topic, 0, 0)])
    found: list[tuple[int, int]] = []

    def more() -> bool:
        message: Any = reader.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message.timestamp())
        return len(found) >= count

    until(more)
    reader.close()
    return found


def of_a_node(
    settings: KafkaSettings, topic: str, connect: Callable[..., Any] = open_kafka, node: str = "n1"
) -> Publisher:
    """A producer's, that has sent two batches."""
    publisher = Publisher(node=node, position=0, open_transport=partial(connect, settings), monotonic=time.monotonic_ns)
    for number in (1, 2):
        message = Message(topic=topic, value=b"%d" % number)
        publisher.send(Batch(ring_id=9, ring_end=number, coalesced_end=0, epoch=0, packets=1, messages=(message,)))
    until(lambda: publisher.poll(0.1).released == 2, lambda: publisher.progress)
    return publisher


def wrong_clock(settings: KafkaSettings, report: Callable[[Any], None]) -> Any:
    return Ahead(open_kafka(settings, report))


def is_now(milliseconds: int) -> bool:
    return abs(milliseconds / 1000 - time.time()) < HANG_SECONDS


def test_packets_have_the_brokers_time_and_flows_and_live_statistics_that_of_the_event(settings: KafkaSettings) -> None:
    names = make_ours(settings)
    of_a_node(settings, names.packets)
    ((kind, sent_ms), _) = times(settings, names.packets, 2)
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert is_now(sent_ms)
    window = WindowId(int(time.time()) // 10 * 10 - 3600, 10)
    publisher, clock = KafkaPublisher(settings, Codec()), datetime.now(UTC) - timedelta(seconds=20)
    publisher.flows(flows(1, window, rows=3), KafkaPartition(1, 0), 0)
    publisher.live({**STATS, "time": clock})
    publisher.close()
    assert times(settings, names.flows, 3) == [(TIMESTAMP_CREATE_TIME, window.start * 1000)] * 3
    assert times(settings, names.live, 1) == [(TIMESTAMP_CREATE_TIME, int(clock.timestamp() * 1000))]


def test_a_node_and_a_worker_a_year_ahead_are_taken_by_our_topics_as_now(settings: KafkaSettings) -> None:
    names = make_ours(settings)
    of_a_node(settings, names.packets, wrong_clock)
    assert all(kind == TIMESTAMP_LOG_APPEND_TIME and is_now(ms) for kind, ms in times(settings, names.packets, 2))
    publisher = a_year_ahead(settings)
    publisher.dead_letter(b"poison", b"n1", partition=0, offset=7, error="why")
    publisher.close()
    ((kind, ms),) = times(settings, names.dead_letter, 1)
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert is_now(ms)


def a_year_ahead(settings: KafkaSettings) -> KafkaPublisher:
    """What streams sends with, on such a machine."""
    return KafkaPublisher(
        settings,
        Codec(),
        lambda *args, **options: Ahead(kafka.producer(*args, **options)),
        now=lambda: time.time() + YEAR,
    )


@pytest.mark.parametrize("ours", [True, False], ids=["our topics", "somebody's topics"])
def test_a_worker_a_year_ahead_sends_all_the_same(settings: KafkaSettings, ours: bool) -> None:
    """Its own time is refused, where the topic does not go by the broker's: those messages have none."""
    names = (make_ours if ours else make_foreign)(settings)
    publisher = a_year_ahead(settings)
    window = WindowId(int(time.time()) // 10 * 10, 10)
    publisher.flows(flows(1, window, rows=3), KafkaPartition(1, 0), 0)
    publisher.dead_letter(b"poison", b"n1", partition=0, offset=7, error="why")

    def arrived() -> bool:
        publisher.live(STATS)
        return _end(settings, names.live) > 0

    until(arrived)
    publisher.close()
    assert [ms for _, ms in times(settings, names.flows, 3)] == [TIMELESS] * 3
    assert _end(settings, names.flows) == 3  # what was refused came once
    assert len(times(settings, names.dead_letter, 1)) == 1


def _end(settings: KafkaSettings, topic: str) -> int:
    reader = kafka.consumer(settings, group="nobody")
    try:
        return int(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=HANG_SECONDS)[1])
    finally:
        reader.close()


def test_topics_with_the_brokers_defaults_take_a_node_whose_clock_is_right_or_ahead(settings: KafkaSettings) -> None:
    names = make_foreign(settings)
    of_a_node(settings, names.packets)
    ahead = of_a_node(settings, names.packets, wrong_clock, node="n2")
    found = times(settings, names.packets, 4)
    assert all(kind == TIMESTAMP_CREATE_TIME and is_now(ms) for kind, ms in found[:2])
    assert [ms for _, ms in found[2:]] == [TIMELESS] * 2
    assert ahead.progress.error is None


def test_topics_that_take_no_old_times_get_the_time_of_sending(settings: KafkaSettings) -> None:
    names = make_foreign(settings, **{"message.timestamp.before.max.ms": "600000"})
    publisher = KafkaPublisher(settings, Codec())
    publisher.flows(flows(1, WindowId(int(time.time()) // 10 * 10 - 3600, 10)), KafkaPartition(1, 0), 0)
    publisher.close()
    ((kind, ms),) = times(settings, names.flows, 1)
    assert kind == TIMESTAMP_CREATE_TIME
    assert is_now(ms)


@pytest.fixture
def of_2010(tmp_path: Path) -> Path:
    """A capture of two windows."""
    octets = bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=40_000, dport=53) / b"x")
    path = tmp_path / "old.pcap"
    frames = [Frame(octets=octets, wire=len(octets), time_ns=(IN_2010 + i) * 10**9) for i in range(4)]
    path.write_bytes(pcap(frames, unit=1))
    return path


def retention_has_run(p: Pipeline) -> Generator[bool]:
    """Again and again whether a message of 2010, in a topic that goes by that, has been removed."""
    topic = f"{p.prefix}control"
    admin = AdminClient({"bootstrap.servers": p.kafka})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(HANG_SECONDS)
    p.producer.produce(topic, b"x", timestamp=IN_2010 * 1000)
    assert p.producer.flush(HANG_SECONDS) == 0
    reader = Consumer({"bootstrap.servers": p.kafka, "group.id": "nobody"})
    try:
        while True:
            yield reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=HANG_SECONDS)[0] > 0
    finally:
        reader.close()


@pytest.mark.root
@pytest.mark.clickhouse
@pytest.mark.usefixtures("root_and_bcc")
def test_a_replay_of_2010_stays_in_kafka_and_is_stored(
    kafka_broker: str, clickhouse_server: str, of_2010: Path, tmp_path: Path
) -> None:
    """Streams is away while Kafka removes what is old."""
    years: dict[str, Any] = {f"clickhouse_{name}_retention_days": "7300" for name in ("flows", "rollup")}
    with pipeline(kafka_broker, clickhouse_server, **years) as p:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "replay", str(of_2010), "--data-dir", str(tmp_path)],
            cwd=REPOSITORY,
            env=environment(kafka_bootstrap_servers=kafka_broker, kafka_topic_prefix=p.prefix),
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        removed = retention_has_run(p)
        until(lambda: next(removed))
        p.start()
        p.until(lambda: p.stored_packets() == 4)
        p.until(lambda: len(p.messages(p.topics.flows)) == 2)
        published = p.messages(p.topics.flows)
        assert all(is_now(message.timestamp()[1]) for message in published)
        windows = sorted(p.query("SELECT toUnixTimestamp(window_begin) FROM flows"))
        assert windows == [(IN_2010,), (IN_2010 + 2,)]
        removed.close()
