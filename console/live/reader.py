"""Reads the live topic from its end, in a thread. Kafka may come and go: reading goes on where it was."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Self

from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from common import kafka
from common.errors import AyaflowError, DecodeError
from common.settings import Settings
from schemas.avro.codec import Codec
from schemas.topics import TopicNames

AGAIN_SECONDS = 2.0
NODES_KEPT = 100


class LiveReader(threading.Thread):
    """`stats` has each node's newest LiveStats, `problem` a sentence while it cannot be read. Use it with `with`."""

    def __init__(self, settings: Settings, heard: Callable[[dict[str, Any]], None] | None = None) -> None:
        """`heard` is called with each message, in this thread."""
        super().__init__(name="live", daemon=True)
        self._heard = heard
        self._next: dict[int, int] = {}  # partition -> offset to go on with
        self._settings = settings
        self._topics = TopicNames.of(settings.kafka.topic_prefix)
        self._done = threading.Event()
        self.stats: dict[str, dict[str, Any]] = {}
        self.problem = ""

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

    def _read(self) -> None:
        codec = Codec(self._settings.schema_registry.url, self._topics)
        consumer = kafka.consumer(self._settings.kafka, group=f"ayaflow-view-{uuid.uuid4()}", from_end=True)
        try:
            partitions = consumer.list_topics(self._topics.live, timeout=1).topics[self._topics.live].partitions
            if not partitions:
                self.problem = f"the topic {self._topics.live} does not exist yet"
                self._done.wait(AGAIN_SECONDS)
                return
            consumer.assign(
                [TopicPartition(self._topics.live, number, self._next.get(number, OFFSET_END)) for number in partitions]
            )
            self.problem = ""
            heard = time.monotonic()
            # the topic may be made anew meanwhile: after a long silence look again
            while not self._done.is_set() and time.monotonic() - heard < 30:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if message.error() is not None:
                    raise KafkaException(message.error())
                heard = time.monotonic()
                self._next[message.partition() or 0] = (message.offset() or 0) + 1
                self._decode(codec, message.value() or b"")
        finally:
            consumer.close()

    def _decode(self, codec: Codec, value: bytes) -> None:
        try:
            stats = codec.decode_live_stats(value)
        except DecodeError as error:  # one foreign message does not end the view
            self.problem = f"a message of {self._topics.live} is left out: {error}"
            return
        self._keep(stats)
        if self._heard:
            self._heard(stats)

    def _keep(self, stats: dict[str, Any]) -> None:
        kept = {**self.stats, str(stats["node"]): stats}
        newest = sorted(kept, key=lambda node: kept[node]["time"])[-NODES_KEPT:]
        self.problem, self.stats = "", {node: kept[node] for node in newest}  # replaced whole: another thread reads
