"""Our Kafka topics: their names, and with what partitions and retention they are made. Pure."""

from dataclasses import dataclass, replace

from common.settings import KafkaSettings

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message (one compressed record batch) that brokers, topics and consumers of ours take."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The topics of one deployment; `kafka.topic_prefix` tells deployments on one cluster apart."""

    packets: str  # PacketBatch, key: node
    packet_events: str  # PacketEvent, key: node
    flows: str  # FlowRecord, key: Community ID
    live: str  # LiveStats, key: node
    dead_letter: str  # the raw message, with headers that say where it came from and what is wrong

    @classmethod
    def of(cls, prefix: str) -> "TopicNames":
        """The names below a prefix, for instance `ayaflow.`."""
        return cls(
            packets=f"{prefix}packets",
            packet_events=f"{prefix}packet-events",
            flows=f"{prefix}flows",
            live=f"{prefix}live",
            dead_letter=f"{prefix}dead-letter",
        )


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
