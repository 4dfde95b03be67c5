"""Batches on their way out: numbered, encoded, handed to the publisher."""

from typing import Protocol

from producer.capture.batch import Source
from producer.inspection.inspection import Inspects
from producer.kafka.encoding import Encoder
from producer.kafka.outbox import Batch
from producer.metrics import ProducerMetrics
from schemas.packets import PacketEvents


class Outlet(Protocol):
    """What we use of publisher.Publisher."""

    def has_room(self) -> bool:
        """Whether another batch may be sent."""

    def send(self, batch: Batch) -> None:
        """Take over a batch."""


class Sender:
    """Sends the batches of one ring and knows what the next one has to say."""

    def __init__(
        self,
        *,
        source: Source,
        encoding: Encoder,
        outlet: Outlet,
        metrics: ProducerMetrics,
        coalesced: int,
        inspection: Inspects,
    ) -> None:
        self.source = source
        self.sequence = 0  # number of the next batch
        self.clock_ns = 0  # of the last batch: no packet in a later one is older
        self.coalesced = coalesced  # entries of flow tables with numbers below it are in earlier batches
        self._encoding, self._outlet, self._metrics = encoding, outlet, metrics
        self._inspection = inspection

    def has_room(self) -> bool:
        """Whether another batch may be sent."""
        return self._outlet.has_room()

    def send(self, events: PacketEvents, *, closes: int | None) -> bool:
        """Send a batch; False: it is too large for a message. `closes`: the epoch whose last batch it is.

        Raises ServiceUnavailable when it cannot be encoded now.
        """
        events = self._inspection.named(events)
        messages = self._encoding.messages(events)
        if messages is None:
            return False
        batch, source = events.batch, self.source
        names = self._inspection.messages(
            source.node, source.ring_id, dict(source.interfaces), is_last=closes is not None
        )
        self.coalesced = max(self.coalesced, batch.coalesced_end)
        self._outlet.send(
            Batch(
                ring_id=batch.ring_id,
                ring_end=batch.ring_end,
                coalesced_end=self.coalesced,
                epoch=closes or 0,
                packets=int(batch.packets.sum()),
                messages=(*names.messages, *messages),
                names_end=names.position,
                names_ns=names.clock_ns,
            )
        )
        self._metrics.events.inc(len(batch))
        self._metrics.message_bytes.inc(sum(len(message.value) for message in (*names.messages, *messages)))
        self.sequence += 1
        self.clock_ns = batch.clock_ns
        return True
