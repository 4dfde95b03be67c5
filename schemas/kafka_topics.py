"""Our Kafka topics: which there are, with what partitions and retention, and how they are made."""

from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from common import logs
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from schemas.topics import TopicNames

log = logs.get("kafka")

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message (one compressed record batch) that brokers, topics and consumers of ours take."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it is made when it does not exist."""

    name: str
    partitions: int
    retention_ms: int
    retention_bytes: int  # of one partition; -1: no limit
    segment_ms: int  # retention works on whole segments

    @property
    def config(self) -> dict[str, str]:
        """Kafka's topic properties."""
        return {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "segment.ms": str(self.segment_ms),
            "segment.bytes": str(min(256 << 20, max(16 << 20, self.retention_bytes // 8))),
        }


def topics(settings: KafkaSettings) -> tuple[Topic, ...]:
    """All topics of a pipeline."""
    names = TopicNames.of(settings.topic_prefix)
    packets_ms = round(settings.packets_retention_hours * HOUR_MS)
    packets = Topic(
        name=names.packets,
        partitions=settings.partitions,
        retention_ms=packets_ms,
        retention_bytes=settings.packets_retention_bytes,
        segment_ms=max(MINUTE_MS, packets_ms // 8),
    )
    return (
        packets,
        replace(packets, name=names.packet_events),
        Topic(
            name=names.flows,
            partitions=settings.partitions,
            retention_ms=7 * DAY_MS,
            retention_bytes=settings.packets_retention_bytes,
            segment_ms=DAY_MS,
        ),
        Topic(
            name=names.live,
            partitions=1,
            retention_ms=10 * MINUTE_MS,
            retention_bytes=256 << 20,
            segment_ms=5 * MINUTE_MS,
        ),
        Topic(
            name=names.dead_letter, partitions=1, retention_ms=30 * DAY_MS, retention_bytes=1 << 30, segment_ms=DAY_MS
        ),
    )


def admin_client(settings: KafkaSettings) -> AdminClient:
    """An admin client that does not write to standard error while the broker is away."""
    config: dict[str, Any] = {
        **settings.properties,
        "bootstrap.servers": settings.bootstrap_servers,
        "log_level": 0,
        "error_cb": lambda _: None,
    }
    return AdminClient(config)


def topic_id(settings: KafkaSettings, topic: str, *, timeout_seconds: float = 5) -> int:
    """The identity that Kafka gave a topic when it was made (KIP-516), folded to 64 bits; never 0.

    A topic that is deleted and made anew has another one. Raises ServiceUnavailable.
    """
    admin = admin_client(settings)  # held until the answer is there
    try:
        asked = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_seconds)
        found = asked[topic].result(timeout_seconds).topic_id
    except (KafkaException, TimeoutError) as error:
        raise ServiceUnavailable(f"Kafka does not tell the id of the topic {topic}: {error}") from error
    return (found.get_most_significant_bits() ^ found.get_least_significant_bits()) & (2**64 - 1) or 1


def create_missing(settings: KafkaSettings, *, timeout_seconds: float = 30) -> list[str]:
    """Create the topics that do not exist; those that do are left as they are. Returns the new names.

    Raises ServiceUnavailable when Kafka does not answer or refuses.
    """
    admin = admin_client(settings)
    try:
        existing = admin.list_topics(timeout=timeout_seconds).topics
        wanted = [topic for topic in topics(settings) if topic.name not in existing]
        if not wanted:
            return []
        asked = admin.create_topics(
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
        )
        for name, answer in asked.items():
            try:
                answer.result(timeout_seconds)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ServiceUnavailable(f"Kafka did not create the topic {name}: {error.args[0].str()}") from error
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka at {settings.bootstrap_servers} did not answer: {error.args[0].str()}. Is it running?"
        ) from error
    log.info("topics created", topics=",".join(asked))
    return list(asked)
