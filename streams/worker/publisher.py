"""What streams sends to Kafka: flow records, live statistics, dead letters. Blocking; used from threads.

confluent-kafka and not Faust's producer: idempotent, and twenty times faster with small messages.

Delivery: flow records are sent after their window is stored, and the packets' offsets are acknowledged only after
Kafka has them. A crash in between sends them again, equal to what is stored: at least once; (node, interface,
direction, vlan_id, community_id, window_start, revision) tells a consumer that it has seen one.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from common import kafka, logs
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.flows import FlowColumns
from schemas.topics import TopicNames

log = logs.get("streams")

_MAX_MESSAGE = 9 << 20
_DEAD_LETTER_BYTES = (1 << 20, 1 << 14, 256, 0)  # of a message that is set aside; the next one where that is refused
_MOST_KEY, _MOST_ERROR = 4096, 1000
_CHUNK = 10_000
_WAIT_SECONDS = 30.0


class _TooLargeError(ServiceUnavailable):
    """A message is larger than librdkafka or the broker takes."""


def _refused(error: KafkaError) -> ServiceUnavailable:
    kind = _TooLargeError if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ServiceUnavailable
    return kind(f"Kafka did not take a message: {error.str()}")


class KafkaPublisher:
    """Sends to the flows, live and dead-letter topics."""

    def __init__(self, settings: KafkaSettings, codec: Codec, connect: Callable[..., Any] = kafka.producer) -> None:
        """`connect`: makes the client of librdkafka."""
        self._topics = TopicNames.of(settings.topic_prefix)
        self._codec = codec
        self._lock = threading.Lock()  # one caller at a time waits for its deliveries
        self._failure: KafkaError | None = None
        self.trouble: str | None = None  # no broker answers
        self._producer = connect(
            settings,
            on_error=self._troubled,
            ours={"message.max.bytes": _MAX_MESSAGE},
            defaults={"log_level": 3, "linger.ms": 5, "queue.buffering.max.messages": 200_000},
        )

    def flows(self, flows: FlowColumns, revision: int) -> None:
        """Send one message a row, and wait for them. Raises ServiceUnavailable when not all were delivered."""
        keys, values = self._codec.encode_flow_records(flows, revision)
        with self._deliveries():
            for begin in range(0, len(keys), _CHUNK):
                messages: list[dict[str, Any]] = [
                    {"key": key, "value": value}
                    for key, value in zip(keys[begin : begin + _CHUNK], values[begin : begin + _CHUNK], strict=True)
                ]
                while messages:
                    self._producer.produce_batch(self._topics.flows, messages, on_delivery=self._delivered)
                    messages = [self._again(message) for message in messages if "_error" in message]
                    self._producer.poll(0.05 if messages else 0)

    def dead_letter(self, value: bytes | None, key: bytes | None, *, partition: int, offset: int, error: str) -> None:
        """Set a message aside, with its origin in the headers, and wait. Raises ServiceUnavailable.

        What is too large is cut, and `original-length` (`original-key-length`) says so: the broker has taken a message
        by its size when it was compressed, which says nothing of its size now.
        """
        headers: list[tuple[str, str | bytes | None]] = [
            ("source-topic", self._topics.packets),
            ("source-partition", str(partition)),
            ("source-offset", str(offset)),
            ("error", error[:_MOST_ERROR]),
        ]
        for most in _DEAD_LETTER_BYTES:
            cut_value, cut_key = value and value[:most], key and key[: min(most, _MOST_KEY)]
            cut = [
                (name, str(len(whole)))
                for name, whole, part in (("original-length", value, cut_value), ("original-key-length", key, cut_key))
                if whole is not None and part is not None and len(part) < len(whole)
            ]
            try:
                with self._deliveries():
                    self._producer.produce(
                        self._topics.dead_letter,
                        value=cut_value,
                        key=cut_key,
                        headers=[*headers, *cut],
                        on_delivery=self._delivered,
                    )
            except _TooLargeError:
                continue
            return
        log.error(
            "not even the headers of a message fit into the dead-letter topic: it is left where it is; "
            "raise that topic's max.message.bytes",
            partition=partition,
            offset=offset,
            error=error[:_MOST_ERROR],
        )

    def live(self, stats: dict[str, Any]) -> None:
        """Send a node's live statistics; when Kafka is away they are lost, being of no use later."""
        message = self._codec.encode_live_stats(stats)
        with contextlib.suppress(BufferError, KafkaException):
            self._producer.produce(self._topics.live, value=message, key=stats["node"].encode())
        self._producer.poll(0)

    def check(self) -> str | None:
        """What is wrong with Kafka, as far as is known; asks it when something was."""
        self._producer.poll(0)
        if self.trouble:
            with contextlib.suppress(KafkaException):
                self._producer.list_topics(timeout=2)
                self.trouble = None
        return self.trouble

    def _troubled(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  the library's name
            self.trouble = "no broker of kafka.bootstrap_servers answers"

    def close(self) -> None:
        """Wait a moment for what is on its way."""
        self._producer.flush(5)

    @contextlib.contextmanager
    def _deliveries(self) -> Any:
        with self._lock:
            self._failure = None
            try:
                yield
            except KafkaException as error:
                raise _refused(error.args[0]) from error
            left = self._producer.flush(_WAIT_SECONDS)
            if self._failure is not None:
                raise _refused(self._failure)
            if left:
                self._producer.purge()
                self._producer.flush(1)
                raise ServiceUnavailable(f"Kafka has not acknowledged {left} messages in {_WAIT_SECONDS:.0f} s")

    def _delivered(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._failure = error

    @staticmethod
    def _again(message: dict[str, Any]) -> dict[str, Any]:
        """A message that did not fit the queue; anything else that is wrong with it is final."""
        failure = message.pop("_error")
        if isinstance(failure, KafkaError) and failure.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001  the library's name
            raise KafkaException(failure)
        return message
