"""Kafka as streams.worker has it around, for tests: fakes that obey its Protocols and can be as bad as it is."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.backlog import PartitionBacklog, first_offset
from common.errors import ServiceUnavailable
from schemas.flows import FlowColumns
from streams.partition.opening import Begin
from streams.partition.storing import KafkaPartition
from streams.worker.neighbours import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was set aside."""

    value: bytes | None
    key: bytes | None
    partition: int
    offset: int
    error: str
    topic: str | None = None


class MemoryPublisher:
    """The topics that streams writes; a worker.Publisher."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, FlowColumns]] = []  # revision, rows
        self.dead_letters: list[DeadLetter] = []
        self.statistics: list[dict[str, Any]] = []
        self.refuses = False  # takes no flows and no dead letters
        self.trouble: str | None = None
        self.registry_away = False  # live statistics cannot be encoded

    def flows(self, flows: FlowColumns, partition: KafkaPartition, revision: int) -> None:
        """Send one message a row."""
        self._deliver()
        self.sent.append((revision, flows))

    def dead_letter(
        self,
        value: bytes | None,
        key: bytes | None,
        *,
        partition: int,
        offset: int,
        error: str,
        topic: str | None = None,
    ) -> None:
        """Set a message aside."""
        self._deliver()
        letter = DeadLetter(value=value, key=key, partition=partition, offset=offset, error=error, topic=topic)
        self.dead_letters.append(letter)

    def live(self, stats: dict[str, Any]) -> None:
        """Send a node's live statistics."""
        if self.registry_away:
            raise ServiceUnavailable("the schema registry does not answer")
        self.statistics.append(stats)

    def check(self) -> str | None:
        """What is wrong with Kafka."""
        return self.trouble

    def _deliver(self) -> None:
        if self.refuses:
            raise ServiceUnavailable("Kafka did not take a message")


class MemoryOffsets:
    """The offsets of the group; a worker.Offsets."""

    def __init__(self, topic_id: int = 1) -> None:
        self.committed: dict[int, int] = defaultdict(lambda: -1)  # by partition; -1: none
        self.oldest: dict[int, int] = defaultdict(int)
        self.topic_id = topic_id
        self.ours = True  # whether it was we who committed them
        self.held: set[tuple[int, int]] = set()  # partition, offset of messages, as far as it matters
        self.away = False

    def begin(self, partition: int) -> Begin:
        """Where a partition stands."""
        if self.away:
            raise ServiceUnavailable("Kafka does not tell the offsets")
        return Begin(self.committed[partition], self.oldest[partition], self.topic_id, self.ours)

    def next_message(self, partition: int, offset: int) -> int | None:
        """The first at or after an offset."""
        return min((held for number, held in self.held if number == partition and held >= offset), default=None)


class MemoryMember:
    """The partitions that are ours, those that are not fetched, and what may be committed; a worker.Member."""

    def __init__(self) -> None:
        self.paused: set[int] = set()
        self.ours = {0}
        self.acknowledged: dict[int, int] = {}  # by partition: everything below
        self.broker: MemoryBroker | None = None  # where that is committed

    def pause(self, partition: int) -> None:
        """Not now."""
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        """Again."""
        self.paused.discard(partition)

    def assigned(self) -> set[int]:
        """The partitions that the group gave us."""
        return self.ours

    def acknowledge(self, partition: int, offset: int) -> None:
        """All below is stored."""
        self.acknowledged[partition] = offset
        if self.broker:
            self.broker.committed[partition] = offset


class MemoryBroker:
    """The packets topic; a worker.Broker."""

    def __init__(self, topic_id: int = 1) -> None:
        self.topic_id = topic_id
        self.end: dict[int, int] = {}  # offset of the next message, by partition
        self.came: dict[tuple[int, int], float] = {}  # partition, offset -> when; else when it began
        self.begun = 0.0
        self.read: set[int] = set()  # by some member of the group
        self.committed: dict[int, int] = defaultdict(lambda: -1)
        self.away = False

    def look(self, stored: Mapping[int, int]) -> Look:
        """All partitions."""
        if self.away:
            raise ServiceUnavailable("Kafka does not tell how far it is read")
        return Look(self.topic_id, [self._partition(number, stored) for number in sorted(self.end)])

    def _partition(self, number: int, stored: Mapping[int, int]) -> PartitionBacklog:
        committed, end = self.committed[number], self.end[number]
        first = first_offset(0, max(committed, stored.get(number, -1)), end)
        came = self.came.get((number, first), self.begun) if first < end else None
        return PartitionBacklog(
            partition=number,
            begin=0,
            committed=committed,
            first=first,
            end=end,
            oldest_unix_s=came,
            read=number in self.read,
        )
