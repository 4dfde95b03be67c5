"""From a batch's events to its messages, by producer.encoding, and into several batches where one is too large."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from common import logs
from common.errors import ServiceUnavailable
from common.outages import Outages
from producer.clock import Nanoseconds
from producer.kafka.outbox import MAX_MESSAGE_BYTES, Message
from schemas.avro.names import NameEncoder
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import open_registry
from schemas.names import NameBatch
from schemas.packets import PacketBatch, PacketEvents
from schemas.topics import TopicNames

REGISTRY_RETRY_NS = 1_000_000_000
T = TypeVar("T")

EncodeBatch = Callable[[PacketBatch], bytes]
"""A message of the packets topic. Raises ServiceUnavailable."""
EncodeEvents = Callable[[PacketEvents], list[bytes]]
"""The messages of the packet-events topic. Raises ServiceUnavailable."""
EncodeNames = Callable[[NameBatch], bytes]
"""A message of the names topic. Raises ServiceUnavailable."""

log = logs.get("producer")


class Encoder(Protocol):
    """Makes messages: Encoding, or PatientEncoding."""

    def messages(self, events: PacketEvents) -> list[Message] | None:
        """The messages of a batch; None when it is too large and can be divided. Raises ServiceUnavailable."""

    def names(self, batch: NameBatch) -> Message:
        """The message of a batch of names. Raises ServiceUnavailable."""


class Encoding:
    """Encodes batches."""

    def __init__(
        self,
        encode_batch: EncodeBatch,
        encode_events: EncodeEvents | None,
        topics: TopicNames,
        close: Callable[[], None] = lambda: None,
        *,
        encode_names: EncodeNames | None = None,
    ) -> None:
        """`encode_events`: for the record encoding. `encode_names`: where payload is inspected."""
        self._encode_batch, self._encode_events, self._topics = encode_batch, encode_events, topics
        self._encode_names = encode_names
        self.close = close

    def messages(self, events: PacketEvents) -> list[Message] | None:
        """See Encoder."""
        value = self._encode_batch(events.batch)
        if len(value) > MAX_MESSAGE_BYTES and len(events.batch) > 1:
            return None
        return [*self._single(events), Message(topic=self._topics.packets, value=value)]

    def names(self, batch: NameBatch) -> Message:
        """See Encoder."""
        assert self._encode_names is not None
        return Message(topic=self._topics.names, value=self._encode_names(batch))

    def _single(self, events: PacketEvents) -> list[Message]:
        if self._encode_events is None or not len(events.batch):
            return []
        return [Message(topic=self._topics.packet_events, value=value) for value in self._encode_events(events)]


class PatientEncoding:
    """Encodes batches; while the schema registry is away, it is not asked for each of them."""

    def __init__(self, encoding: Encoder, monotonic: Nanoseconds) -> None:
        self._encoding, self._monotonic = encoding, monotonic
        self._outages = Outages(log, lambda: monotonic() / 1e9)
        self._retry_at = 0
        self.error: str | None = None
        """Why nothing can be encoded now; any thread may read it."""

    def messages(self, events: PacketEvents) -> list[Message] | None:
        """See Encoder."""
        return self._patiently(lambda: self._encoding.messages(events))

    def names(self, batch: NameBatch) -> Message:
        """See Encoder."""
        return self._patiently(lambda: self._encoding.names(batch))

    def _patiently(self, encode: Callable[[], T]) -> T:
        now = self._monotonic()
        if now < self._retry_at:
            raise ServiceUnavailable("the schema registry is away")
        try:
            found = encode()
        except ServiceUnavailable as error:
            self._retry_at = now + REGISTRY_RETRY_NS
            self.error = str(error)
            self._outages.away("the schema registry", "cannot encode; trying again", error=self.error)
            raise
        self.error = None
        self._outages.back("the schema registry")
        return found


def open_encoding(form: str, schema_registry_url: str | None, topics: TopicNames) -> Encoding:
    """What producer.encoding says: batch, or record. To be closed."""
    registry = open_registry(schema_registry_url, topics)
    encoder = BatchEncoder(registry)
    events = encoder.encode_events if form == "record" else None
    return Encoding(encoder.encode, events, topics, registry.close, encode_names=NameEncoder(registry).encode)


def send_divided(
    count: int,
    send: Callable[[int, int], bool],
    *,
    most: int | None = None,
    has_room: Callable[[], bool] = lambda: True,
) -> int:
    """Send `count` records in order, at most `most` in a batch; a batch that is too large for a message is halved.

    `send(begin, end)` sends a part as one batch and returns True, or finds it too large; one record never is. No
    records are a batch, too. Goes on as long as there is room; returns how many records were sent.
    """
    begin, size = 0, count if most is None else most
    while has_room():
        end = min(begin + size, count)
        if not send(begin, end):
            size = -(-(end - begin) // 2)  # what follows is not likely to be smaller
            continue
        begin = end
        if begin == count:
            break
    return begin
