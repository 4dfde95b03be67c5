"""Our Kafka topics: their names, what is in them, and with what partitions and retention they are made. Pure."""

from collections.abc import Mapping
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
    names: str  # NameBatch, key: node
    flows: str  # FlowRecord, key: Community ID
    live: str  # LiveStats, key: node
    dead_letter: str  # the raw message, with headers that say where it came from and what is wrong

    @classmethod
    def of(cls, prefix: str) -> "TopicNames":
        """The names below a prefix, for instance `ayaflow.`."""
        return cls(
            packets=f"{prefix}packets",
            packet_events=f"{prefix}packet-events",
            names=f"{prefix}names",
            flows=f"{prefix}flows",
            live=f"{prefix}live",
            dead_letter=f"{prefix}dead-letter",
        )

    def by_schema(self) -> dict[str, str]:
        """Name of a schema -> the topic whose values it describes; there is none of dead letters."""
        return {
            "PacketBatch": self.packets,
            "PacketEvent": self.packet_events,
            "FlowRecord": self.flows,
            "LiveStats": self.live,
            "NameBatch": self.names,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What the keys of a topic are: plain UTF-8 text, without a schema or framing."""

    about: str
    example: str


NODE = Key(about="the node's name", example="gateway-1")
COMMUNITY_ID = Key(
    about="the flow's Community ID, the same for both directions and on all nodes",
    example="1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
)
RECORD_ID = Key(about="the finding's record_id", example="9c41d7a25be01f88-3-1767225600-10-0-0")
ORIGINAL = Key(about="the original message's, whatever it is, or none", example="gateway-1")

DEAD_LETTER_HEADERS: Mapping[str, str] = {
    "source-topic": "Topic that the message was in.",
    "source-partition": "Its partition there, as decimal text.",
    "source-offset": "Its offset there, as decimal text.",
    "error": "Why it could not be decoded: a sentence of at most 1,000 characters.",
    "original-length": "Octets that its value had, as decimal text; only where the value was cut.",
    "original-key-length": "Octets that its key had; only where the key was cut.",
}
"""Headers of a dead letter: UTF-8 text. No other message of ours has headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it is made when it does not exist."""

    name: str
    about: str
    key: Key
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
    """What an operator of streams found."""
    flows = next(topic for topic in topics(settings) if topic.name == TopicNames.of(settings.topic_prefix).flows)
    return replace(
        flows,
        name=f"{settings.topic_prefix}operator.{operator.replace('_', '-')}",
        about="What an operator found, one message a finding, as JSON; only with `streams.operators`.",
        key=RECORD_ID,
    )


OPERATOR = "{operator}"
"""In the name of a topic that is described: an operator's name, with - for _."""


def described(settings: KafkaSettings) -> tuple[Topic, ...]:
    """`topics`, and one that stands for those of operators, with OPERATOR in its name."""
    return (*topics(settings), operator_topic(settings, OPERATOR))


def topics(settings: KafkaSettings) -> tuple[Topic, ...]:
    """All topics of a pipeline."""
    names = TopicNames.of(settings.topic_prefix)
    packets_ms = round(settings.packets_retention_hours * HOUR_MS)
    packets = Topic(
        name=names.packets,
        about="Every packet, in columns; lossless, can be windowed again. A node's messages are in order.",
        key=NODE,
        partitions=settings.partitions,
        retention_ms=packets_ms,
        retention_bytes=settings.packets_retention_bytes,
        segment_ms=max(MINUTE_MS, packets_ms // 8),
        time="broker",  # a node's clock may be wrong: its packets would be refused, removed unread or kept for ever
    )
    return (
        packets,
        replace(
            packets, name=names.packet_events, about="One packet a message; only with `producer.encoding: record`."
        ),
        replace(
            packets,
            name=names.names,
            about="What names were asked for, in columns; only with `capture.inspect`. A node's messages are in order.",
        ),
        Topic(
            name=names.flows,
            about="One message a flow and window.",
            key=COMMUNITY_ID,
            partitions=settings.partitions,
            retention_ms=7 * DAY_MS,
            retention_bytes=settings.packets_retention_bytes,
            segment_ms=DAY_MS,
            time="event",
        ),
        Topic(
            name=names.live,
            about="Once a second, of each node: totals and top talkers.",
            key=NODE,
            partitions=1,
            retention_ms=10 * MINUTE_MS,
            retention_bytes=256 << 20,
            segment_ms=5 * MINUTE_MS,
            time="event",
        ),
        Topic(
            name=names.dead_letter,
            about="What could not be decoded, as it came, with its origin in headers.",
            key=ORIGINAL,
            partitions=1,
            retention_ms=30 * DAY_MS,
            retention_bytes=1 << 30,
            segment_ms=DAY_MS,
            time="broker",
        ),
    )
