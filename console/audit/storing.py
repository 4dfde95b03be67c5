"""How far the packets topic is stored, as the broker says: every partition, also those that nobody reads.

streams acknowledges a message when all that it holds is stored. So the oldest message that is not acknowledged says
how old what is not stored may be, whatever streams says of itself, and whether it runs at all.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.backlog import Backlog, PartitionBacklog
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings, StreamsSettings
from common.times import iso
from console.audit.settled import patience
from console.health import TIMEOUT_SECONDS, Question, Verdict
from schemas.topics import TopicNames

STAGE = "storing"
ANCHOR_SECONDS = 600
"""So long streams keeps the last message of a node that fell silent unacknowledged (streams.partition.rings)."""
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a partition holds that is not stored."""

    partition: int
    messages: int
    since: float | None  # time stamp of the oldest, seconds since the Unix epoch; None: there is none
    read: bool  # somebody has acknowledged messages of it
    slow: bool  # the oldest waits for longer than its window may take
    late: bool  # for longer than it may

    def told(self, now: float) -> dict[str, Any]:
        """For JSON."""
        age = None if self.since is None else round(max(0.0, now - self.since), 1)
        return {
            "partition": self.partition,
            "messages": self.messages,
            "oldest_age_seconds": age,
            "read": self.read,
            "slow": self.slow,
            "late": self.late,
        }


def judge(backlog: Sequence[PartitionBacklog], *, now: float, patience_seconds: float) -> tuple[Waiting, ...]:
    """`patience_seconds`: so long a message may wait for its window."""
    return tuple(_judge(each, now, patience_seconds) for each in backlog)


def _judge(each: PartitionBacklog, now: float, patience_seconds: float) -> Waiting:
    read = each.committed >= 0
    age = 0.0 if each.oldest_unix_s is None else now - each.oldest_unix_s
    return Waiting(
        partition=each.partition,
        messages=each.messages,
        since=each.oldest_unix_s,
        read=read,
        slow=age > patience_seconds,
        late=age > patience_seconds + (ANCHOR_SECONDS if read else 0),
    )


def sentence(waiting: Sequence[Waiting], topic: str) -> str:
    """Which partitions stand still, and since when; empty when none does."""
    late = [each for each in waiting if each.late]
    parts = [
        f"partition {each.partition} of {topic} has {each.messages:,} message{'' if each.messages == 1 else 's'}"
        f" that {'streams has not stored' if each.read else 'nobody has read'}, the oldest from {iso(each.since or 0)}"
        for each in late[:_MOST_NAMED]
    ]
    if more := len(late) - len(parts):
        parts.append(f"and {more} more")
    return "; ".join(parts)


class Storing:
    """Asks the broker, again and again; one at a time. Close it."""

    def __init__(
        self, kafka: KafkaSettings, streams: StreamsSettings, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.topic = TopicNames.of(kafka.topic_prefix).packets
        self._kafka, self._group = kafka, streams.app_id
        self._patience = patience(streams.window_seconds, streams.node_timeout_seconds)
        self._timeout = timeout_seconds
        self._backlog: Backlog | None = None
        self._one = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        with self._one:
            if self._backlog:
                self._backlog.close()
                self._backlog = None

    def look(self) -> tuple[Waiting, ...]:
        """All partitions. Raises ServiceUnavailable when the broker does not answer in time, SettingsError."""
        with self._one:
            if self._backlog is None:
                self._backlog = Backlog(self._kafka, topic=self.topic, group=self._group, timeout_seconds=self._timeout)
            return judge(self._backlog.look(), now=time.time(), patience_seconds=self._patience)

    def question(self) -> Question:
        """For /api/health and `ayaflow doctor`."""
        return Question(
            stage=STAGE, place=f"the topic {self.topic}", setting="kafka.bootstrap_servers", look=self._verdict
        )

    def _verdict(self) -> Verdict:
        try:
            waiting = self.look()
        except ServiceUnavailable as error:
            return Verdict(ok=False, message=f"what is not stored yet is not known: {error}", in_its_words=True)
        now = time.time()
        partitions = [each.told(now) for each in waiting]
        details: Mapping[str, Any] = {
            "topic": self.topic,
            "oldest_age_seconds": max((each["oldest_age_seconds"] or 0 for each in partitions), default=0),
            "messages": sum(each.messages for each in waiting),
            "partitions": partitions,
        }
        wrong = sentence(waiting, self.topic)
        return Verdict(
            ok=not wrong,
            message=wrong,
            in_its_words=True,
            advice="what streams says of itself tells why; if it does not run, start it with `ayaflow streams`"
            if wrong
            else "",
            details=details,
        )
