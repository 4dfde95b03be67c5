"""What Kafka has of a run whose producer died before it learned so: read from the end of the node's own partition.

A producer that goes on from there sends nothing twice. Where Kafka does not answer in time, batches may be sent again;
streams drops them, by their place in the ring.
"""

import contextlib
import io
import json
import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Message, TopicPartition

from common import kafka, logs
from common.errors import AyaflowError
from common.settings import KafkaSettings
from producer.kernel.run_state import RunState
from schemas.avro.registry import HEADER, Registry

SECONDS = 10.0  # for all of it
_LATE_SECONDS = 0.5  # what the dead producer had handed to the network may still arrive

log = logs.get("producer")


@dataclass(slots=True, kw_only=True)
class Safe:
    """Up to where a run's data are known to be in Kafka, or on disk."""

    position: int = 0  # of the ring
    coalesced: int = 0  # number of an entry
    epoch: int = 0

    def reach(self, *, position: int, coalesced: int, epoch: int) -> None:
        """That much at least is safe."""
        self.position = max(self.position, position)
        self.coalesced = max(self.coalesced, coalesced)
        self.epoch = max(self.epoch, epoch)


def read_tail(
    safe: Safe, *, settings: KafkaSettings, topic: str, node: str, state: RunState, registry: Registry
) -> bool:
    """Add what Kafka has of the run to `safe`. Returns whether Kafka told all of it."""
    deadline = time.monotonic() + SECONDS
    time.sleep(_LATE_SECONDS)
    consumer = kafka.consumer(settings, group=f"ayaflow-tail-{node}", defaults={"client.id": "ayaflow-producer-tail"})
    try:
        for start, end in _ranges(consumer, topic, state, deadline):
            if not _read(consumer, start, end, deadline, safe, node.encode(), state.ring_id, registry):
                return False
    except (KafkaException, AyaflowError) as error:
        log.warning("kafka does not tell what it has; some may be sent twice", error=str(error))
        return False
    finally:
        consumer.close()
    return True


def _ranges(consumer: Any, topic: str, state: RunState, deadline: float) -> list[tuple[TopicPartition, int]]:
    """The first offset that we do not know of, and the end, of each partition that we may have written to."""
    left = max(1.0, deadline - time.monotonic())
    if state.kafka_partition >= 0:
        starts = [TopicPartition(topic, state.kafka_partition, state.kafka_offset + 1)]
    else:  # not one acknowledgement: since the run began, anywhere
        found = consumer.list_topics(topic, timeout=left).topics[topic].partitions
        since = [TopicPartition(topic, number, state.ring_id // 1_000_000) for number in found]
        starts = [start for start in consumer.offsets_for_times(since, timeout=left) if start.offset >= 0]
    ranges = []
    for start in starts:
        low, high = consumer.get_watermark_offsets(start, timeout=max(1.0, deadline - time.monotonic()))
        if (first := max(low, start.offset)) < high:
            ranges.append((TopicPartition(topic, start.partition, first), high))
    return ranges


def _read(  # noqa: PLR0917  a loop's parts
    consumer: Any,
    start: TopicPartition,
    end: int,
    deadline: float,
    safe: Safe,
    key: bytes,
    ring_id: int,
    registry: Registry,
) -> bool:
    consumer.assign([start])
    while time.monotonic() < deadline:
        for message in consumer.consume(64, timeout=0.5):
            if message.error():
                continue
            if message.key() == key:
                _add(safe, message, ring_id, registry)
            if message.offset() >= end - 1:
                return True
        with contextlib.suppress(KafkaException):
            position = consumer.position([start])[0].offset
            if position >= end:  # control records have offsets, too
                return True
    log.warning("kafka takes long to tell what it has; some may be sent twice", topic=start.topic, until_offset=end)
    return False


def _add(safe: Safe, message: Message, ring_id: int, registry: Registry) -> None:
    import fastavro  # only here, and only now

    octets = message.value() or b""
    if len(octets) < HEADER.size or octets[0]:
        return
    schema = json.loads(registry.schema(HEADER.unpack_from(octets)[1]))
    batch: Any = fastavro.schemaless_reader(io.BytesIO(octets[HEADER.size :]), schema, None)
    if batch["ring_id"] != ring_id:
        return
    epochs = [row["epoch"] for row in batch["counters"]]
    safe.reach(position=batch["ring_end"], coalesced=batch.get("coalesced_end", 0), epoch=max(epochs, default=0))
