"""Blocks to Kafka, as a live node sends them."""

import time
from functools import partial

from common.errors import ServiceUnavailable
from common.settings import Settings
from producer.kafka.outbox import Batch, Message
from producer.kafka.publisher import MAX_MESSAGE_BYTES, Publisher, open_kafka
from producer.replay.feed import Block, Feed
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import open_registry
from schemas.packets import PacketEvents
from schemas.topics import TopicNames

GIVE_UP_NS = 60_000_000_000
_HEARTBEAT_NS = 1_000_000_000


class KafkaSink:
    """See run.Sink. Raises ServiceUnavailable when Kafka has not answered for a minute."""

    def __init__(self, settings: Settings, node: str, feed: Feed) -> None:
        self._feed = feed
        self._topics = TopicNames.of(settings.kafka.topic_prefix)
        self._encode = BatchEncoder(open_registry(settings.schema_registry.url, self._topics)).encode
        self._records = settings.producer.encoding == "record"
        self._registry_url = settings.schema_registry.url
        self._publisher = Publisher(
            node=node, position=0, open_transport=partial(open_kafka, settings.kafka), monotonic=time.monotonic_ns
        )
        self._sent_ns = time.monotonic_ns()

    def take(self, block: Block) -> None:
        """Send a block, in several messages when it is too large for one."""
        while not self._publisher.has_room():
            self._wait(0.05)
        events = self._feed.batch(block)
        value = self._encode(events.batch)
        if len(value) > MAX_MESSAGE_BYTES and len(block.span.records) > 1:
            for half in block.halves():
                self.take(half)
            return
        messages = [Message(topic=self._topics.packets, value=value), *self._single(events)]
        batch = events.batch
        self._publisher.send(
            Batch(
                ring_id=batch.ring_id,
                ring_end=block.span.end,
                coalesced_end=0,
                epoch=block.epoch,
                packets=len(batch),
                messages=tuple(messages),
            )
        )
        self._feed.sequence += 1
        self._sent_ns = time.monotonic_ns()
        self._publisher.poll(0)

    def idle(self, seconds: float, clock_ns: int) -> None:
        """Wait; say that we live once a second."""
        if time.monotonic_ns() - self._sent_ns >= _HEARTBEAT_NS:
            self.take(self._feed.heartbeat(clock_ns))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._wait(left)

    def finish(self, window_seconds: int) -> None:
        """Say that all windows so far are complete, and wait until Kafka has everything."""
        if not self._feed.totals.counted["seen_packets"]:
            return
        length = window_seconds * 1_000_000_000
        self.take(self._feed.heartbeat((self._feed.latest_ns // length + 1) * length))
        while self._publisher.outbox.entries:
            self._wait(0.05)

    def _wait(self, seconds: float) -> None:
        self._publisher.poll(seconds)
        if self._publisher.waiting_ns() > GIVE_UP_NS:
            raise ServiceUnavailable(
                f"Kafka has not taken packets for {GIVE_UP_NS // 1_000_000_000} s: "
                f"{self._publisher.error or 'it does not answer'}. With --output, replay needs no Kafka"
            )

    def _single(self, events: PacketEvents) -> list[Message]:
        if not self._records or not len(events.batch):
            return []
        from schemas.avro.codec import Codec  # brings Arrow, which the default encoding does without

        codec = Codec(self._registry_url, self._topics)
        return [Message(topic=self._topics.packet_events, value=value) for value in codec.encode_packet_events(events)]
