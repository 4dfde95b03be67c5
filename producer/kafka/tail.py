"""What Kafka has of a run whose producer died before it learned so: read from the end of the node's own partition.

A producer that goes on from there sends nothing twice. Where Kafka does not answer in time, batches may be sent again;
streams drops them, by their place in the ring.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaException, Message, TopicPartition

from common import kafka, logs
from common.errors import AyaflowError, DecodeError
from common.settings import KafkaSettings
from producer.kernel.run_state import RunState
from schemas.avro.registry import HEADER, Registry

SECONDS = 10.0  # for all of it
_SKEW_MS = 10_000  # that the broker's clock, by which messages are found, may be behind ours
_LATE_SECONDS = 0.5  # what the dead producer had handed to the network may still arrive

log = logs.get("producer")


@dataclass(slots=True, kw_only=True)
class Safe:
    """Up to where a run's data are known to be in Kafka, or on disk."""

    position: int = 0  # of the ring
    coalesced: int = 0  # number of an entry
    epoch: int = 0
    names: int = 0  # position of the ring of copies
    names_ns: int = 0  # and names that were waited for up to then, Unix epoch

    def reach(self, *, position: int, coalesced: int, epoch: int) -> None:
        """That much at least is safe."""
        self.position = max(self.position, position)
        self.coalesced = max(self.coalesced, coalesced)
        self.epoch = max(self.epoch, epoch)

    def reach_names(self, position: int, until_ns: int) -> None:
        """Likewise of names."""
        self.names, self.names_ns = max(self.names, position), max(self.names_ns, until_ns)


class Tail(Protocol):
    """What we use of confluent_kafka.Consumer. All but the last two raise KafkaException."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        """The topic's partitions."""

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The first offset at or behind each one's `offset`, which is a time in ms; -1: there is none."""

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        """The first offset that is there, and the next one that will be."""

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these, from their offsets on."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next messages."""

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """What is read next."""

    def close(self) -> None:
        """Leave."""


def open_tail(settings: KafkaSettings, node: str) -> Tail:
    """The real one."""
    consumer: Tail = kafka.consumer(
        settings, group=f"ayaflow-tail-{node}", defaults={"client.id": "ayaflow-producer-tail"}
    )
    return consumer


class _Log(NamedTuple):
    """A topic, where Kafka has the last message of ours that we know of, and what is to be done with each behind it."""

    topic: str
    partition: int  # -1: we know of none
    offset: int
    add: Callable[[Any], None]  # Raises DecodeError, and what a record of another form raises


@dataclass(frozen=True, slots=True, kw_only=True)
class TailReader:
    """Reads what Kafka has of a node's run."""

    open_tail: Callable[[], Tail]
    registry: Registry
    topic: str
    node: str
    written: int  # what the ring has had so far: nothing true lies behind it
    names_topic: str = ""  # empty: the run copies nothing
    names_written: int = 0  # as `written`, of the ring of copies
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def read(self, safe: Safe, state: RunState) -> bool:
        """Add what Kafka has of the run to `safe`. Returns whether Kafka told all of it."""
        logs = [
            _Log(self.topic, state.kafka_partition, state.kafka_offset, partial(_add, safe, state, self.written)),
            _Log(
                self.names_topic,
                state.names_partition,
                state.names_offset,
                partial(_add_names, safe, state, self.names_written),
            ),
        ]
        deadline = self.monotonic() + SECONDS
        self.sleep(_LATE_SECONDS)
        with contextlib.closing(self.open_tail()) as tail:
            try:
                told = [
                    self._read(tail, each, start, end, deadline)
                    for each in logs
                    if each.topic
                    for start, end in self._ranges(tail, each, state.ring_id, deadline)
                ]
                return all(told)
            except (KafkaException, AyaflowError) as error:
                why = kafka.reason(error, tail)
                log.warning("kafka does not tell what it has; some may be sent twice", error=why)
                return False

    def _ranges(self, tail: Tail, of: _Log, ring_id: int, deadline: float) -> list[tuple[TopicPartition, int]]:
        """The first offset that we do not know of, and the end, of each partition that we may have written to."""
        topic = of.topic
        if of.partition >= 0:
            starts = [TopicPartition(topic, of.partition, of.offset + 1)]
        else:  # not one acknowledgement: since the run began, anywhere
            found = tail.list_topics(topic, timeout=self._left(deadline)).topics[topic].partitions
            since = [TopicPartition(topic, number, ring_id // 1000 - _SKEW_MS) for number in found]
            starts = [
                start for start in tail.offsets_for_times(since, timeout=self._left(deadline)) if start.offset >= 0
            ]
        ranges = []
        for start in starts:
            low, high = tail.get_watermark_offsets(start, timeout=self._left(deadline))
            if (first := max(low, start.offset)) < high:
                ranges.append((TopicPartition(topic, start.partition, first), high))
        return ranges

    def _left(self, deadline: float) -> float:
        return max(1.0, deadline - self.monotonic())

    def _read(self, tail: Tail, of: _Log, start: TopicPartition, end: int, deadline: float) -> bool:
        key, told = self.node.encode(), True
        tail.assign([start])
        while self.monotonic() < deadline:
            for message in tail.consume(64, timeout=0.5):
                if (error := message.error()) is not None:
                    if kafka.refusal(error) and not kafka.is_of_a_group(error):
                        raise KafkaException(error)
                    continue
                if message.key() == key:
                    try:
                        self._add(of, message.value() or b"")
                    except DecodeError as error:  # anybody may write there; streams sets it aside
                        if told:  # the first stands for all: there may be many
                            log.warning(
                                "somebody else's message has this node's key", offset=message.offset(), error=str(error)
                            )
                        told = False
                if (message.offset() or 0) >= end - 1:
                    return told
            with contextlib.suppress(KafkaException):
                if tail.position([start])[0].offset >= end:  # control records have offsets, too
                    return told
        log.warning("kafka takes long to tell what it has; some may be sent twice", topic=start.topic, until_offset=end)
        return False

    def _add(self, of: _Log, octets: bytes) -> None:
        """What a message says, if it is of our ring. Raises DecodeError for what cannot be ours."""
        import fastavro  # only here, and only now

        if len(octets) < HEADER.size or octets[0]:
            raise DecodeError("no Confluent framing")
        schema = json.loads(self.registry.schema(HEADER.unpack_from(octets)[1]))
        try:
            of.add(fastavro.schemaless_reader(io.BytesIO(octets[HEADER.size :]), schema, None))
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"not a message of {of.topic}: {type(error).__name__} {error}") from error


def _add(safe: Safe, state: RunState, written: int, batch: Any) -> None:
    ring_id, position, coalesced = batch["ring_id"], batch["ring_end"], batch.get("coalesced_end", 0)
    epoch = max(batch["counter_epoch"], default=0)
    if ring_id != state.ring_id:
        return
    if position > written or epoch > state.open:
        raise DecodeError("it tells of more than our ring has had")
    safe.reach(position=position, coalesced=coalesced, epoch=epoch)


def _add_names(safe: Safe, state: RunState, written: int, batch: Any) -> None:
    ring_id, position, until_ns = batch["ring_id"], batch["ring_end"], batch["clock_us"] * 1000
    if ring_id != state.ring_id:
        return
    if position > written:
        raise DecodeError("it tells of more than our ring of copies has had")
    safe.reach_names(position, until_ns)
