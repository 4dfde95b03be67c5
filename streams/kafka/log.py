"""A part of the packets topic, read by time and offset: nobody's group moves. Blocking."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings

_TIMEOUT = 30.0
_READING: Mapping[str, Any] = {
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",  # as streams reads
    "queued.max.messages.kbytes": 65_536,
}


class Message(NamedTuple):
    """One of the log."""

    offset: int
    stamp_ms: int  # when Kafka took it, milliseconds since the Unix epoch
    value: bytes | None


class Ends(NamedTuple):
    """What Kafka has of a partition: the first offset, and the one behind the last."""

    low: int
    high: int


class PacketLog:
    """The packets topic. Methods raise ServiceUnavailable when Kafka does not answer."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str) -> None:
        """`group`: by whose right it is read; it is not joined."""
        self._settings, self.topic = settings, topic
        self._consumer = kafka.consumer(settings, group=group, ours=_READING)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def topic_id(self) -> int:
        """Identity of the topic."""
        return kafka.topic_id(self._settings, self.topic, timeout_seconds=_TIMEOUT)

    def ends(self) -> dict[int, Ends]:
        """Of all partitions."""
        with self._explained():
            found = self._consumer.list_topics(self.topic, timeout=_TIMEOUT).topics[self.topic].partitions
            return {
                number: Ends(*self._consumer.get_watermark_offsets(TopicPartition(self.topic, number), _TIMEOUT))
                for number in found
            }

    def at(self, stamp_ms: int, partitions: Mapping[int, Ends]) -> dict[int, int]:
        """The first message of each partition that Kafka took then or later; behind the last where there is none."""
        wanted = [TopicPartition(self.topic, number, max(0, stamp_ms)) for number in partitions]
        with self._explained():
            found = self._consumer.offsets_for_times(wanted, timeout=_TIMEOUT)
        return {each.partition: each.offset if each.offset >= 0 else partitions[each.partition].high for each in found}

    def first(self, partition: int, offset: int) -> Message | None:
        """The first message at or after an offset; None: there is none."""
        with self._explained():
            asked = kafka.first_messages(self._consumer, self.topic, {partition: offset}, timeout_seconds=_TIMEOUT)
            [(_, message)] = asked
        return None if message is None else _message(message)

    def read(self, partition: int, begin: int, end: int) -> Iterator[Message]:
        """The messages from offset `begin` on, below `end`."""
        if begin >= end:
            return
        with self._explained():
            self._consumer.assign([TopicPartition(self.topic, partition, begin)])
            try:
                yield from self._read(end)
            finally:
                self._consumer.unassign()

    def _read(self, end: int) -> Iterator[Message]:
        heard = time.monotonic()
        while True:
            for message in self._consumer.consume(256, timeout=1.0):
                heard, error = time.monotonic(), message.error()
                if error is not None and kafka.is_of_a_group(error):
                    continue
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's name
                    raise KafkaException(error)
                if error is not None or (message.offset() or 0) >= end:
                    return
                yield _message(message)
                if (message.offset() or 0) >= end - 1:
                    return
            if time.monotonic() - heard > _TIMEOUT:
                raise TimeoutError(f"no message came in {_TIMEOUT:.0f} s")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (KafkaException, TimeoutError, KeyError) as error:
            why = kafka.reason(error, self._consumer)
            raise ServiceUnavailable(f"Kafka does not tell what {self.topic} holds: {why}") from error


def _message(message: Any) -> Message:
    return Message(int(message.offset()), int(message.timestamp()[1]), message.value())
