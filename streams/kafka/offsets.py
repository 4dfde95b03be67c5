"""Where reading of a partition must begin. Blocking; used from a thread.

The recovery protocol needs every message from the committed offset on. Faust seeks there after each rebalance; this
asks the broker itself, so that a message from before a rebalance, or a seek that went wrong, cannot make a hole.
"""

from confluent_kafka import KafkaException, TopicPartition

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from streams.partition.opening import Begin

_TIMEOUT = 5.0


class KafkaOffsets:
    """The offsets of a consumer group in a topic. It does not join the group."""

    def __init__(self, settings: KafkaSettings, *, group: str, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._consumer = kafka.consumer(settings, group=group)

    def begin(self, partition: int) -> Begin:
        """Where to begin. Raises ServiceUnavailable."""
        wanted = TopicPartition(self._topic, partition)
        self._consumer.poll(0)  # or what it says while Kafka is away would pile up
        try:
            self._consumer.list_topics(self._topic, timeout=_TIMEOUT)  # or it would not know partitions just added
            (committed,) = self._consumer.committed([wanted], timeout=_TIMEOUT)
            oldest, _ = self._consumer.get_watermark_offsets(wanted, timeout=_TIMEOUT)
        except KafkaException as error:
            raise ServiceUnavailable(f"Kafka does not tell the offsets of {self._topic}: {error.args[0]}") from error
        identity = kafka.topic_id(self._settings, self._topic, timeout_seconds=_TIMEOUT)
        return Begin(committed=max(int(committed.offset), -1), oldest=int(oldest), topic_id=identity)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
