"""What streams sends to a real Kafka, from the threads that send it."""

import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from common import kafka
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.topics import topics
from streams.kafka.publisher import KafkaPublisher
from streams.partition.storing import KafkaPartition
from tests.unit.streams.kafka.test_publisher import STATS
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka


@contextlib.contextmanager
def live(publisher: KafkaPublisher) -> Iterator[None]:
    """Live statistics all the time."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.002):
            publisher.live(STATS)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def murmur2(data: bytes) -> int:
    """As Java's clients hash a key, from the definition of MurmurHash2; positive, of 31 bits."""
    mixer, mask = 0x5BD1E995, 0xFFFFFFFF
    found = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        found = (found * mixer & mask) ^ word
    if rest := data[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * mixer & mask
    found = (found ^ found >> 13) * mixer & mask
    return (found ^ found >> 15) & 0x7FFFFFFF


def messages(settings: KafkaSettings, topic: str, count: int) -> list[tuple[bytes, int]]:
    """Key and partition of all messages of a topic."""
    reader = kafka.consumer(settings, group="nobody")
    partitions = reader.list_topics(topic, timeout=HANG_SECONDS).topics[topic].partitions
    reader.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: list[tuple[bytes, int]] = []

    def more() -> bool:
        message: Any = reader.poll(0.2)
        if message is not None and message.error() is None:
            found.append((bytes(message.key()), message.partition()))
        return len(found) >= count

    until(more)
    reader.close()
    return found


def test_a_key_is_in_the_partition_where_java_and_others_look_for_it(kafka_broker: str) -> None:
    assert (murmur2(b"21"), murmur2(b"foobar")) == (
        -973932308 & 0x7FFFFFFF,
        -790332482 & 0x7FFFFFFF,
    )  # Kafka's own tests
    settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=f"p{uuid.uuid4().hex}.")
    kafka.create_missing(settings, topics(settings))
    partitions = {each.name.rpartition(".")[2]: each.partitions for each in topics(settings)}
    publisher = KafkaPublisher(settings, Codec())
    publisher.flows(flows(1, rows=40), KafkaPartition(1, 0), 0)
    for number in range(40):
        publisher.live({**STATS, "node": f"node-{number}"})
    publisher.close()
    for topic in ("flows", "live"):
        found = messages(settings, settings.topic_prefix + topic, 40)
        assert len({partition for _, partition in found}) == partitions[topic]
        for key, partition in found:
            assert partition == murmur2(key) % partitions[topic], topic


def test_dead_letters_and_live_statistics_do_not_disturb_each_other(kafka_broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=f"p{uuid.uuid4().hex}.")
    kafka.create_missing(settings, topics(settings))
    publisher = KafkaPublisher(settings, Codec())
    with live(publisher):
        for offset in range(300):
            publisher.dead_letter(b"poison", b"n1", partition=3, offset=offset, error="why")
    publisher.close()
