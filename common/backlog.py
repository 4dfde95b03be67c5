"""How far a consumer group is behind in a topic, as the broker says: every partition, also those that nobody reads.

    with Backlog(settings, topic="ayaflow.packets", group="ayaflow-streams") as backlog:
        for each in backlog.look(): ...

Blocking; for a thread. Each question has a time-out, and each look asks for the partitions anew: those that were added
a second ago are there. It does not join the group, and commits nothing.

Acknowledged is less than stored: streams keeps back the last message of each ring (streams.partition.rings) until the
next one has come, or ten minutes. Who knows better what is stored says so to `look`.
"""

import bisect
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings

_AGAIN_SECONDS = 0.2
_MOST_SAMPLES = 1_000
_FINAL = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBacklog:
    """What a group has not acknowledged of a partition."""

    partition: int
    begin: int  # the first offset that is still there
    committed: int  # the offset that the group acknowledged; -1: none
    first: int  # the first offset that is still there and neither acknowledged nor, as far as is known, stored
    end: int  # the offset behind the last message
    oldest_unix_s: float | None  # when the first message at or after `first` came; None: there is none
    read: bool  # by a member of the group, as far as is known

    @property
    def messages(self) -> int:
        """How many there are from `first` on."""
        return self.end - self.first if self.oldest_unix_s is not None else 0


def first_offset(begin: int, done: int, end: int) -> int:
    """What is still to be done. What was done beyond the end is of a topic that was made anew."""
    return begin if done > end else max(begin, done)


def _final(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(cause, KafkaError) and cause.code() in _FINAL


def assigned(octets: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Topics and partitions of a member's assignment (Kafka's ConsumerProtocolAssignment); as far as it can be read."""
    try:
        (topics,), at = struct.unpack_from(">i", octets, 2), 6  # behind the version
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", octets, at)
            name, at = octets[at + 2 : at + 2 + length].decode(), at + 2 + length
            (count,) = struct.unpack_from(">i", octets, at)
            yield name, struct.unpack_from(f">{count}i", octets, at + 4)
            at += 4 + 4 * count
    except (struct.error, UnicodeDecodeError):
        return


class Backlog:
    """Looks again and again; what it read once it does not read again."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: str,
        group: str,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`timeout_seconds`: of each question. Raises SettingsError."""
        self._topic, self._group, self._timeout, self._clock = topic, group, timeout_seconds, clock
        self._consumer = kafka.consumer(settings, group=group, ours=kafka.PEEKING)
        self._admin = kafka.admin(settings)
        self._stamps: dict[int, tuple[int, float]] = {}  # partition -> offset of the first message, its time stamp
        self._ends: dict[int, list[tuple[int, float]]] = defaultdict(list)  # partition -> what `end` was when, upwards

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def look(self, stored: Mapping[int, int] | None = None) -> tuple[PartitionBacklog, ...]:
        """All partitions, in order. Raises ServiceUnavailable when not everything was answered in time.

        `stored`: partition -> the offset below which everything is stored, acknowledged or not.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._look(stored or {})
            except (KafkaException, TimeoutError) as error:
                # a leader or coordinator that has just moved is found by the next try
                if _final(error) or time.monotonic() >= deadline:
                    raise ServiceUnavailable(
                        f"Kafka does not tell how far {self._topic} is read: {kafka.reason(error, self._consumer)}"
                    ) from error
            time.sleep(_AGAIN_SECONDS)

    def _look(self, stored: Mapping[int, int]) -> tuple[PartitionBacklog, ...]:
        now = self._clock()
        partitions, read = self._partitions(), self._read_partitions()
        committed = {
            each.partition: max(int(each.offset), -1)
            for each in self._consumer.committed(partitions, timeout=self._timeout)
        }
        begin, end = (self._offsets(partitions, which) for which in (OFFSET_BEGINNING, OFFSET_END))
        first = {
            number: first_offset(begin[number], max(committed[number], stored.get(number, -1)), end[number])
            for number in end
        }
        for number, offset in end.items():
            self._note(number, offset, now)
        oldest = self._oldest({number: offset for number, offset in first.items() if offset < end[number]})
        return tuple(
            PartitionBacklog(
                partition=number,
                begin=begin[number],
                committed=committed[number],
                first=first[number],
                end=end[number],
                oldest_unix_s=oldest.get(number),
                read=read is None or number in read,
            )
            for number in sorted(end)
        )

    def _partitions(self) -> list[TopicPartition]:
        for client in (self._consumer, self._admin):
            client.poll(0)  # or what it says while Kafka is away would pile up
        # asked by the consumer, or it would not know partitions just added
        found = self._consumer.list_topics(self._topic, timeout=self._timeout).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return [TopicPartition(self._topic, number) for number in found.partitions]

    def _offsets(self, partitions: Sequence[TopicPartition], which: int) -> dict[int, int]:
        asked = [TopicPartition(self._topic, each.partition, which) for each in partitions]
        found = self._consumer.offsets_for_times(asked, timeout=self._timeout)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {each.partition: int(each.offset) for each in found}

    def _read_partitions(self) -> frozenset[int] | None:
        """Those that some member of the group has; None: a broker is away, so not known."""
        try:
            # not describe_consumer_groups, which ends the whole process when a broker goes meanwhile (librdkafka#4605)
            groups = self._admin.list_groups(self._group, timeout=self._timeout)
        except KafkaException:
            return None
        return frozenset(
            number
            for group in groups
            for member in group.members
            for topic, numbers in assigned(member.assignment or b"")
            if topic == self._topic
            for number in numbers
        )

    def _oldest(self, first: dict[int, int]) -> dict[int, float]:
        """When the messages at these offsets came, by partition.

        A time stamp is what the sender says. Between what earlier looks saw it is believed: the message came after the
        last look that did not see it, and before the first that did.
        """
        self._stamps = {number: stamp for number, stamp in self._stamps.items() if first.get(number) == stamp[0]}
        wanted = {number: offset for number, offset in first.items() if number not in self._stamps}
        if wanted:
            self._read(wanted)
        oldest = {}
        for number, (offset, stamp) in self._stamps.items():
            samples = self._ends[number]
            seen = bisect.bisect_right(samples, offset, key=lambda sample: sample[0])
            oldest[number] = min(max(stamp, samples[seen - 1][1] if seen else 0.0), samples[seen][1])
        return oldest

    def _note(self, number: int, end: int, now: float) -> None:
        samples = self._ends[number]
        if samples and samples[-1][0] > end:  # the topic was made anew
            samples.clear()
        samples.append((end, now))
        if len(samples) > _MOST_SAMPLES:
            del samples[1:-1:2]

    def _read(self, wanted: dict[int, int]) -> None:
        asked = kafka.first_messages(self._consumer, self._topic, wanted, timeout_seconds=self._timeout)
        for number, message in asked:
            if message is not None:
                stamp_ms = message.timestamp()[1]  # negative: there is none
                self._stamps[number] = (wanted[number], stamp_ms / 1000 if stamp_ms >= 0 else float("inf"))
