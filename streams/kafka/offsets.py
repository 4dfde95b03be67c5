"""Where reading of a partition must begin, and which message is the next. Blocking; used from a thread.

The recovery protocol needs every message from the committed offset on. Faust seeks there after each rebalance; this
asks the broker itself, so that a message from before a rebalance, or a seek that went wrong, cannot make a hole.
"""

from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from streams.partition.opening import Begin

_ACKNOWLEDGED = "stored by ayaflow"
METADATA = f"{_ACKNOWLEDGED}\0"
"""Of the offsets that a worker commits; those that somebody set with Kafka's tools have none. confluent-kafka reads it
up to an octet of 0, which librdkafka does not put there: without ours, what lies behind it in memory is read, too."""

_TIMEOUT = 5.0


class KafkaOffsets:
    """The offsets of a consumer group in a topic. It does not join the group."""

    def __init__(self, settings: KafkaSettings, *, group: str, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._consumer = kafka.consumer(settings, group=group, ours=kafka.PEEKING)
        self._admin: Any = kafka.admin(settings)

    def begin(self, partition: int) -> Begin:
        """Where to begin. Raises ServiceUnavailable."""
        wanted = TopicPartition(self._topic, partition)
        self._hear()
        try:
            self._consumer.list_topics(self._topic, timeout=_TIMEOUT)  # or it would not know partitions just added
            (committed,) = self._consumer.committed([wanted], timeout=_TIMEOUT)
            oldest, _ = self._consumer.get_watermark_offsets(wanted, timeout=_TIMEOUT)
        except KafkaException as error:
            raise ServiceUnavailable(f"Kafka does not tell the offsets of {self._topic}: {self._why(error)}") from error
        identity = kafka.topic_id(self._settings, self._topic, timeout_seconds=_TIMEOUT, client=self._admin)
        offset, ours = max(int(committed.offset), -1), committed.metadata == _ACKNOWLEDGED
        return Begin(committed=offset, oldest=int(oldest), topic_id=identity, ours=ours)

    def next_message(self, partition: int, offset: int) -> int | None:
        """The offset of the first message at or after one; None: there is none. Raises ServiceUnavailable."""
        self._hear()
        try:
            asked = kafka.first_messages(self._consumer, self._topic, {partition: offset}, timeout_seconds=_TIMEOUT)
            [(_, message)] = asked
        except (KafkaException, TimeoutError) as error:
            raise ServiceUnavailable(f"Kafka does not tell what {self._topic} holds: {self._why(error)}") from error
        return None if message is None else int(message.offset())

    def _why(self, error: BaseException) -> str:
        return kafka.reason(error, self._consumer)

    def _hear(self) -> None:
        for client in (self._consumer, self._admin):
            client.poll(0)  # or what it says while Kafka is away would pile up

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
