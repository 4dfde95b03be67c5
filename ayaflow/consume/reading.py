"""What reading packets and reading flows have in common: settings, iteration, parts."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Self, TypeVar

from ayaflow.consume.fetched import Fetched
from ayaflow.consume.source import Source, Where
from common.errors import ServiceUnavailable, SettingsError
from common.settings import KafkaSettings
from schemas.avro.codec import Codec

M = TypeVar("M")
P = TypeVar("P", bound="Part")

WAIT_SECONDS = 0.2  # for more messages of a part
_AGAIN_SECONDS = 0.5  # between two tries to reach a registry
_EARLY = timedelta(minutes=10)  # that a message's time stamp may be before what it holds: a node's clock may be ahead

Resume = Callable[[Sequence[int]], Mapping[int, int]]
"""Asked for the offsets that partitions go on at; those that it does not name begin as without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A message that is not what the topic is for. It was left out."""

    partition: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some of a topic, in the order of each partition. It may hold nothing new, and then says what was left out."""

    offsets: Mapping[int, range]  # by partition: the messages that this part is made of
    duplicates: int = 0  # records, or entries of packets, that came before and are left out
    skipped: tuple[Skipped, ...] = ()  # messages that could not be read
    missing: int = 0  # offsets without a message: Kafka removed it before it was read; or a transaction's mark
    commits: Callable[[], bool] = field(repr=False)

    def commit(self) -> bool:
        """Tell the consumer group that this part and all before it are done.

        False: the group has given a partition to another member, which gets what was not committed again. Raises
        ServiceUnavailable when Kafka does not answer; the part is not done then.
        """
        return self.commits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[since, until) in nanoseconds since the Unix epoch; None: no bound."""

    since_ns: int | None
    until_ns: int | None

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None) -> Self:
        """Raises SettingsError."""
        span = cls(since_ns=_ns("since", since), until_ns=_ns("until", until))
        if span.since_ns is not None and span.until_ns is not None and span.since_ns >= span.until_ns:
            raise SettingsError(f"since must be before until: there is nothing from {since} to {until}")
        return span


def _ns(name: str, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise SettingsError(f"{name} has no time zone: write datetime(…, tzinfo=UTC)")
    return round((moment - datetime.fromtimestamp(0, moment.tzinfo)) / timedelta(microseconds=1)) * 1000


class Reading(ABC, Generic[M, P]):
    """Iterates over the parts of a topic. Use it with `with`, in one thread."""

    _MESSAGES: int  # of a part, at most

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        group: str | None,
        since: datetime | None,
        until: datetime | None,
        late: timedelta | None,
        resume: Resume | None,
        schema_registry: str | None,
        properties: Mapping[str, str] | None,
        primary_only: bool,
        remember: int,
        timeout_seconds: float,
    ) -> None:
        if until is not None and (group is not None or resume is not None):
            raise SettingsError("until is the end of a range, and a group or resume= has none: leave one of them out")
        if late is not None and until is None:
            raise SettingsError("late says for how long what is before until may come: give until, too")
        self._span, self._primary_only = Span.of(since, until), primary_only
        self._timeout = timeout_seconds
        where = Where(
            group=group,
            resume=resume,
            first_ms=None if since is None else _ms(since - _EARLY),
            last_ms=None if until is None or late is None else _ms(until + late),
        )
        self._source = Source(
            _settings(bootstrap_servers, properties),
            topic,
            where,
            memory=self._memory,
            remember=remember,
            timeout_seconds=timeout_seconds,
        )
        self._remember = remember
        self._codec = Codec(schema_registry)
        self._fetched: Fetched[M] | None = None  # and not handed on yet
        self._silent_since: float | None = None  # the registry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> P:
        """The next part. Raises ServiceUnavailable when Kafka or the registry is silent for too long; it may be called
        again then, and nothing is left out.
        """
        while (part := self.poll(1.0)) is None:
            if self._ended:
                raise StopIteration
        return part

    def poll(self, seconds: float) -> P | None:
        """The next part; None when nothing comes in time, or a range has ended. Raises as iterating does."""
        end = time.monotonic() + seconds
        while not self._ended:
            left = end - time.monotonic()
            if self._fetched is None:
                self._fetched = self._source.fetch(self._MESSAGES, max(0.0, min(left, WAIT_SECONDS)))
            part = self._made(self._fetched) if self._fetched is not None else None
            if part is not None:
                return part
            if left <= 0:
                break
        return None

    def close(self) -> None:
        """Leave the group; what was not committed is given to whoever reads next."""
        self._source.close()
        self._codec.close()

    @property
    def topic_id(self) -> int:
        """Kafka's identity of the topic, once something was read: one that is made anew has another.

        Whoever stores offsets stores this beside them: they say nothing of another topic.
        """
        return self._source.topic_id

    @property
    def _ended(self) -> bool:
        """Whether a range is read and handed on: its last messages may wait for the registry."""
        return self._fetched is None and self._source.ended

    def _made(self, fetched: Fetched[M]) -> P | None:
        """None: nothing of it is new, or the registry does not answer yet."""
        try:
            part = self._part(fetched)
        except ServiceUnavailable:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since >= self._timeout:
                self._silent_since = None
                raise
            time.sleep(_AGAIN_SECONDS)
            return None
        self._fetched = self._silent_since = None
        return part if part.offsets else None

    def _of(self, fetched: Fetched[M], problems: Mapping[int, str]) -> dict[str, Any]:
        """What each part has. `problems`: number of a message -> what is wrong with it."""
        new = {number: stretch for number, stretch in fetched.stretches.items() if stretch.new}
        skipped = (
            [
                Skipped(partition=number, offset=int(fetched.offsets[message]), reason=problems[message])
                for number, stretch in new.items()
                for message in stretch.numbers.tolist()
                if message in problems and fetched.offsets[message] >= stretch.begin
            ]
            if problems
            else []
        )
        ends = {number: (stretch.opened, stretch.end) for number, stretch in new.items()}
        return {
            "offsets": {number: range(stretch.begin, stretch.end) for number, stretch in new.items()},
            "skipped": tuple(skipped),
            "missing": sum(stretch.missing for stretch in new.values()),
            "commits": lambda: self._source.commit(ends),
        }

    @abstractmethod
    def _memory(self) -> M:
        """What came before, of a partition of which nothing came yet."""

    @abstractmethod
    def _part(self, fetched: Fetched[M]) -> P:
        """What was fetched. Raises ServiceUnavailable, with nothing changed, when the registry does not answer."""


def _settings(bootstrap_servers: str, properties: Mapping[str, str] | None) -> KafkaSettings:
    given = dict(properties or {})
    if "group.id" in given:
        raise SettingsError("properties: group.id cannot be set there: write group=…")
    for name, value in given.items():
        if not isinstance(value, str):
            raise SettingsError(f"properties: {name} must be a text (it is {value!r})")
    return KafkaSettings(bootstrap_servers=bootstrap_servers, properties=given)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
