"""Stands in for the console's neighbours in tests: a live topic, its reader, summaries as streams sends them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from console.live.reader import Heard

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
FLOW = {
    "interface": "eth0",
    "direction": "ingress",
    "protocol": 6,
    "src_addr": "10.0.0.1",
    "dst_addr": "10.0.0.2",
    "src_port": 40_000,
    "dst_port": 443,
    "vlan_id": 0,
    "icmp_type": 0,
    "icmp_code": 0,
    "tunnel_type": "none",
    "tunnel_id": 0,
    "outer_src_addr": "",
    "outer_dst_addr": "",
    "domain": "",
    "domain_source": "",
}


def at(seconds: float) -> datetime:
    """A moment on the node's clock."""
    return START + timedelta(seconds=seconds)


def flow(first: float, last: float, size: int, **values: Any) -> dict[str, Any]:
    """One of `top`: `size` bytes, in packets of 100, from second `first` to `last`."""
    return {
        **FLOW,
        "packets": size // 100,
        "bytes": size,
        "packets_rev": 0,
        "bytes_rev": 0,
        "first_seen": at(first),
        "last_seen": at(last),
        **values,
    }


def live_stats(time: float, *top: dict[str, Any], node: str = "n1", **passed: int) -> dict[str, Any]:
    """A LiveStats of second `time`; `passed`: what its one interface counted, all of it primary if not said."""
    interface = {
        "interface": "eth0",
        "direction": "ingress",
        "packets": 0,
        "bytes": 0,
        "primary_packets": passed.get("packets", 0),
        "primary_bytes": passed.get("bytes", 0),
        "non_ip_packets": 0,
        "malformed_packets": 0,
        "unknown_link_packets": 0,
        "ring_full_packets": 0,
        **passed,
    }
    return {
        "node": node,
        "time": at(time),
        "interval_ms": 1000,
        "interfaces": [interface],
        "active_flows": len(top),
        "open_windows": 1,
        "lag_messages": 0,
        "top": list(top),
    }


@dataclass(slots=True)
class MemoryReader:
    """A console.live.hub.Reader that hands on what the test tells it to."""

    heard: Heard
    problem: str = ""
    left_out: int = 0
    reason: str = ""
    runs: bool = False

    def start(self) -> None:
        """Begin."""
        self.runs = True

    def stop(self) -> None:
        """End."""
        self.runs = False


@dataclass(slots=True)
class MemoryTopic:
    """A topic and its broker, for console.live.reader. `idle` is called when a reader has read all there is."""

    name: str
    idle: Callable[[], None]
    partitions: list[list[bytes]] = field(default_factory=lambda: [[]])
    away: bool = False  # the broker
    opened: int = 0  # clients, ever
    closed: int = 0
    assigned: list[dict[int, int]] = field(default_factory=list)  # partition -> offset asked for, of each client

    def connect(self) -> "MemoryConsumer":
        """A client."""
        self.opened += 1
        return MemoryConsumer(self)


class MemoryConsumer:
    """A console.live.reader.Consumer."""

    def __init__(self, topic: MemoryTopic) -> None:
        self._topic = topic
        self._next: dict[int, int] = {}

    def list_topics(self, topic: str, timeout: float) -> Any:
        """The metadata. Raises KafkaException while the broker is away."""
        if self._topic.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "all brokers are down"))
        partitions = dict.fromkeys(range(len(self._topic.partitions)))
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=partitions, error=None)})

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read from there on."""
        asked = {one.partition: one.offset for one in partitions}
        self._topic.assigned.append(asked)
        self._next = {
            number: len(self._topic.partitions[number]) if offset == OFFSET_END else offset
            for number, offset in asked.items()
        }

    def poll(self, timeout: float) -> Any:
        """The next message, an error while the broker is away, or None after `idle` was called."""
        if self._topic.away:
            error = KafkaError(KafkaError._TRANSPORT, "broker transport failure")
            return _Message(error, b"", 0, 0)
        for number, offset in self._next.items():
            if offset < len(self._topic.partitions[number]):
                self._next[number] += 1
                return _Message(None, self._topic.partitions[number][offset], number, offset)
        self._topic.idle()
        return None

    def close(self) -> None:
        """End."""
        self._topic.closed += 1


class _Message:
    def __init__(self, error: KafkaError | None, value: bytes, partition: int, offset: int) -> None:
        self._error, self._value, self._partition, self._offset = error, value, partition, offset

    def error(self) -> KafkaError | None:
        return self._error

    def value(self) -> bytes:
        return self._value

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset
