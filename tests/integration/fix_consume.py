"""Topics for those who read with ayaflow.consume, and a reader that is a process of its own and may be killed."""

import itertools
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from ayaflow.consume import FlowPart
from ayaflow.consume.reading import Reading
from common import kafka
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from schemas.topics import TopicNames, topics
from streams.partition.storing import WindowId
from tests.fix_local import REPOSITORY
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS, until

HOUR = 3600
NOW = int(time.time()) // HOUR * HOUR - 6 * HOUR
"""Seconds; windows begin there."""


@dataclass
class Site:
    """Topics of our own on a broker, and what is written to them."""

    kafka: str
    partitions: int = 4
    prefix: str = field(default_factory=lambda: f"c{uuid.uuid4().hex}.")

    def __post_init__(self) -> None:
        self.settings = KafkaSettings(
            bootstrap_servers=self.kafka, topic_prefix=self.prefix, partitions=self.partitions
        )
        self.topics = TopicNames.of(self.prefix)
        self.admin = kafka.admin(self.settings)
        self.codec = Codec()
        self.make()

    def make(self) -> None:
        """The topics that are not there."""
        kafka.create_missing(self.settings, topics(self.settings), client=self.admin)
        self.producer = self._producer()

    def _producer(self, **more: Any) -> Producer:
        given = {"bootstrap.servers": self.kafka, "linger.ms": 5, "enable.idempotence": True, "log_level": 0}
        return Producer({**given, "message.max.bytes": 32 << 20, **more})

    def make_anew(self, topic: str) -> None:
        """Delete a topic and make it again."""
        self.admin.delete_topics([topic])[topic].result(HANG_SECONDS)
        until(lambda: topic not in self.admin.list_topics(timeout=HANG_SECONDS).topics)
        self.make()

    def records(self, rows: int, *, window: int = NOW, revision: int = 0) -> list[tuple[bytes, bytes]]:
        """Keys and values of the flow records of a window; each has 3 packets and 60 bytes."""
        of = flows(3, WindowId(window, 10), rows=rows)
        keys, values = self.codec.encode_flow_records(of, topic_id=9, kafka_partition=0, revision=revision)
        return list(zip(keys, values, strict=True))

    def send_records(self, records: Iterable[tuple[bytes, bytes]], *, stamp: int = NOW) -> None:
        """As streams does, by key."""
        for number, (key, value) in enumerate(records):
            self.producer.produce(self.topics.flows, value, key, timestamp=stamp * 1000, on_delivery=_taken)
            if number % 10_000 == 0:
                self.producer.poll(0)
        assert self.producer.flush(HANG_SECONDS) == 0

    def send(self, topic: str, values: Iterable[bytes | None], partition: int = 0) -> None:
        """As they are."""
        for value in values:
            self.producer.produce(topic, value, partition=partition, on_delivery=_taken)
        assert self.producer.flush(HANG_SECONDS) == 0

    def send_batches(self, batches: Iterable[PacketBatch], partition: int = 0) -> None:
        """As a node does."""
        self.send(self.topics.packets, map(self.codec.encode_packet_batch, batches), partition)


def _taken(error: KafkaError | None, _: object) -> None:
    assert error is None, error


PACKETS = """
import sqlite3, sys
from ayaflow.consume import Packets

servers, path, topic = sys.argv[1:]
store = sqlite3.connect(path, isolation_level=None, timeout=60)
store.execute("CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER)")
store.execute("CREATE TABLE IF NOT EXISTS totals (rows INTEGER, packets INTEGER, bytes INTEGER, duplicates INTEGER)")
resume = lambda _: dict(store.execute("SELECT partition, next FROM offsets"))
with Packets(servers, topic=topic, resume=resume) as reader:
    for part in reader:
        row = len(part), int(part.packets.sum()), int(part.bytes.sum()), part.duplicates
        store.execute("BEGIN IMMEDIATE")
        store.execute("INSERT INTO totals VALUES (?, ?, ?, ?)", row)
        for partition, offsets in part.offsets.items():
            store.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", (partition, offsets.stop))
        store.execute("COMMIT")
"""
"""As exactly_once.py of docs/consumers/python-library.md, of packets."""


class Killed:
    """A program that keeps its totals and its offsets in one transaction, and is killed again and again."""

    def __init__(self, program: str, servers: str, topic: str, directory: Path) -> None:
        self.path = directory / "totals.sqlite"
        self._words = [sys.executable, "-c", program, servers, str(self.path), topic]
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> None:
        self._process = subprocess.Popen(self._words, cwd=REPOSITORY)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, "it ended by itself"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def sums(self) -> tuple[int, int, int, int]:
        """Rows, packets, bytes, duplicates."""
        found = sqlite3.connect(self.path, timeout=60)
        try:
            sums = "SELECT coalesce(sum(rows), 0), sum(packets), sum(bytes), sum(duplicates) FROM totals"
            return tuple(found.execute(sums).fetchone())
        except sqlite3.OperationalError:  # it has not begun yet
            return 0, 0, 0, 0
        finally:
            found.close()


def sliced(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """So many at a time."""
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part


@pytest.fixture
def site(kafka_broker: str) -> Site:
    return Site(kafka_broker)


def collect(reading: Reading[Any, Any], rows: int, parts: list[Any] | None = None) -> list[Any]:
    """Parts until so many rows came; each is committed."""
    parts = [] if parts is None else parts

    def enough() -> bool:
        part = reading.poll(0.5)
        if part is not None and part.commit():
            parts.append(part)
        return sum(map(len, parts)) >= rows

    until(enough, lambda: [(len(part), part.duplicates, part.offsets) for part in parts])
    return parts


def ids(parts: list[FlowPart]) -> Counter[str]:
    return Counter(each for part in parts for each in part.table["record_id"].to_pylist())
