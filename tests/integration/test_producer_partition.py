"""A ring stays in its partition of the packets topic, with a real Kafka."""

import time
from functools import partial

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from common import kafka
from common.settings import KafkaSettings
from producer.kafka.client import open_kafka
from producer.kafka.outbox import Batch, Message
from producer.kafka.publisher import Publisher
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka


def batch(topic: str, end: int) -> Batch:
    message = Message(topic=topic, value=b"%d" % end)
    return Batch(ring_id=9, ring_end=end, coalesced_end=0, epoch=0, packets=1, messages=(message,))


def make(admin: AdminClient, topic: str, partitions: int) -> bool:
    try:
        admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])[topic].result(
            HANG_SECONDS
        )
    except KafkaException:  # it is still being deleted
        return False
    return True


def test_a_ring_stays_in_its_partition_when_some_are_added_and_leaves_one_that_is_no_more(kafka_broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_broker, properties={"topic.metadata.refresh.interval.ms": "500"})
    admin, topic = kafka.admin(settings), f"ring-{time.time_ns()}"
    assert make(admin, topic, 2)
    publisher = Publisher(
        node="n1", position=0, open_transport=partial(open_kafka, settings), monotonic=time.monotonic_ns
    )

    def place(end: int) -> tuple[int, int]:
        publisher.send(batch(topic, end))
        until(lambda: publisher.poll(0.1).released == end, lambda: publisher.progress)
        assert publisher.progress.stored is not None
        return publisher.progress.stored

    first, _ = place(1)
    admin.create_partitions([NewPartitions(topic, 50)])[topic].result(HANG_SECONDS)
    time.sleep(2)  # the client knows of them
    for end in range(2, 6):
        assert place(end) == (first, end - 1)
    publisher.begin_at(5, 49)
    assert place(6)[0] == 49
    admin.delete_topics([topic])[topic].result(HANG_SECONDS)
    until(lambda: make(admin, topic, 1))
    assert place(7) == (0, 0)
    admin.delete_topics([topic])[topic].result(HANG_SECONDS)
