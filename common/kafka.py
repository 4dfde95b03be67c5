"""The one way to Kafka: how its clients are configured, and what is asked of the cluster.

What a client is given comes from three places; the later wins:
1. our defaults,
2. `kafka.properties`, the user's,
3. what exactness hangs on (`common.settings.FIXED_PROPERTIES` refuses it in `kafka.properties`).

Clients say nothing themselves unless `log_level` is raised: a producer is polled, so its errors come to `on_error` and
its lines to the log; of others, an error is what is raised by the next question. While Kafka is away their errors wait
in memory for a poll: who keeps such a client polls it with each question.
Nothing is asked without a time-out.
"""

import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from common import logs
from common.errors import ServiceUnavailable, SettingsError
from common.settings import KafkaSettings

log = logs.get("kafka")

NOW, TIMELESS = 0, -1
"""Time stamps to produce with: of the client's clock when it sends; none, which no broker refuses."""
UNTIMELY = frozenset({KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD, KafkaError._INVALID_DIFFERENT_RECORD})  # noqa: SLF001  the library's name
"""Codes of errors by which a time stamp is refused; the last two where several messages were sent together."""

OnError = Callable[[KafkaError], None]

_DEFAULTS: Mapping[str, Any] = {
    "log_level": 0,
    "reconnect.backoff.max.ms": 2_000,
    "topic.metadata.refresh.interval.ms": 5_000,  # a topic that was made, or given partitions, is known after seconds
}
PRODUCER: Mapping[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",  # as Java's clients
}
CONSUMER: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": False,
    "isolation.level": "read_committed",
}


def properties(
    settings: KafkaSettings, *, ours: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """librdkafka's properties of a client. Pure."""
    return {
        **_DEFAULTS,
        **(defaults or {}),
        **settings.properties,
        "bootstrap.servers": settings.bootstrap_servers,
        **ours,
    }


def producer(
    settings: KafkaSettings,
    *,
    on_error: OnError,
    defaults: Mapping[str, Any] | None = None,
    ours: Mapping[str, Any] | None = None,
) -> Producer:
    """An idempotent producer, to be polled. `ours`: more that kafka.properties cannot change. Raises SettingsError."""
    defaults = {"compression.type": settings.compression, **(defaults or {})}
    ours = {**PRODUCER, **(ours or {}), "error_cb": on_error, "logger": logging.getLogger(logs.LIBRDKAFKA)}
    with _explained():
        return Producer(properties(settings, defaults=defaults, ours=ours))


def consumer(
    settings: KafkaSettings,
    *,
    group: str,
    from_end: bool = False,
    defaults: Mapping[str, Any] | None = None,
    ours: Mapping[str, Any] | None = None,
) -> Consumer:
    """A consumer that commits nothing: assign it partitions. Raises SettingsError.

    `from_end`: where an assigned offset is no longer there, go on with the newest message, not the oldest.
    `ours`: more that kafka.properties cannot change.
    """
    ours = {**CONSUMER, **(ours or {}), "group.id": group, "auto.offset.reset": "latest" if from_end else "earliest"}
    with _explained():
        return Consumer(properties(settings, defaults=defaults, ours=ours))


def admin(settings: KafkaSettings) -> AdminClient:
    """A client that asks about the cluster. Raises SettingsError."""
    with _explained():
        return AdminClient(properties(settings, ours={}))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise SettingsError(f"kafka.properties: {error.args[0].str()}") from error
    except (TypeError, ValueError) as error:
        raise SettingsError(f"kafka.properties: {error}") from error


class Topic(Protocol):
    """A topic as it is to be made."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def partitions(self) -> int:
        """How many."""

    @property
    def config(self) -> dict[str, str]:
        """Kafka's topic properties."""


def create_missing(
    settings: KafkaSettings, topics: Sequence[Topic], *, timeout_seconds: float = 30, client: Any = None
) -> list[str]:
    """Create the topics that do not exist; those that do are left as they are. Returns the new names.

    `client`: of `admin`, if there is one. Raises ServiceUnavailable when Kafka does not answer or refuses.
    """
    client = admin(settings) if client is None else client
    try:
        existing = client.list_topics(timeout=timeout_seconds).topics
        wanted = [topic for topic in topics if topic.name not in existing]
        if not wanted:
            return []
        asked = client.create_topics(
            [
                NewTopic(
                    topic.name,
                    num_partitions=topic.partitions,
                    config=topic.config,
                    replication_factor=settings.replication_factor,
                )
                for topic in wanted
            ],
            operation_timeout=timeout_seconds,
            request_timeout=timeout_seconds,
        )
        for name, answer in asked.items():
            try:
                answer.result(timeout_seconds)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ServiceUnavailable(f"Kafka did not create the topic {name}: {error.args[0].str()}") from error
    except (KafkaException, TimeoutError) as error:
        raise ServiceUnavailable(
            f"Kafka at {settings.bootstrap_servers} did not answer: {reason(error)}. Is it running?"
        ) from error
    log.info("topics created", topics=",".join(asked))
    return list(asked)


def topic_id(settings: KafkaSettings, topic: str, *, timeout_seconds: float = 5, client: Any = None) -> int:
    """The identity that Kafka gave a topic when it was made (KIP-516), folded to 64 bits; never 0.

    A topic that is deleted and made anew has another one. `client`: of `admin`, if there is one. Raises
    ServiceUnavailable.
    """
    client = admin(settings) if client is None else client  # held until the answer is there
    try:
        asked = client.describe_topics(TopicCollection([topic]), request_timeout=timeout_seconds)
        found = asked[topic].result(timeout_seconds).topic_id
    except (KafkaException, TimeoutError) as error:
        raise ServiceUnavailable(f"Kafka does not tell the id of the topic {topic}: {reason(error)}") from error
    return (found.get_most_significant_bits() ^ found.get_least_significant_bits()) & (2**64 - 1) or 1


PEEKING: Mapping[str, Any] = {
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",  # as streams reads
    "queued.min.messages": 1,
    "fetch.message.max.bytes": 1 << 16,  # one message is wanted; a larger one comes, too
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 10,  # the next question need not wait until the last one's messages are forgotten
}
"""`ours` of a consumer that is used for `first_messages` and nothing else."""


def first_messages(
    consumer: Consumer, topic: str, offsets: Mapping[int, int], *, timeout_seconds: float
) -> Iterator[tuple[int, Any]]:
    """Each partition with its first message at or after the offset, None where there is none yet, as they come.

    Not every offset has a message: there are marks of others' transactions, what was compacted, what was removed.
    Raises KafkaException, and TimeoutError when not all came in time.
    """
    consumer.assign([TopicPartition(topic, number, offset) for number, offset in offsets.items()])
    deadline = time.monotonic() + timeout_seconds
    missing = set(offsets)
    try:
        while missing:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise TimeoutError(f"no message of partition {min(missing)} came in {timeout_seconds:.0f} s")
            error, number = message.error(), message.partition()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's name
                raise KafkaException(error)
            if number is None or number not in missing:
                continue
            missing.remove(number)
            consumer.incremental_unassign([TopicPartition(topic, number)])
            yield number, message if error is None else None
    finally:
        consumer.unassign()


def reason(error: BaseException) -> str:
    """What an error of Kafka's client says, in its own words."""
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    if isinstance(cause, KafkaError):
        return str(cause.str())
    return str(error) or "no answer in time"


_SECURITY = frozenset(
    {
        "security.protocol",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How to log in, for a client that is not librdkafka's."""

    tls: ssl.SSLContext | None  # None: not encrypted
    mechanism: str | None  # of SASL, such as SCRAM-SHA-512; None: no SASL
    username: str | None
    password: str | None

    @classmethod
    def of(cls, settings: KafkaSettings) -> "Security":
        """Read it from kafka.properties. Raises SettingsError for what only librdkafka can do."""
        given = settings.properties
        unknown = sorted(
            name for name in given if name.startswith(("sasl.", "ssl.", "security.")) and name not in _SECURITY
        )
        if unknown:
            raise SettingsError(
                f"kafka.properties: streams cannot use {unknown[0]}; it knows {', '.join(sorted(_SECURITY))}"
            )
        protocol = given.get("security.protocol", "plaintext").upper()
        if protocol not in {"PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"}:
            raise SettingsError(
                f"kafka.properties: security.protocol is {protocol!r}; use plaintext, ssl, sasl_ssl or sasl_plaintext"
            )
        mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or "PLAIN"
        return cls(
            tls=_tls(given) if protocol.endswith("SSL") else None,
            mechanism=mechanism if protocol.startswith("SASL") else None,
            username=given.get("sasl.username"),
            password=given.get("sasl.password"),
        )


def _tls(given: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl.ca.location"))
        certificate = given.get("ssl.certificate.location")
        if certificate:
            context.load_cert_chain(certificate, given.get("ssl.key.location"), given.get("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"kafka.properties: the certificates cannot be used: {error}") from error
    return context
