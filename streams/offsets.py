"""Where reading of a partition must begin. Blocking; used from a thread.

The recovery protocol needs every message from the committed offset on. Faust seeks there after each rebalance; this
asks the broker itself, so that a message from before a rebalance, or a seek that went wrong, cannot make a hole.
"""

from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.errors import ServiceUnavailable
from common.settings import KafkaSettings

_TIMEOUT = 5.0


class Offsets:
    """The offsets of a consumer group in a topic. It does not join the group."""

    def __init__(self, settings: KafkaSettings, *, group: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer(
            {
                **settings.properties,
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 2,
                "error_cb": lambda _: None,
            }
        )

    def begin(self, partition: int) -> int:
        """The committed offset, or the oldest that there is. Raises ServiceUnavailable."""
        wanted = TopicPartition(self._topic, partition)
        try:
            (committed,) = self._consumer.committed([wanted], timeout=_TIMEOUT)
            oldest, _ = self._consumer.get_watermark_offsets(wanted, timeout=_TIMEOUT)
        except KafkaException as error:
            raise ServiceUnavailable(f"Kafka does not tell the offsets of {self._topic}: {error.args[0]}") from error
        return max(int(committed.offset), int(oldest), 0)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
