"""What streams sends to a real Kafka, from the threads that send it."""

import contextlib
import threading
import uuid
from collections.abc import Iterator

import pytest

from common import kafka
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.topics import topics
from streams.kafka.publisher import KafkaPublisher
from tests.unit.streams.kafka.test_publisher import STATS

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


def test_dead_letters_and_live_statistics_do_not_disturb_each_other(kafka_broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=f"p{uuid.uuid4().hex}.")
    kafka.create_missing(settings, topics(settings))
    publisher = KafkaPublisher(settings, Codec())
    with live(publisher):
        for offset in range(300):
            publisher.dead_letter(b"poison", b"n1", partition=3, offset=offset, error="why")
    publisher.close()
