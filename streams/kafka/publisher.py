"""What streams sends to Kafka: flow records, live statistics, dead letters. Blocking; used from threads.

confluent-kafka and not Faust's producer: idempotent, and twenty times faster with small messages. Each of the three has
a client of its own: while one topic is missing or full, the others go on.

Delivery: flow records are sent after their window is stored, and the packets' offsets are acknowledged only after
Kafka has them, or did not take them for long (streams.worker.output.publishing). A crash in between sends them again,
equal to what is stored: (node, interface, direction, vlan_id, community_id, window_start, revision) tells a consumer
that it has seen one.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
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
_FLUSH_SECONDS = 0.5  # between two looks whether the component ends


class _TooLargeError(ServiceUnavailable):
    """A message is larger than librdkafka or the broker takes."""


class _Deliveries:
    """A client of librdkafka whose callers wait until the broker has what they sent; one at a time.

    A client that gave messages up is not used again: an idempotent one may have lost count, or have had a fatal error,
    and then it gives up all that comes.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._client: Any = connect()
        self._lock = threading.Lock()
        self._failure: KafkaError | None = None
        self._closing = threading.Event()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[Any]:
        """The client, to send with `on_delivery=self.done`. Raises ServiceUnavailable when not all was delivered."""
        with self._lock:
            client = self._connect() if self._client is None else self._client  # not `or`: an idle one is false
            self._client, self._failure = None, None
            try:
                yield client
                left = self._wait(client)
                if self._failure is not None:
                    raise _refused(self._failure)
                if left:
                    raise ServiceUnavailable(f"Kafka has not acknowledged {left} messages in {_WAIT_SECONDS:.0f} s")
            except KafkaException as error:
                raise _refused(error.args[0]) from error
            else:
                self._client = client
            finally:
                if self._client is None:
                    client.purge()  # else it would come twice
                    client.flush(1)

    def _wait(self, client: Any) -> int:
        """Until all is delivered, or for too long -> how many messages are left."""
        for _ in range(round(_WAIT_SECONDS / _FLUSH_SECONDS)):
            if not (left := client.flush(_FLUSH_SECONDS)) or self._closing.is_set():
                break
        return int(left)

    def done(self, error: KafkaError | None, _: Any) -> None:
        """What the broker said of a message."""
        if error is not None and self._failure is None:
            self._failure = error

    def close(self) -> None:
        """Wait a moment for what is on its way."""
        self._closing.set()
        client = self._client
        if client is not None:
            client.flush(5)

    def poll(self) -> None:
        """Hear what the client says while nobody sends."""
        client = self._client
        if client is not None:
            client.poll(0)


def _refused(error: KafkaError) -> ServiceUnavailable:
    kind = _TooLargeError if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ServiceUnavailable
    return kind(f"Kafka did not take a message: {error.str()}")


class KafkaPublisher:
    """Sends to the flows, live and dead-letter topics."""

    def __init__(self, settings: KafkaSettings, codec: Codec, connect: Callable[..., Any] = kafka.producer) -> None:
        """`connect`: makes the client of librdkafka."""
        self._topics = TopicNames.of(settings.topic_prefix)
        self._codec = codec
        self.trouble: str | None = None  # no broker answers

        def make(**ours: Any) -> Any:
            return connect(
                settings,
                on_error=self._troubled,
                ours={"message.max.bytes": _MAX_MESSAGE, **ours},
                defaults={"log_level": 3, "linger.ms": 5, "queue.buffering.max.messages": 200_000},
            )

        self._flows, self._dead_letters = _Deliveries(make), _Deliveries(make)
        self._live = make(**{"enable.idempotence": False})  # nobody waits for it; it has no fatal errors

    def flows(self, flows: FlowColumns, revision: int) -> None:
        """Send one message a row, and wait for them. Raises ServiceUnavailable when not all were delivered."""
        keys, values = self._codec.encode_flow_records(flows, revision)
        with self._flows.awaited() as client:
            for begin in range(0, len(keys), _CHUNK):
                messages: list[dict[str, Any]] = [
                    {"key": key, "value": value}
                    for key, value in zip(keys[begin : begin + _CHUNK], values[begin : begin + _CHUNK], strict=True)
                ]
                until = time.monotonic() + _WAIT_SECONDS
                while messages:
                    client.produce_batch(self._topics.flows, messages, on_delivery=self._flows.done)
                    messages = [self._again(message) for message in messages if "_error" in message]
                    client.poll(0.05 if messages else 0)
                    if messages and time.monotonic() > until:
                        raise ServiceUnavailable(f"Kafka has taken nothing in {_WAIT_SECONDS:.0f} s")

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
                with self._dead_letters.awaited() as client:
                    client.produce(
                        self._topics.dead_letter,
                        value=cut_value,
                        key=cut_key,
                        headers=[*headers, *cut],
                        on_delivery=self._dead_letters.done,
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
            self._live.produce(self._topics.live, value=message, key=stats["node"].encode())
        self._live.poll(0)

    def check(self) -> str | None:
        """What is wrong with Kafka, as far as is known; asks it when something was."""
        self._live.poll(0)
        self._flows.poll()
        self._dead_letters.poll()
        if self.trouble:
            with contextlib.suppress(KafkaException):
                self._live.list_topics(timeout=2)
                self.trouble = None
        return self.trouble

    def _troubled(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  the library's name
            self.trouble = "no broker of kafka.bootstrap_servers answers"

    def close(self) -> None:
        """Wait a moment for what is on its way."""
        self._flows.close()
        self._dead_letters.close()
        self._live.flush(5)

    @staticmethod
    def _again(message: dict[str, Any]) -> dict[str, Any]:
        """A message that did not fit the queue; anything else that is wrong with it is final."""
        failure = message.pop("_error")
        if isinstance(failure, KafkaError) and failure.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001  the library's name
            raise KafkaException(failure)
        return message
