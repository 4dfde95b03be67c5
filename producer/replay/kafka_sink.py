"""Blocks to Kafka, as a live node sends them."""

import contextlib
from collections.abc import Iterator
from functools import partial
from time import monotonic_ns
from typing import Protocol

from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from producer.capture.sender import Outlet
from producer.clock import Nanoseconds
from producer.kafka.client import open_kafka
from producer.kafka.encoding import Encoder, open_encoding, send_divided
from producer.kafka.outbox import Batch
from producer.kafka.progress import Progress
from producer.kafka.publisher import Publisher
from producer.replay.feed import Block, Feed
from schemas.topics import TopicNames

GIVE_UP_NS = 60_000_000_000
_HEARTBEAT_NS = 1_000_000_000
_LOOK_SECONDS = 0.05


class Answers(Outlet, Protocol):
    """What we use of publisher.Publisher."""

    def poll(self, seconds: float) -> Progress:
        """Handle what Kafka has answered; wait up to `seconds` for it."""


@contextlib.contextmanager
def open_sink(
    feed: Feed, *, kafka: KafkaSettings, encoding: str, schema_registry_url: str | None
) -> Iterator["KafkaSink"]:
    """To this Kafka, under the feed's node. `encoding`: batch, or record."""
    publisher = Publisher(node=feed.node, position=0, open_transport=partial(open_kafka, kafka), monotonic=monotonic_ns)
    topics = TopicNames.of(kafka.topic_prefix)
    with contextlib.closing(open_encoding(encoding, schema_registry_url, topics)) as opened:
        yield KafkaSink(feed, publisher, opened)


class KafkaSink:
    """See run.Sink. Raises ServiceUnavailable when Kafka has not answered for a minute, or the registry does not."""

    def __init__(self, feed: Feed, outlet: Answers, encoding: Encoder, monotonic: Nanoseconds = monotonic_ns) -> None:
        self._feed, self._outlet, self._encoding, self._monotonic = feed, outlet, encoding, monotonic
        self._sent_ns = monotonic()

    def take(self, block: Block) -> None:
        """Send a block, in several batches when it is too large for one message."""
        send_divided(len(block), lambda begin, end: self._send(block, begin, end))
        self._outlet.poll(0)

    def idle(self, seconds: float, clock_ns: int) -> None:
        """Wait; say that we live once a second."""
        if self._monotonic() - self._sent_ns >= _HEARTBEAT_NS:
            self.take(self._feed.heartbeat(clock_ns))
        deadline = self._monotonic() + int(seconds * 1e9)
        while (left := deadline - self._monotonic()) > 0:
            self._wait(left / 1e9)

    def finish(self, window_seconds: int) -> None:
        """Say that all windows are complete and nothing comes any more; wait until Kafka has everything."""
        if not self._feed.totals.counted["seen_packets"]:
            return
        length = window_seconds * 1_000_000_000
        self.take(self._feed.end((self._feed.latest_ns // length + 1) * length))
        while self._wait(_LOOK_SECONDS).unacknowledged:
            pass

    def _send(self, block: Block, begin: int, end: int) -> bool:
        while not self._outlet.has_room():
            self._wait(_LOOK_SECONDS)
        events = self._feed.batch(block, begin, end)
        messages = self._encoding.messages(events)
        if messages is None:
            return False
        batch = events.batch
        names = self._feed.names(self._encoding.names, block) if end == len(block) else []
        self._outlet.send(
            Batch(
                ring_id=batch.ring_id,
                ring_end=batch.ring_end,
                coalesced_end=0,
                epoch=block.epoch,
                packets=int(batch.packets.sum()),
                messages=(*names, *messages),
            )
        )
        self._feed.sequence += 1
        self._sent_ns = self._monotonic()
        return True

    def _wait(self, seconds: float) -> Progress:
        progress = self._outlet.poll(seconds)
        if progress.waiting_ns(self._monotonic()) > GIVE_UP_NS:
            raise ServiceUnavailable(
                f"Kafka has not taken packets for {GIVE_UP_NS // 1_000_000_000} s: "
                f"{progress.error or 'it does not answer'}. With --output, replay needs no Kafka"
            )
        return progress
