"""Our Kafka topics: their names, and with what partitions and retention they are made. Pure."""

from dataclasses import dataclass, replace
from typing import Literal

from common.settings import KafkaSettings

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message (one compressed record batch) that brokers, topics and consumers of ours take."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
AHEAD_MS = 30 * MINUTE_MS  # half of what Kafka lets a time stamp be ahead of its clock


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
    time: Literal["broker", "event"]  # whose a message's time stamp is; retention goes by it

    def stamp_ms(self, event_ms: int, now_ms: int) -> int:
        """The time stamp of a message about something at `event_ms`, of a topic with event times.

        It is the time of sending where Kafka would remove the message soon (of a replay), or later than others (of a
        node whose clock is ahead, by which consumers would take the time for later than it is).
        """
        return event_ms if now_ms - self.retention_ms // 2 <= event_ms <= now_ms + AHEAD_MS else now_ms

    @property
    def config(self) -> dict[str, str]:
        """Kafka's topic properties."""
        return {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "message.timestamp.type": "LogAppendTime" if self.time == "broker" else "CreateTime",
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "segment.ms": str(self.segment_ms),
            "segment.bytes": str(min(256 << 20, max(16 << 20, self.retention_bytes // 8))),
        }


def operator_topic(settings: KafkaSettings, operator: str) -> Topic:
    """What an operator of streams found: JSON, key: its record_id."""
    flows = next(topic for topic in topics(settings) if topic.name == TopicNames.of(settings.topic_prefix).flows)
    return replace(flows, name=f"{settings.topic_prefix}operator.{operator.replace('_', '-')}")


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
        time="broker",  # a node's clock may be wrong: its packets would be refused, removed unread or kept for ever
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
            time="event",
        ),
        Topic(
            name=names.live,
            partitions=1,
            retention_ms=10 * MINUTE_MS,
            retention_bytes=256 << 20,
            segment_ms=5 * MINUTE_MS,
            time="event",
        ),
        Topic(
            name=names.dead_letter,
            partitions=1,
            retention_ms=30 * DAY_MS,
            retention_bytes=1 << 30,
            segment_ms=DAY_MS,
            time="broker",
        ),
    )
