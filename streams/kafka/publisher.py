"""What streams sends to Kafka: flow records, live statistics, dead letters. Blocking; used from threads.

confluent-kafka and not Faust's producer: idempotent, and twenty times faster with small messages. Each of the three has
a client of its own: while one topic is missing or full, the others go on.

Time stamps are event times: a window's begin, a node's clock (schemas.topics says which of them are not taken as they
are). Where a topic that is not as we make it refuses one, it is sent the time of sending, then none.

Delivery: flow records are sent after their window is stored, and the packets' offsets are acknowledged only after
Kafka has them, or did not take them for long (streams.worker.output.publishing). A crash in between sends them again,
equal to what is stored; a consumer knows them by their record_id.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from common import kafka, logs
from common.errors import ServiceUnavailable
from common.kafka import NOW, TIMELESS, UNTIMELY
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.flows import FlowColumns
from schemas.topics import TopicNames, operator_topic, topics
from streams.partition.storing import KafkaPartition

log = logs.get("streams")

_MAX_MESSAGE = 9 << 20
_DEAD_LETTER_BYTES = (1 << 20, 1 << 14, 256, 0)  # of a message that is set aside; the next one where that is refused
_MOST_KEY, _MOST_ERROR = 4096, 1000
_CHUNK = 10_000  # messages between two looks at what was delivered
_FULL_SECONDS = 0.05  # to wait for room in the queue
_WAIT_SECONDS = 30.0
_FLUSH_SECONDS = 0.5  # between two looks whether the component ends


class _TooLargeError(ServiceUnavailable):
    """A message is larger than librdkafka or the broker takes."""


class _UntimelyError(ServiceUnavailable):
    """The broker does not take the time stamp of a message."""


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

    def send(self, stamp_ms: int, produce: Callable[[Any, int], None]) -> None:
        """`produce(client, timestamp)`, with another time stamp where the broker refuses this one, and wait.

        All that it produces has that time stamp: all of it is refused, and nothing comes twice. Raises
        ServiceUnavailable.
        """
        for timestamp in dict.fromkeys((stamp_ms, NOW, TIMELESS)):
            try:
                with self.awaited() as client:
                    produce(client, timestamp)
            except _UntimelyError:
                if timestamp == TIMELESS:
                    raise
            else:
                return

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
            with contextlib.suppress(KafkaException):
                client.flush(5)

    def poll(self) -> None:
        """Hear what the client says while nobody sends."""
        client = self._client
        if client is not None:
            try:
                client.poll(0)
            except KafkaException:  # a fatal error; who sends next gets another client, and is told
                self._client = None


def _refused(error: KafkaError) -> ServiceUnavailable:
    kind: type[ServiceUnavailable] = ServiceUnavailable
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        kind = _TooLargeError
    elif error.code() in UNTIMELY:
        kind = _UntimelyError
    return kind(f"Kafka did not take a message: {kafka.refusal(error) or error.str()}")


def _produce(
    topic: str, messages: Iterable[tuple[bytes, bytes]], done: Callable[..., None], client: Any, timestamp: int
) -> None:
    for number, (key, value) in enumerate(messages):
        if number % _CHUNK == 0:
            client.poll(0)
        until = None
        while not _queued(client, topic, value=value, key=key, timestamp=timestamp, on_delivery=done):
            now = time.monotonic()
            until = until or now + _WAIT_SECONDS
            if now > until:
                raise ServiceUnavailable(f"Kafka has taken nothing in {_WAIT_SECONDS:.0f} s")
            client.poll(_FULL_SECONDS)


def _queued(client: Any, topic: str, **message: Any) -> bool:
    try:  # produce_batch is no faster, and takes no time stamps
        client.produce(topic, **message)
    except BufferError:
        return False
    return True


class KafkaPublisher:
    """Sends to the flows, live and dead-letter topics, and to those of operators."""

    def __init__(
        self,
        settings: KafkaSettings,
        codec: Codec,
        connect: Callable[..., Any] = kafka.producer,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`connect`: makes the client of librdkafka. `now`: seconds since the Unix epoch."""
        self._settings, self._topics = settings, TopicNames.of(settings.topic_prefix)
        made = {topic.name: topic for topic in topics(settings)}
        self._flows_topic, self._live_topic = made[self._topics.flows], made[self._topics.live]
        self._codec, self._now = codec, now
        self.trouble: str | None = None  # no broker answers

        def make(**ours: Any) -> Any:
            return connect(
                settings,
                on_error=self._troubled,
                ours={"message.max.bytes": _MAX_MESSAGE, **ours},
                defaults={"log_level": 3, "linger.ms": 5, "queue.buffering.max.messages": 200_000},
            )

        self._flows, self._dead_letters, self._findings = (_Deliveries(make) for _ in range(3))
        self._live = make(**{"enable.idempotence": False})  # nobody waits for it; it has no fatal errors
        self._live_stamps = 0  # which kind of time stamp is taken: of the event, of the sending, none

    def flows(self, flows: FlowColumns, partition: KafkaPartition, revision: int) -> None:
        """Send one message a row, and wait for them. Raises ServiceUnavailable when not all were delivered."""
        keys, values = self._codec.encode_flow_records(
            flows, topic_id=partition.topic_id, kafka_partition=partition.number, revision=revision
        )
        stamp_ms = self._flows_topic.stamp_ms(flows.window_begin * 1000, self._now_ms())
        messages = tuple(zip(keys, values, strict=True))  # they may be sent again, with another time stamp
        self._flows.send(stamp_ms, partial(_produce, self._topics.flows, messages, self._flows.done))

    def findings(self, operator: str, window_begin: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Send what an operator found in a window, keys and values, and wait. Raises ServiceUnavailable."""
        topic = operator_topic(self._settings, operator)
        stamp_ms = topic.stamp_ms(window_begin * 1000, self._now_ms())
        self._findings.send(stamp_ms, partial(_produce, topic.name, messages, self._findings.done))

    def dead_letter(
        self,
        value: bytes | None,
        key: bytes | None,
        *,
        partition: int,
        offset: int,
        error: str,
        topic: str | None = None,
    ) -> None:
        """Set a message aside, with its origin in the headers, and wait. Raises ServiceUnavailable.

        `topic`: that it is of; None: the packets.
        What is too large is cut, and `original-length` (`original-key-length`) says so: the broker has taken a message
        by its size when it was compressed, which says nothing of its size now.
        """
        headers: list[tuple[str, str | bytes | None]] = [
            ("source-topic", topic or self._topics.packets),
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
            letter = {"value": cut_value, "key": cut_key, "headers": [*headers, *cut]}
            try:
                self._dead_letters.send(NOW, partial(self._produce_letter, letter))
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

    def _produce_letter(self, letter: dict[str, Any], client: Any, timestamp: int) -> None:
        client.produce(self._topics.dead_letter, **letter, timestamp=timestamp, on_delivery=self._dead_letters.done)

    def live(self, stats: dict[str, Any]) -> None:
        """Send a node's live statistics; when Kafka is away they are lost, being of no use later."""
        message, moment = self._codec.encode_live_stats(stats), stats["time"]
        stamp_ms = self._live_topic.stamp_ms(int(moment.timestamp() * 1000), self._now_ms())
        kind = self._live_stamps
        with contextlib.suppress(BufferError, KafkaException):
            self._live.produce(
                self._topics.live,
                value=message,
                key=stats["node"].encode(),
                timestamp=(stamp_ms, NOW, TIMELESS)[kind],
                on_delivery=partial(self._live_done, kind),
            )
        self._live.poll(0)

    def _live_done(self, kind: int, error: KafkaError | None, _: Any) -> None:
        if error is not None and error.code() in UNTIMELY:  # the next ones will do
            self._live_stamps = max(self._live_stamps, min(kind + 1, 2))

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def check(self) -> str | None:
        """What is wrong with Kafka, as far as is known; asks it when something was."""
        self._live.poll(0)
        self._flows.poll()
        self._findings.poll()
        self._dead_letters.poll()
        if self.trouble:
            with contextlib.suppress(KafkaException):
                self._live.list_topics(timeout=2)
                self.trouble = None
        return self.trouble

    def _troubled(self, error: KafkaError) -> None:
        if said := kafka.refusal(error):
            self.trouble = said
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and self.trouble is None:  # noqa: SLF001  the library's name
            self.trouble = "no broker of kafka.bootstrap_servers answers"

    def close(self) -> None:
        """Wait a moment for what is on its way."""
        self._flows.close()
        self._findings.close()
        self._dead_letters.close()
        self._live.flush(5)
