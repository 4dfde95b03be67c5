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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from common import logs
from common.errors import ServiceUnavailable, SettingsError
from common.security.secrets import reveal_all
from common.settings import KafkaSettings

log = logs.get("kafka")

NOW, TIMELESS = 0, -1
"""Time stamps to produce with: of the client's clock when it sends; none, which no broker refuses."""
UNTIMELY = frozenset({KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD, KafkaError._INVALID_DIFFERENT_RECORD})  # noqa: SLF001  the library's name
"""Codes of errors by which a time stamp is refused; the last two where several messages were sent together."""

_REFUSED_SECONDS = 60.0
_CREDENTIALS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})  # noqa: SLF001
_MECHANISM = frozenset({KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE})
_PERMISSION = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

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
    """librdkafka's properties of a client, with the secrets that they name. Raises SettingsError."""
    return {
        **_DEFAULTS,
        **(defaults or {}),
        **reveal_all(settings.properties, "kafka.properties"),
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
        return _Reader(properties(settings, defaults=defaults, ours=ours))


def admin(settings: KafkaSettings) -> AdminClient:
    """A client that asks about the cluster. Raises SettingsError."""
    with _explained():
        return _Asker(properties(settings, ours={}))


class _Refusals:
    """Why a client is not let in: librdkafka tells it beside the question, which only gets no answer."""

    def __init__(self) -> None:
        self._said, self._at = "", 0.0

    def __call__(self, error: KafkaError) -> None:
        """For error_cb."""
        if said := refusal(error):
            self._said, self._at = said, time.monotonic()

    def lately(self) -> str:
        """The last one; empty: none within the time in which librdkafka says it again, and again."""
        return self._said if time.monotonic() - self._at < _REFUSED_SECONDS else ""


class _Reader(Consumer):
    """A consumer that remembers why it is not let in."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.refusals = _Refusals()
        super().__init__(wanted | {"error_cb": self.refusals})


class _Asker(AdminClient):
    """An AdminClient that remembers why it is not let in."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.refusals = _Refusals()
        super().__init__(wanted | {"error_cb": self.refusals})


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
                    raise ServiceUnavailable(f"Kafka did not create the topic {name}: {reason(error)}") from error
    except (KafkaException, TimeoutError) as error:
        raise ServiceUnavailable(
            refused(error, client)
            or f"Kafka at {settings.bootstrap_servers} did not answer: {reason(error)}. {_is_it(settings)}"
        ) from error
    log.info("topics created", topics=",".join(asked))
    return list(asked)


def _is_it(settings: KafkaSettings) -> str:
    """What may be the reason. Who speaks plain text to TLS is cut off without a word."""
    known = "security.protocol" in settings.properties
    return "Is it running?" if known else "Is it running? One with TLS or passwords needs kafka.properties"


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
        raise ServiceUnavailable(f"Kafka does not tell the id of the topic {topic}: {reason(error, client)}") from error
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
                if is_of_a_group(error):
                    continue
                raise KafkaException(error)
            if number is None or number not in missing:
                continue
            missing.remove(number)
            consumer.incremental_unassign([TopicPartition(topic, number)])
            yield number, message if error is None else None
    finally:
        consumer.unassign()


def refusal(error: KafkaError) -> str:
    """What an error means that says that we are not let in, and what to do; empty: it says something else."""
    code, said = error.code(), error.str()
    if code in _CREDENTIALS:
        return f"Kafka does not let us in ({said}). Correct what kafka.properties say of sasl"
    if code in _MECHANISM:
        return f"Kafka does not know this way to log in ({said}). Correct sasl.mechanism in kafka.properties"
    if code == KafkaError._SSL or "SSL routines" in said:  # noqa: SLF001  the library's name; of OpenSSL
        return f"TLS with Kafka fails ({said}). Correct what kafka.properties say of ssl"
    if "security.protocol" in said:  # librdkafka's own guess, with an error that says nothing of it
        return f"Kafka closes the connection ({said}). Correct security.protocol in kafka.properties"
    if code in _PERMISSION:
        return f"Kafka does not permit it ({said}). docs/operations.md lists what each part needs"
    return ""


def is_of_a_group(error: KafkaError) -> bool:
    """Whether what an assigned consumer hears is nothing to it: it is not let into a group, which it does not join."""
    return bool(error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED)


def refused(error: BaseException, client: Any = None) -> str:
    """`refusal` of an error of Kafka's client. `client`: of `admin` or `consumer`, which may have heard more."""
    if isinstance(client, _Reader | _Asker):
        client.poll(0)
        if said := client.refusals.lately():
            return said
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return refusal(cause) if isinstance(cause, KafkaError) else ""


def reason(error: BaseException, client: Any = None) -> str:
    """What an error of Kafka's client says: that we are refused, else its own words. `client`: as for `refused`."""
    if said := refused(error, client):
        return said
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    if isinstance(cause, KafkaError):
        return str(cause.str())
    return str(error) or "no answer in time"
