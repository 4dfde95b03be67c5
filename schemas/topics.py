"""Names of the Kafka topics."""

from dataclasses import dataclass


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
