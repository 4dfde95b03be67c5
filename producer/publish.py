"""Hands batches to Kafka: idempotent, acks=all, for ever. Nothing here waits but `poll`."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from common import logs
from common.errors import SettingsError
from common.settings import KafkaSettings
from producer.clock import Nanoseconds
from producer.outbox import Entry, Message, Outbox

MAX_MESSAGE_BYTES = 1_000_000  # below a broker's own default (1 MiB), whatever compression makes of it
MAX_UNACKED_BYTES = 32 << 20
RETRY_NS = 1_000_000_000
LOG_EVERY_NS = 10_000_000_000

log = logs.get("producer")
Delivered = Callable[[Any, Any], None]  # (KafkaError or None, message)


class Transport(Protocol):
    """What we use of confluent_kafka.Producer."""

    def produce(self, topic: str, *, key: bytes, value: bytes, on_delivery: Delivered) -> None:
        """Queue a message. Raises BufferError when the queue is full, KafkaException when the client is broken."""

    def poll(self, timeout: float) -> int:
        """Call the delivery callbacks that are due; wait for the first of them."""

    def purge(self) -> None:
        """Give up all that is queued: each message's callback comes with an error."""


OpenTransport = Callable[[Callable[[Any], None]], Transport]
"""Makes a Transport that reports its general errors to the given function."""


class Publisher:
    """Sends batches in order and knows up to where the ring is safe in Kafka."""

    def __init__(
        self,
        *,
        node: str,
        position: int,
        open_transport: OpenTransport,
        monotonic: Nanoseconds,
        on_done: Callable[[Entry, int], None] = lambda _entry, _now: None,
    ) -> None:
        """`position`: of the ring, where the first batch begins. `on_done`: called for each acknowledged batch."""
        self.outbox = Outbox(position)
        self.last_ack_ns: int | None = None
        self.error: str | None = None  # why the last message was refused, until one is acknowledged
        self._key = node.encode()
        self._open, self._monotonic, self._on_done = open_transport, monotonic, on_done
        self._transport = open_transport(self._report)
        self._broken = False
        self._retry_at = 0
        self._last_logged: dict[str, int] = {}

    def has_room(self) -> bool:
        """Whether another batch may be sent."""
        return not self.outbox.ready and not self.outbox.refused and self.outbox.bytes < MAX_UNACKED_BYTES

    def waiting_ns(self) -> int:
        """Age of the oldest batch that is not acknowledged; 0: none."""
        entries = self.outbox.entries
        return self._monotonic() - entries[0].sent_ns if entries else 0

    def send(self, messages: list[Message], *, ring_end: int, packets: int) -> None:
        """Take over a batch; it will be acknowledged in its turn."""
        self.outbox.add(messages, ring_end=ring_end, packets=packets, now_ns=self._monotonic())
        self._hand_over()

    def poll(self, seconds: float) -> None:
        """Handle what Kafka has answered; wait up to `seconds` for it."""
        self._transport.poll(seconds)
        if not self.outbox.in_flight and (self.outbox.refused or self._broken) and self._monotonic() >= self._retry_at:
            if self._broken:
                self._transport = self._open(self._report)
                self._broken = False
            self.outbox.retry()
        self._hand_over()

    def _hand_over(self) -> None:
        while not self._broken and (item := self.outbox.next()):
            entry, message = item
            try:
                self._transport.produce(
                    message.topic,
                    key=self._key,
                    value=message.value,
                    on_delivery=partial(self._delivered, entry, message),
                )
            except BufferError:  # full: `poll` goes on
                return
            except KafkaException as error:
                self._report(error.args[0])
                self._break()
                return
            self.outbox.handed_over()

    def _delivered(self, entry: Entry, message: Message, error: Any, _message: Any) -> None:
        now = self._monotonic()
        if error is not None:
            self._report(error)
            self._retry_at = now + RETRY_NS
            self.outbox.refuse(entry, message)
            return
        if self.error is not None:
            log.info("kafka answers again", after=self.error)
            self._last_logged.clear()
        self.last_ack_ns, self.error = now, None
        for done in self.outbox.acknowledged(entry):
            self._on_done(done, now)

    def _break(self) -> None:
        """This client cannot go on (a fatal error of the idempotent protocol): a new one will take over."""
        if not self._broken:
            self._broken = True
            self._retry_at = self._monotonic() + RETRY_NS
            self._transport.purge()

    def _report(self, error: Any) -> None:
        """Remember and log an error: once in ten seconds each."""
        if error.code() in _PURGED:
            return
        if error.fatal():
            self._break()
        self.error = explain(error)
        now = self._monotonic()
        if now - self._last_logged.get(self.error, -LOG_EVERY_NS) >= LOG_EVERY_NS:
            self._last_logged[self.error] = now
            log.warning(
                "kafka does not take batches; trying again", error=self.error, unacked_batches=len(self.outbox.entries)
            )


_PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001  public constants that begin with _
_AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE}  # noqa: SLF001
_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001


def explain(error: Any) -> str:
    """A sentence for a KafkaError: what happened and what to do."""
    if error.code() in _AWAY:
        return (
            f"no broker answers ({error.str()}). "
            "Start Kafka (ayaflow up or ayaflow kafka), or set kafka.bootstrap_servers"
        )
    if error.code() in _NO_TOPIC:
        return (
            f"a topic does not exist ({error.str()}). "
            "ayaflow up and ayaflow kafka create it; else create it, or set kafka.topic_prefix"
        )
    if error.code() in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}:
        return (
            f"Kafka does not permit us to write ({error.str()}). "
            "Give this user WRITE and IDEMPOTENT_WRITE on the topics"
        )
    if error.code() in {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}:
        return (
            f"Kafka finds a batch too large ({error.str()}). "
            "Lower producer.batch_packets, or raise max.message.bytes of the topic"
        )
    return f"{error.name()}: {error.str()}"


def open_kafka(settings: KafkaSettings, on_error: Callable[[Any], None]) -> Transport:
    """The real client. Raises SettingsError when a property is wrong."""
    quiet = logging.getLogger("ayaflow.librdkafka")  # what matters comes to on_error; its own lines only repeat it
    quiet.setLevel(logging.CRITICAL)
    properties: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "ayaflow-producer",
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": settings.compression,
        "message.timeout.ms": 0,  # for ever: giving up is not the client's to decide
        "message.max.bytes": MAX_MESSAGE_BYTES + 10_000,
        "queue.buffering.max.kbytes": MAX_UNACKED_BYTES >> 10,
        "queue.buffering.max.messages": 200_000,
        "linger.ms": 2,
        "partitioner": "murmur2_random",  # as Java's clients
        "reconnect.backoff.max.ms": 2_000,
        "topic.metadata.refresh.interval.ms": 60_000,
        "error_cb": on_error,
        "logger": quiet,
        **settings.properties,
    }
    try:
        client = Producer(properties)
    except KafkaException as error:
        raise SettingsError(f"kafka.properties: {error.args[0].str()}") from error
    transport: Transport = client
    return transport
