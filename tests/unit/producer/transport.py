"""A Transport in memory: a broker that the test tells what to answer."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError

Delivered = Callable[[Any, Any], None]


@dataclass
class Stored:
    """What librdkafka says of an acknowledged message."""

    number: int

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number


@dataclass
class MemoryTransport:
    """Obeys producer.kafka.publisher.Transport. `stored`: what the broker has; `waiting`: unanswered."""

    room: int = 1_000
    answers_itself: bool = True
    stored: list[bytes] = field(default_factory=list)
    waiting: deque[tuple[str, bytes, Delivered]] = field(default_factory=deque)
    purged: bool = False

    def produce(self, topic: str, *, key: bytes, value: bytes, on_delivery: Delivered) -> None:
        if len(self.waiting) >= self.room:
            raise BufferError
        self.waiting.append((topic, value, on_delivery))

    def poll(self, timeout: float) -> int:
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
        _, value, on_delivery = self.waiting.popleft()
        self.waiting.rotate(place)
        if error is None:
            self.stored.append(value)
        on_delivery(error, Stored(len(self.stored) - 1))
