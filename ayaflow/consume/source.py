"""One topic as its consumers read it: which messages, from which offsets, and what is committed. Blocking; one thread.

A partition is opened where it goes on: at the offset that was committed, that the caller has, or where a time range
begins. Reading starts `remember` messages earlier, so that what comes again behind that offset is known; these messages
are handed over as not new. What is opened has a memory of its own (made by `memory`), which goes with it.

Kafka's id of the topic is committed with each offset: offsets of a topic that was deleted and made anew say nothing.
Nothing waits for longer than `timeout_seconds` without asking whether Kafka is there.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from ayaflow.consume.fetched import Fetched, Opened, stretch_of
from common import kafka
from common.errors import ServiceUnavailable, SettingsError
from common.settings import KafkaSettings

M = TypeVar("M")

LOOK_SECONDS = 0.2  # a topic is not deleted, made and filled within so long
_IDLE_SECONDS = 5.0  # between two looks while nothing comes
_LOOK_TIMEOUT = 2.0
_AGAIN_SECONDS = 0.1  # between two tries to open partitions
_MADE_SECONDS = 2.0  # until all brokers know a topic that was just made
_DEFAULTS = {
    "queued.max.messages.kbytes": 65_536,
    "fetch.queue.backoff.ms": 10,  # its default of a second is as long as a full queue is empty
    "socket.timeout.ms": 10_000,
}
_OURS = {"partition.assignment.strategy": "range,roundrobin"}  # all partitions go and come at a time


def _codes(*names: str) -> frozenset[int]:
    return frozenset(getattr(KafkaError, name) for name in names)


_PASSING = _codes(  # the client goes on by itself; that nothing comes is seen
    "_ALL_BROKERS_DOWN",
    "_TRANSPORT",
    "_RESOLVE",
    "_TIMED_OUT",
    "_MAX_POLL_EXCEEDED",
    "_AUTO_OFFSET_RESET",
    "UNKNOWN_TOPIC_OR_PART",
    "UNKNOWN_TOPIC_ID",
)
_MOVING = _codes(  # a topic that was just made, a broker that has just come: asked again
    "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "REPLICA_NOT_AVAILABLE",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "OFFSET_NOT_AVAILABLE",
    "UNKNOWN_TOPIC_OR_PART",
    "_UNKNOWN_PARTITION",
    "NOT_COORDINATOR",
    "COORDINATOR_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "_WAIT_COORD",
)
_NOT_OURS = _codes(  # somebody else has the partitions, or will have
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "REBALANCE_IN_PROGRESS",
    "FENCED_INSTANCE_ID",
    "_ASSIGNMENT_LOST",
    "_NO_OFFSET",
)
_END_OF_PARTITION = _codes("_PARTITION_EOF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which messages are read. Times are milliseconds since the Unix epoch, of Kafka's time stamps."""

    group: str | None = None
    resume: Callable[[Sequence[int]], Mapping[int, int]] | None = None  # partitions -> the offsets that they go on at
    first_ms: int | None = None  # where there is no offset: from here on; None: all
    last_ms: int | None = None  # of a range: up to the first message of this time; None: all that is there now

    @property
    def bounded(self) -> bool:
        """Whether there is an end."""
        return self.group is None and self.resume is None


class Source(Generic[M]):
    """Reads. Close it."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        where: Where,
        *,
        memory: Callable[[], M],
        remember: int,
        timeout_seconds: float,
    ) -> None:
        """`remember`: messages. Raises SettingsError, when the first message is asked for."""
        self._settings, self._topic, self._where = settings, topic, where
        self._memory, self._remember, self._timeout = memory, remember, timeout_seconds
        self._consumer: Any = None
        self._admin: Any = None
        self._to_open: set[int] = set()
        self._anew = False  # what is to be opened is of a topic that was made anew
        self._open: dict[int, Opened[M]] = {}
        self._left: dict[int, Opened[M]] = {}  # until others are opened: they may come back
        self._unsure: list[Any] = []  # messages, maybe of another topic of that name
        self._error: KafkaError | None = None
        self._heard = self._looked = 0.0
        self.topic_id = 0

    def fetch(self, most: int, seconds: float) -> Fetched[M] | None:
        """The next messages, waiting so long for so many. May be called again when it raised.

        Raises ServiceUnavailable, SettingsError.
        """
        if self._consumer is None:
            self._start()
        if self._error is not None:
            error, self._error = self._error, None
            raise ServiceUnavailable(f"Kafka does not let us read {self._topic}: {error.str()}")
        if self._to_open:
            self._consumer.poll(0)  # they may be somebody else's by now; nothing is assigned
        if self._to_open and not self._open_all():
            return None
        messages = self._unsure or self._consumer.consume(most, seconds)
        self._unsure = messages
        if not self._is_same(LOOK_SECONDS if messages else _IDLE_SECONDS):
            return None
        self._unsure = []
        fetched = self._taken(messages)
        if fetched is None:
            self._check_silence()
        return fetched

    @property
    def ended(self) -> bool:
        """Whether all of a range was read."""
        opened = self._open.values()
        return self._where.bounded and not self._to_open and bool(opened) and all(each.done for each in opened)

    def commit(self, ends: Mapping[int, tuple[Opened[M], int]]) -> bool:
        """Say that what is before these offsets is done. False: some of the partitions are not ours any more.

        Raises ServiceUnavailable, and SettingsError without a group.
        """
        if self._where.group is None:
            raise SettingsError("there is nothing to commit to: name a consumer group (group=…)")
        ours = {number: end for number, (opened, end) in ends.items() if self._open.get(number) is opened}
        if not ours:
            return not ends
        offsets = [*starmap(self._place, ours.items())]
        try:
            answers = _in_time(partial(self._consumer.commit, offsets=offsets, asynchronous=False), self._timeout)
            refusals = [each.error for each in answers if each.error is not None]
        except KafkaException as error:
            refusals = [error.args[0]]
        except TimeoutError as error:
            raise self._uncommitted("Kafka does not answer") from error
        if others := [each for each in refusals if each.code() not in _NOT_OURS]:
            raise self._uncommitted(others[0].str())
        return len(ours) == len(ends) and not refusals

    def _uncommitted(self, why: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"the offsets of {self._topic} were not committed: {why}; what was read since the last commit comes again"
        )

    def close(self) -> None:
        """Leave the group. Nothing is committed."""
        consumer, self._consumer, self._admin = self._consumer, None, None
        if consumer is not None:
            with contextlib.suppress(TimeoutError):  # the group notices that we are gone
                _in_time(consumer.close, self._timeout)

    def _place(self, number: int, offset: int) -> TopicPartition:
        return TopicPartition(self._topic, number, offset, metadata=f"{self.topic_id:016x}")

    def _start(self) -> None:
        where = self._where
        consumer = kafka.consumer(
            self._settings,
            group=where.group or f"ayaflow-consume-{uuid.uuid4()}",
            defaults=_DEFAULTS,
            ours={**_OURS, "enable.partition.eof": where.bounded},
        )
        try:
            numbers = self._partitions(consumer)
            self._admin = kafka.admin(self._settings)
            self.topic_id = kafka.topic_id(
                self._settings, self._topic, timeout_seconds=self._timeout, client=self._admin
            )
            if where.group is not None:
                consumer.subscribe(
                    [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
                )
            else:
                self._to_open = set(numbers)
        except BaseException:
            consumer.close()
            raise
        self._consumer, self._heard, self._looked = consumer, time.monotonic(), time.monotonic()

    def _partitions(self, consumer: Any) -> list[int]:
        end = time.monotonic() + min(self._timeout, _MADE_SECONDS)
        while True:
            with self._answering():
                found = consumer.list_topics(self._topic, timeout=self._timeout).topics.get(self._topic)
            there = found is not None and found.error is None
            if there or time.monotonic() >= end:
                break
            time.sleep(_AGAIN_SECONDS)
        if not there:
            why = f": {found.error.str()}" if found is not None else ""
            raise ServiceUnavailable(
                f"there is no topic {self._topic} at {self._settings.bootstrap_servers}{why}; ayaflow makes it "
                "when it starts there. Is kafka.topic_prefix another one?"
            )
        return list(found.partitions)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise ServiceUnavailable(
                f"Kafka at {self._settings.bootstrap_servers} does not answer: {kafka.reason(error)}. Is it running?"
            ) from error

    def _assigned(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        consumer.assign([])  # they are opened when this call has ended
        self._to_open, self._open = {each.partition for each in partitions}, {}
        self._heard = time.monotonic()

    def _revoked(self, consumer: Any, _: Sequence[TopicPartition]) -> None:
        consumer.unassign()
        self._left, self._open, self._to_open = self._open or self._left, {}, set()

    def _open_all(self) -> bool:
        """False: not yet."""
        numbers = sorted(self._to_open)
        with self._answering():
            try:
                begins = self._begins(numbers)
                opened = {number: self._opened(number, begins.get(number)) for number in numbers}
                self._consumer.assign([TopicPartition(self._topic, n, each.position) for n, each in opened.items()])
            except KafkaException as error:
                now = time.monotonic()
                if error.args[0].code() not in _MOVING or now - self._heard >= self._timeout:
                    self._heard = now
                    raise
                time.sleep(_AGAIN_SECONDS)
                return False
        self._open, self._left, self._to_open, self._anew = opened, {}, set(), False
        self._heard = time.monotonic()
        return True

    def _begins(self, numbers: Sequence[int]) -> Mapping[int, int]:
        """The offsets that partitions go on at, of those that have one."""
        if self._where.resume is not None:
            return {} if self._anew else self._where.resume(numbers)
        if self._where.group is None:
            return {}
        asked = [TopicPartition(self._topic, number) for number in numbers]
        found = self._consumer.committed(asked, timeout=self._timeout)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        of_another = {each.partition for each in found if each.metadata not in {None, "", f"{self.topic_id:016x}"}}
        return {each.partition: each.offset for each in found if each.offset >= 0 and each.partition not in of_another}

    def _opened(self, number: int, begin: int | None) -> Opened[M]:
        partition = TopicPartition(self._topic, number)
        oldest, newest = self._consumer.get_watermark_offsets(partition, timeout=self._timeout)
        if begin is not None and begin <= newest:
            left = self._left.get(number)
            if left is not None and left.position == begin:
                return Opened(begin, begin, None, left.memory)
            missing, begin = max(0, oldest - begin), max(oldest, begin)
            return Opened(begin, max(oldest, begin - self._remember), None, self._memory(), missing)
        first_ms = self._where.first_ms
        begin = oldest if first_ms is None else self._time(number, first_ms, newest)
        end = self._time(number, self._where.last_ms, newest) if self._where.bounded else None
        return Opened(begin, begin, end, self._memory())

    def _time(self, number: int, moment_ms: int | None, newest: int) -> int:
        """The first message of that time or a later one; None: behind the last."""
        if moment_ms is None:
            return newest
        asked = TopicPartition(self._topic, number, max(0, moment_ms))
        (found,) = self._consumer.offsets_for_times([asked], timeout=self._timeout)
        if found.error is not None:
            raise KafkaException(found.error)
        return newest if found.offset == OFFSET_END or found.offset < 0 else found.offset

    def _taken(self, messages: Sequence[Any]) -> Fetched[M] | None:
        others = [message for message in messages if message.error() is not None]
        if others:
            messages = [message for message in messages if message.error() is None]
        count = len(messages)
        offsets = np.fromiter((message.offset() for message in messages), np.int64, count)
        numbers = np.fromiter((message.partition() for message in messages), np.int32, count)
        stretches = {}
        for number in np.unique(numbers).tolist():
            opened = self._open.get(number)
            if opened is not None:  # else it went meanwhile
                stretch = stretch_of(opened, np.flatnonzero(numbers == number), offsets)
                if stretch is not None:
                    stretches[number] = stretch
        for message in others:
            self._hear(message, message.error())
        if not stretches:
            return None
        self._heard = time.monotonic()
        return Fetched(values=[message.value() or b"" for message in messages], offsets=offsets, stretches=stretches)

    def _hear(self, message: Any, error: KafkaError) -> None:
        """What is not a message."""
        if error.code() in _END_OF_PARTITION:
            opened = self._open.get(message.partition())
            if opened is not None and opened.end is not None and message.offset() >= opened.end:
                opened.position = max(opened.position, opened.end)  # what is last may be a mark of a transaction
            self._heard = time.monotonic()
        elif error.code() not in _PASSING:
            self._error = error

    def _is_same(self, seconds: float) -> bool:
        """Whether the topic still is the one that was opened, as far as was seen within so many seconds."""
        now = time.monotonic()
        if now - self._looked < seconds:
            return True
        try:
            self._admin.poll(0)  # or what it says would pile up
            found = kafka.topic_id(self._settings, self._topic, timeout_seconds=_LOOK_TIMEOUT, client=self._admin)
        except ServiceUnavailable:
            self._check_silence()
            return not self._unsure
        self._looked = now
        if found == self.topic_id:
            return True
        if self._where.bounded:
            raise ServiceUnavailable(f"the topic {self._topic} was made anew while it was read: read it again")
        self._consumer.assign([])
        self.topic_id, self._anew = found, True
        self._to_open |= self._open.keys()
        self._open, self._unsure = {}, []
        return False

    def _check_silence(self) -> None:
        if time.monotonic() - self._heard < self._timeout:
            return
        self._heard = time.monotonic()
        self._partitions(self._consumer)
        if self._where.bounded and not self.ended:
            behind = next(number for number, each in self._open.items() if not each.done)
            raise ServiceUnavailable(f"nothing came of partition {behind} of {self._topic} in {self._timeout:g} s")


def _in_time(call: Callable[[], Any], seconds: float) -> Any:
    """What a call of the client returns that has no time-out of its own.

    Raises TimeoutError: it goes on in its thread.
    """
    answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            answers.put((None, error))

    threading.Thread(target=run, name="ayaflow-consume", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return answer
