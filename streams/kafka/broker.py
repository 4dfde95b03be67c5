"""What the broker says of our topics: how far the packets are read, and whether all topics are there."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from common import kafka, logs
from common.backlog import Backlog, PartitionBacklog
from common.settings import KafkaSettings
from schemas.topics import TopicNames, operator_topic, topics
from streams.worker.neighbours import Look

log = logs.get("streams")

_TIMEOUT = 5.0  # of each question
_CLOSE_SECONDS = 1.0


def make_missing_topics(settings: KafkaSettings, operators: Sequence[str] = (), client: Any = None) -> list[str]:
    """Make the topics that are not there, also those of operators. Returns their names; raises ServiceUnavailable."""
    wanted = (*topics(settings), *(operator_topic(settings, name) for name in operators))
    return kafka.create_missing(settings, wanted, timeout_seconds=_TIMEOUT, client=client)


class KafkaBroker:
    """Looks again and again; topics that were deleted meanwhile are made anew."""

    def __init__(self, settings: KafkaSettings, *, group: str, operators: Sequence[str] = ()) -> None:
        self._settings, self._operators = settings, operators
        self._packets = TopicNames.of(settings.topic_prefix).packets
        self._asking = threading.Lock()
        self._admin: Any = kafka.admin(settings)
        self._backlog = Backlog(settings, topic=self._packets, group=group, timeout_seconds=_TIMEOUT)

    def look(self, stored: Mapping[int, int]) -> Look:
        """All partitions of the packets topic. Raises ServiceUnavailable."""
        with self._asking:
            return self._look(stored)

    def _look(self, stored: Mapping[int, int]) -> Look:
        self._admin.poll(0)  # or what it says while Kafka is away would pile up
        made = make_missing_topics(self._settings, self._operators, self._admin)
        for name in made:
            if name == self._packets:
                log.error("the packets topic was gone, with what it had and is not stored; it is made anew", topic=name)
            else:
                log.warning("a topic was gone; it is made anew", topic=name)
        partitions = self._backlog.look(stored)
        identity = kafka.topic_id(self._settings, self._packets, timeout_seconds=_TIMEOUT, client=self._admin)
        return Look(topic_id=identity, partitions=partitions)

    def close(self) -> None:
        """Close the connections; while a look waits for Kafka they are left to the end of the process."""
        if self._asking.acquire(timeout=_CLOSE_SECONDS):
            self._backlog.close()
            self._admin = None


class NamesBacklog:
    """How far the group is behind in the names topic; of the packets KafkaBroker says it."""

    def __init__(self, settings: KafkaSettings, *, group: str) -> None:
        self._asking = threading.Lock()
        topic = TopicNames.of(settings.topic_prefix).names
        self._backlog = Backlog(settings, topic=topic, group=group, timeout_seconds=_TIMEOUT)

    def look(self, stored: Mapping[int, int]) -> Sequence[PartitionBacklog]:
        """All partitions. Raises ServiceUnavailable."""
        with self._asking:
            return self._backlog.look(stored)

    def close(self) -> None:
        """Close the connections; while a look waits for Kafka they are left to the end of the process."""
        if self._asking.acquire(timeout=_CLOSE_SECONDS):
            self._backlog.close()
