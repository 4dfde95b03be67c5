"""Kafka's client, and what its errors mean to people."""

from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import KafkaError

from common import kafka
from common.settings import KafkaSettings
from producer.kafka.outbox import MAX_MESSAGE_BYTES, MAX_UNACKED_BYTES

Delivered = Callable[[Any, Any], None]  # (KafkaError or None, message)


class Transport(Protocol):
    """What we use of confluent_kafka.Producer."""

    def produce(
        self, topic: str, *, key: bytes, value: bytes, partition: int, timestamp: int, on_delivery: Delivered
    ) -> None:
        """Queue a message. `partition` -1: by the key. `timestamp`: ms, or NOW or TIMELESS of common.kafka.

        Raises BufferError when the queue is full, KafkaException when the client is broken or the partition unknown.
        """

    def poll(self, timeout: float) -> int:
        """Call the delivery callbacks that are due; wait for the first of them. Raises KafkaException, a fatal one."""

    def purge(self) -> None:
        """Give up all that is queued: each message's callback comes with an error."""


OpenTransport = Callable[[Callable[[Any], None]], Transport]
"""Makes a Transport that reports its general errors to the given function."""

PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001  public constants that begin with _
"""Errors of messages that we have taken back ourselves."""
_AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE}  # noqa: SLF001
_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001


def explain(error: Any) -> str:
    """A sentence for a KafkaError: what happened and what to do."""
    if said := kafka.refusal(error):
        return said
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
    if error.code() in kafka.UNTIMELY:
        return (
            f"Kafka finds this node's clock wrong ({error.str()}), and is sent no times. "
            "Set the clock, or message.timestamp.type of the topic to LogAppendTime"
        )
    if error.code() in {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}:
        return (
            f"Kafka finds a batch too large ({error.str()}). "
            "Lower producer.batch_packets, or raise max.message.bytes of the topic"
        )
    return f"{error.name()}: {error.str()}"


def open_kafka(settings: KafkaSettings, on_error: Callable[[Any], None]) -> Transport:
    """The real client. Raises SettingsError when a property is wrong."""
    transport: Transport = kafka.producer(
        settings,
        on_error=on_error,
        ours={
            "message.timeout.ms": 0,  # for ever: giving up is not the client's to decide
            "message.max.bytes": MAX_MESSAGE_BYTES + 10_000,
        },
        defaults={
            "client.id": "ayaflow-producer",
            "queue.buffering.max.kbytes": MAX_UNACKED_BYTES >> 10,
            "queue.buffering.max.messages": 200_000,
            "linger.ms": 2,
            "topic.metadata.refresh.interval.ms": 60_000,
        },
    )
    return transport
