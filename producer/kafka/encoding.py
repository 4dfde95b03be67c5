"""From a batch's events to its messages, by producer.encoding."""

from collections.abc import Callable

from common import logs
from common.errors import ServiceUnavailable
from common.outages import Outages
from producer.kafka.outbox import Message
from producer.kafka.publisher import MAX_MESSAGE_BYTES
from schemas.packets import PacketBatch, PacketEvents
from schemas.topics import TopicNames

REGISTRY_RETRY_NS = 1_000_000_000

EncodeBatch = Callable[[PacketBatch], bytes]
"""A message of the packets topic. Raises ServiceUnavailable."""
EncodeEvents = Callable[[PacketEvents], list[bytes]]
"""The messages of the packet-events topic. Raises ServiceUnavailable."""

log = logs.get("producer")


class Encoding:
    """Encodes batches; when the schema registry is away, it is not asked for each of them."""

    def __init__(
        self,
        encode_batch: EncodeBatch,
        encode_events: EncodeEvents | None,
        topics: TopicNames,
        monotonic: Callable[[], int],
    ) -> None:
        """`encode_events`: for the record encoding. `monotonic`: in ns."""
        self._encode_batch, self._encode_events, self._topics = encode_batch, encode_events, topics
        self._monotonic = monotonic
        self._outages = Outages(log, lambda: monotonic() / 1e9)
        self._retry_at = 0

    def messages(self, events: PacketEvents) -> list[Message] | None:
        """The messages of a batch; None when it is too large and can be divided. Raises ServiceUnavailable."""
        now = self._monotonic()
        if now < self._retry_at:
            raise ServiceUnavailable("the schema registry is away")
        try:
            value = self._encode_batch(events.batch)
            if len(value) > MAX_MESSAGE_BYTES and len(events.batch) > 1:
                return None
            messages = [*self._single(events), Message(topic=self._topics.packets, value=value)]
        except ServiceUnavailable as error:
            self._retry_at = now + REGISTRY_RETRY_NS
            self._outages.away("the schema registry", "cannot encode; trying again", error=str(error))
            raise
        self._outages.back("the schema registry")
        return messages

    def _single(self, events: PacketEvents) -> list[Message]:
        if self._encode_events is None or not len(events.batch):
            return []
        return [Message(topic=self._topics.packet_events, value=value) for value in self._encode_events(events)]
