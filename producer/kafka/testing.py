"""Kafka in memory: a client that sends, one that reads. Each obeys the Protocol that it names."""

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from producer.kafka.client import Delivered


@dataclass
class Stored:
    """What librdkafka says of an acknowledged message."""

    number: int
    place: int = 0

    def partition(self) -> int:
        return self.place

    def offset(self) -> int:
        return self.number


@dataclass
class MemoryTransport:
    """Obeys producer.kafka.client.Transport. `stored`: what the broker has; `waiting`: unanswered."""

    room: int = 1_000
    answers_itself: bool = True
    stored: list[bytes] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)  # of each of these
    waiting: deque[tuple[str, bytes, Delivered]] = field(default_factory=deque)
    purged: bool = False
    partitions: int = 1_000
    by_key: int = 0  # the partition of the node's name
    places: list[int] = field(default_factory=list)  # where each message went
    stamps: list[int] = field(default_factory=list)  # the time stamp of each
    raises: KafkaException | None = None  # by the next poll

    def produce(
        self, topic: str, *, key: bytes, value: bytes, partition: int, timestamp: int, on_delivery: Delivered
    ) -> None:
        if len(self.waiting) >= self.room:
            raise BufferError
        if partition >= self.partitions:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        self.stamps.append(timestamp)
        self.places.append(self.by_key if partition < 0 else partition)
        self.waiting.append((topic, value, on_delivery))

    def poll(self, timeout: float) -> int:
        if (error := self.raises) is not None:
            self.raises = None
            raise error
        while self.answers_itself and self.waiting:
            self.answer()
        return 0

    def purge(self) -> None:
        self.purged = True
        while self.waiting:
            self.answer(KafkaError(KafkaError._PURGE_QUEUE))

    def answer(self, error: KafkaError | None = None, place: int = 0) -> None:
        """Acknowledge a waiting message, or refuse it."""
        self.waiting.rotate(-place)
        topic, value, on_delivery = self.waiting.popleft()
        self.waiting.rotate(place)
        if error is None:
            self.stored.append(value)
            self.topics.append(topic)
        on_delivery(error, Stored(len(self.stored) - 1, self.places[-1]))


@dataclass
class Told:
    """What librdkafka says of a message that was read."""

    number: int
    name: bytes
    octets: bytes | None
    problem: int | None = None  # a code of KafkaError

    def error(self) -> KafkaError | None:
        return None if self.problem is None else KafkaError(self.problem)

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes | None:
        return self.octets

    def offset(self) -> int:
        return self.number


@dataclass
class MemoryTail:
    """Obeys producer.kafka.tail.Tail. `messages`: by partition; an offset without one is a control record's.

    `since`: by partition, the first offset of the run's time. `fails`: every question does.
    """

    messages: dict[int, list[Told]]
    ends: dict[int, int]
    since: dict[int, int] = field(default_factory=dict)
    fails: bool = False
    asked_since_ms: int | None = None
    closed: bool = False
    _next: TopicPartition | None = None

    def list_topics(self, topic: str, timeout: float) -> Any:
        self._may_fail()
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(self.ends))})

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked_since_ms = partitions[0].offset
        return [TopicPartition(each.topic, each.partition, self.since[each.partition]) for each in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        self._may_fail()
        kept = [message.number for message in self.messages[partition.partition]]
        return min(kept, default=0), self.ends[partition.partition]

    def assign(self, partitions: list[TopicPartition]) -> None:
        (self._next,) = partitions

    def consume(self, num_messages: int, timeout: float) -> list[Any]:
        assert self._next is not None
        number, begin = self._next.partition, self._next.offset
        found = [message for message in self.messages[number] if message.number >= begin][:num_messages]
        end = found[-1].number + 1 if found else self.ends[number]
        self._next = TopicPartition(self._next.topic, number, end)
        return found

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        assert self._next is not None
        return [self._next]

    def close(self) -> None:
        self.closed = True

    def _may_fail(self) -> None:
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
