"""Reads the live topic from its end, in a thread. Kafka may come and go: reading goes on where it was."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, Self

from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from common import kafka, logs
from common.errors import AyaflowError, DecodeError, ServiceUnavailable
from common.recent import Recent
from common.settings import KafkaSettings
from console.live.background import Background
from console.live.message import MOST_OCTETS, check
from schemas.avro.codec import Codec
from schemas.topics import TopicNames

log = logs.get("console")

AGAIN_SECONDS = 2.0
SILENCE_SECONDS = 30.0  # then it looks again: the topic may have been made anew
NODES_KEPT = 100
Heard = Callable[[dict[str, Any]], None]
"""Is called with each LiveStats, in the reader's thread."""


class Consumer(Protocol):
    """What is asked of Kafka's client; each may raise KafkaException."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        """The cluster's metadata, with that of the topic."""

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these, from their offsets on."""

    def poll(self, timeout: float) -> Any:
        """The next message or error; None when there is none in time."""

    def close(self) -> None:
        """End."""


class Done(Protocol):
    """Whether to end; a threading.Event, which no signal's handler sets."""

    def set(self) -> None:
        """Say it."""

    def is_set(self) -> bool:
        """Whether it was said."""

    def wait(self, timeout: float) -> bool:
        """Sleep, until it is said at most."""


class LiveReader(threading.Thread):
    """`stats` has each node's newest LiveStats, `problem` a sentence while it cannot be read. Use it with `with`.

    Messages that cannot be right are left out: `left_out` counts them, `reason` says what was wrong with the last.
    """

    def __init__(
        self,
        topics: TopicNames,
        connect: Callable[[], Consumer],
        *,
        registry_url: str | None = None,
        heard: Heard | None = None,
        done: Done | None = None,
        clock: Callable[[], float] = time.monotonic,
        background: Background | None = None,
    ) -> None:
        super().__init__(name="live", daemon=True)
        self._topics = topics
        self._connect = connect
        self._registry_url = registry_url
        self._heard = heard
        self._done = done or threading.Event()
        self._clock = clock
        self._next: dict[int, int] = {}  # partition -> offset to go on with
        self._background = background or Background(log)
        self._newest: Recent[str, dict[str, Any]] = Recent(NODES_KEPT)
        self.stats: dict[str, dict[str, Any]] = {}
        self.problem = self.reason = ""
        self.left_out = 0

    @classmethod
    def of(
        cls,
        settings: KafkaSettings,
        registry_url: str | None,
        heard: Heard | None = None,
        background: Background | None = None,
    ) -> Self:
        """Of a deployment's live topic."""
        group = f"ayaflow-view-{uuid.uuid4()}"  # joins none: assigned
        return cls(
            TopicNames.of(settings.topic_prefix),
            partial(kafka.consumer, settings, group=group, from_end=True),
            registry_url=registry_url,
            heard=heard,
            background=background,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def stop(self) -> None:
        """End soon, without waiting for it: with Kafka away, its client can take a second to see it."""
        self._done.set()

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self.is_alive():
            self.join(2)

    def run(self) -> None:
        """Until the end of `with`; starts anew after an error."""
        while not self._done.is_set():
            try:
                self._read()
            except (KafkaException, AyaflowError) as error:
                self.problem = f"cannot read {self._topics.live}: {kafka.reason(error)}"
                self._done.wait(AGAIN_SECONDS)
            except Exception as error:  # noqa: BLE001  told, whatever it is
                self.problem = f"cannot read {self._topics.live}: {error!r}"
                self._background.failed("what reads the live topic", error)
                self._done.wait(AGAIN_SECONDS)

    def _read(self) -> None:
        topic = self._topics.live
        codec = Codec(self._registry_url, self._topics)
        with contextlib.closing(codec), contextlib.closing(self._connect()) as consumer:
            try:
                found = consumer.list_topics(topic, timeout=1).topics[topic]
            except KafkaException as error:
                raise ServiceUnavailable(kafka.reason(error, consumer)) from error
            partitions = found.partitions
            if found.error is not None and (said := kafka.refusal(found.error)):
                raise ServiceUnavailable(said)
            if not partitions:
                self.problem = f"the topic {topic} does not exist yet"
                self._done.wait(AGAIN_SECONDS)
                return
            consumer.assign(
                [TopicPartition(topic, number, self._next.get(number, OFFSET_END)) for number in partitions]
            )
            self.problem = ""
            heard = self._clock()
            while not self._done.is_set() and self._clock() - heard < SILENCE_SECONDS:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if (wrong := message.error()) is not None:
                    if kafka.is_of_a_group(wrong):
                        continue
                    raise KafkaException(wrong)
                heard = self._clock()
                self._next[message.partition() or 0] = (message.offset() or 0) + 1
                self._decode(codec, message.value() or b"")

    def _decode(self, codec: Codec, value: bytes) -> None:
        """One foreign message does not end the view."""
        try:
            stats = _read(codec, value)
        except DecodeError as error:
            self._leave_out(str(error))
            return
        try:
            self._keep(stats)
            if self._heard:
                self._heard(stats)
        except Exception as error:  # noqa: BLE001  told, whatever it is
            self._background.failed("what takes in live messages", error)
            self._leave_out(repr(error))

    def _leave_out(self, reason: str) -> None:
        self.left_out, self.reason = self.left_out + 1, reason[:300]
        self.problem = f"a message of {self._topics.live} is left out: {self.reason}"

    def _keep(self, stats: dict[str, Any]) -> None:
        self._newest.use(stats["node"], stats)
        self.problem, self.stats = "", dict(self._newest.items())  # replaced whole: another thread reads


def _read(codec: Codec, value: bytes) -> dict[str, Any]:
    """Raises DecodeError."""
    if len(value) > MOST_OCTETS:
        raise DecodeError(f"it has {len(value):,} octets")
    stats = codec.decode_live_stats(value)
    check(stats)
    return stats
