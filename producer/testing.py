"""Fakes of what the producer stands on: each obeys the Protocol that it names, and is the test's to move."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from producer.kafka.publisher import Delivered
from producer.kernel.abi import COALESCED, COALESCED_KEY, COUNTERS, EVENT, RECORD, Records
from producer.kernel.maps import fresh_counters
from producer.kernel.run_state import STATE, RunState
from schemas.packets import EpochCounters

# ---- The ring, the counters and the flow tables of the kernel program


class Killed(BaseException):
    """The process ends here."""


def records(rows: Iterable[dict[str, Any]]) -> Records:
    """Submitted records with these event fields; flow_hash follows from what makes a flow."""
    events = [{"slot": 3, "packets": 1, "bytes": 60, "epoch": 1, "protocol": 17} | row for row in rows]
    made = np.zeros(len(events), RECORD)
    made["header"] = EVENT.itemsize
    for record, event in zip(made, events, strict=True):
        for name, value in event.items():
            record["event"][name] = value
        if "flow_hash" not in event:
            key = {k: bytes(v) if isinstance(v, bytes) else v for k, v in event.items() if k not in _NOT_OF_THE_FLOW}
            record["event"]["flow_hash"] = np.uint64(hash(tuple(sorted(key.items()))) & (2**64 - 1))
    return made


_NOT_OF_THE_FLOW = {"ktime_ns", "bytes", "packets", "tcp_flags", "ttl", "tos", "segment_bytes", "epoch"}


def counters(**changed: Any) -> EpochCounters:
    """Of an epoch in which nothing passed, but for what is given."""
    outcomes = ("seen", "emitted", "non_ip", "malformed", "ring_full")
    fields: dict[str, Any] = {"epoch": 1, "start_ns": 0, "end_ns": 0, "interface": "eth0", "direction": 0}
    fields["primary"] = True
    fields |= {f"{outcome}_{unit}": 0 for outcome in outcomes for unit in ("packets", "bytes")}
    return EpochCounters(**(fields | changed))


@dataclass
class MemoryRing:
    """Obeys producer.capture.cutter.RingReader, over a growing array."""

    size: int = 1 << 20
    stride: int = RECORD.itemsize
    all: Records = field(default_factory=lambda: np.zeros(0, RECORD))
    released: int = 0

    def put(self, rows: Iterable[dict[str, Any]]) -> None:
        """The kernel program submits events."""
        self.all = np.concatenate([self.all, records(rows)])

    def producer_position(self) -> int:
        return len(self.all) * self.stride

    def readable(self, position: int) -> int:
        return max(position, self.producer_position())

    def span(self, start: int, end: int) -> Records:
        assert start >= self.released
        return self.all[start // self.stride : end // self.stride]

    def release(self, position: int) -> None:
        assert self.released <= position <= self.producer_position()
        self.released = position


class MemoryMaps:
    """Obeys producer.capture.epochs.KernelMaps: two maps of one CPU's counters, and two flow tables.

    `count` and `add_up` are the kernel. `fails`: where the process is killed: before open, after open, counters, zero,
    flows, clear.
    """

    def __init__(self, keys: int) -> None:
        self.maps = [{key: fresh_counters(epoch, 1) for key in range(keys)} for epoch in (2, 1)]
        self.tables: list[dict[tuple[int, int, int], Records]] = [{}, {}]
        self.epoch = 1
        self.fails: set[str] = set()

    def count(self, key: int, packets: int, size: int, outcome: str) -> int:
        """Packets pass. Returns the epoch in which they are counted."""
        row = self.maps[self.epoch & 1][key]
        for name in ("seen", outcome):
            row[f"{name}_packets"] += packets
            row[f"{name}_bytes"] += size
        return int(row["epoch"][0])

    def add_up(self, entry: Records) -> None:
        """An entry of the open epoch's flow table: of dtype COALESCED, shape (1,)."""
        table = self.tables[self.epoch & 1]
        table[int(entry["first"]["flow_hash"][0]), len(table), 0] = entry

    def _may_fail(self, what: str) -> None:
        if what in self.fails:
            raise Killed(what)

    def open(self, epoch: int) -> None:
        self._may_fail("before open")
        self.epoch = epoch
        self._may_fail("after open")

    def counters(self, epoch: int, key: int) -> npt.NDArray[np.void]:
        self._may_fail("counters")
        return self.maps[epoch & 1][key]

    def zero(self, epoch: int, key: int) -> None:
        assert self.maps[epoch & 1][key].dtype == COUNTERS
        self.maps[epoch & 1][key] = fresh_counters(epoch, 1)
        self._may_fail("zero")

    def flows(self, epoch: int) -> tuple[Records, Records]:
        self._may_fail("flows")
        table = self.tables[epoch & 1]
        keys = np.array(sorted(table), COALESCED_KEY)
        entries = np.concatenate([np.zeros(0, COALESCED), *(table[key] for key in sorted(table))])
        return keys, entries

    def clear(self, epoch: int, keys: Records) -> None:
        table = self.tables[epoch & 1]
        for key in keys.tolist():
            del table[key]
            self._may_fail("clear")


def memory_state() -> RunState:
    """A run's state that nobody inherits."""
    return RunState(np.zeros(1, STATE))


class MemorySwitches:
    """Obeys producer.capture.coalescing.KernelSwitches."""

    coalescing = False
    lived_ns = 0

    def live(self, now_ns: int, offset_ns: int) -> None:
        self.lived_ns = now_ns

    def coalesce(self, wanted: bool) -> None:
        self.coalescing = wanted


# ---- Kafka


@dataclass
class Stored:
    """What librdkafka says of an acknowledged message."""

    number: int

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number


@dataclass
class MemoryTransport:
    """Obeys producer.kafka.publisher.Transport. `stored`: what the broker has; `waiting`: unanswered."""

    room: int = 1_000
    answers_itself: bool = True
    stored: list[bytes] = field(default_factory=list)
    waiting: deque[tuple[str, bytes, Delivered]] = field(default_factory=deque)
    purged: bool = False

    def produce(self, topic: str, *, key: bytes, value: bytes, on_delivery: Delivered) -> None:
        if len(self.waiting) >= self.room:
            raise BufferError
        self.waiting.append((topic, value, on_delivery))

    def poll(self, timeout: float) -> int:
        while self.answers_itself and self.waiting:
            self.answer()
        return 0

    def purge(self) -> None:
        self.purged = True
        while self.waiting:
            self.answer(KafkaError(KafkaError._PURGE_QUEUE))

    def answer(self, error: KafkaError | None = None, place: int = 0) -> None:
        """Acknowledge a waiting message, or refuse it."""
        self.waiting.rotate(-place)
        _, value, on_delivery = self.waiting.popleft()
        self.waiting.rotate(place)
        if error is None:
            self.stored.append(value)
        on_delivery(error, Stored(len(self.stored) - 1))


@dataclass
class Told:
    """What librdkafka says of a message that was read."""

    number: int
    name: bytes
    octets: bytes | None
    problem: str | None = None

    def error(self) -> str | None:
        return self.problem

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes | None:
        return self.octets

    def offset(self) -> int:
        return self.number


@dataclass
class MemoryTail:
    """Obeys producer.kafka.tail.Tail. `messages`: by partition; an offset without one is a control record's.

    `since`: by partition, the first offset of the run's time. `fails`: every question does.
    """

    messages: dict[int, list[Told]]
    ends: dict[int, int]
    since: dict[int, int] = field(default_factory=dict)
    fails: bool = False
    asked_since_ms: int | None = None
    closed: bool = False
    _next: TopicPartition | None = None

    def list_topics(self, topic: str, timeout: float) -> Any:
        self._may_fail()
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(self.ends))})

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked_since_ms = partitions[0].offset
        return [TopicPartition(each.topic, each.partition, self.since[each.partition]) for each in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        self._may_fail()
        kept = [message.number for message in self.messages[partition.partition]]
        return min(kept, default=0), self.ends[partition.partition]

    def assign(self, partitions: list[TopicPartition]) -> None:
        (self._next,) = partitions

    def consume(self, num_messages: int, timeout: float) -> list[Any]:
        assert self._next is not None
        number, begin = self._next.partition, self._next.offset
        found = [message for message in self.messages[number] if message.number >= begin][:num_messages]
        end = found[-1].number + 1 if found else self.ends[number]
        self._next = TopicPartition(self._next.topic, number, end)
        return found

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        assert self._next is not None
        return [self._next]

    def close(self) -> None:
        self.closed = True

    def _may_fail(self) -> None:
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
