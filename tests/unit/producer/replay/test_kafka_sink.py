"""Blocks of a replay to Kafka: several batches where one is too large, heartbeats, and giving up."""

from typing import Any

import numpy as np
import pytest

from common.errors import ServiceUnavailable
from producer.capture.batch import Source, Span
from producer.capture.testing import counters, records
from producer.kafka.encoding import Encoding
from producer.kafka.publisher import Publisher
from producer.kafka.testing import MemoryTransport
from producer.replay.feed import Block, Feed
from producer.replay.kafka_sink import GIVE_UP_NS, KafkaSink
from producer.replay.program import Ran
from schemas.avro.codec import Codec
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import FixedRegistry
from schemas.packets import PacketBatch
from schemas.topics import TopicNames

SECOND = 1_000_000_000
CODEC = Codec()


class NoProgram:
    """Obeys feed.Program; blocks are made by the test."""

    def set_interface(self, slot: int, *, no_ethernet: bool) -> None:
        raise AssertionError

    def run(self, frames: Any, rows: slice, ifindex: Any, epoch: int) -> Ran:
        raise AssertionError


class Setup:
    def __init__(self, fits: int = 1000) -> None:
        self.now, self.fits = 0, fits
        self.broker = MemoryTransport()
        self.feed = Feed(NoProgram(), node="n", ring_id=9)
        self.feed._source = Source(node="n", ring_id=9, interfaces=((3, "eth0"),))
        self.publisher = Publisher(node="n", position=0, open_transport=lambda _: self.broker, monotonic=self.monotonic)
        self.sink = KafkaSink(
            self.feed, self.publisher, Encoding(self.encode, None, TopicNames.of("t.")), self.monotonic
        )

    def monotonic(self) -> int:
        self.now += SECOND // 10
        return self.now

    def encode(self, batch: PacketBatch) -> bytes:
        return bytes(2_000_000) if len(batch) > self.fits else BatchEncoder(FixedRegistry()).encode(batch)

    def batches(self) -> list[PacketBatch]:
        return [CODEC.decode_packet_batch(value) for value in self.broker.stored]


def block(count: int, **changed: Any) -> Block:
    rows = records([{"src_port": port, "epoch": 4, "ktime_ns": 10 * SECOND + port} for port in range(count)])
    fields: dict[str, Any] = {
        "span": Span(start=800, end=800 + 80 * count, records=rows),
        "epoch": 4,
        "counters": (counters(epoch=4),),
        "clock_ns": 20 * SECOND,
        "before_ns": 15 * SECOND,
    }
    return Block(**(fields | changed))


def test_a_block_that_is_too_large_is_several_batches_that_say_the_same() -> None:
    setup = Setup(fits=3)
    setup.sink.take(block(7))
    found = setup.batches()
    assert [len(batch) for batch in found] == [2, 2, 2, 1]
    assert [batch.ring_start for batch in found] == [800, *(batch.ring_end for batch in found[:-1])]
    assert found[-1].ring_end == 800 + 7 * 80
    assert [batch.sequence for batch in found] == [0, 1, 2, 3]
    assert np.concatenate([batch.flows.src_port for batch in found]).tolist() == list(range(7))
    assert {int(epoch) for batch in found for epoch in batch.flows.epoch} == {4}


def test_the_counters_and_the_clock_come_with_the_last_of_them() -> None:
    setup = Setup(fits=3)
    setup.sink.take(block(7))
    assert [(len(batch.counters), batch.clock_ns // SECOND) for batch in setup.batches()] == [
        (0, 15),
        (0, 15),
        (0, 15),
        (1, 20),
    ]


def test_one_that_waits_says_once_a_second_how_far_the_captures_time_has_come() -> None:
    setup = Setup()
    for second in range(1, 5):
        setup.sink.idle(0.3, second * SECOND)
    clocks = [batch.clock_ns for batch in setup.batches()]
    assert clocks == sorted(set(clocks))
    assert 1 <= len(clocks) <= 4
    assert all(not len(batch) for batch in setup.batches())


def test_at_the_end_the_last_window_is_complete_and_kafka_has_all() -> None:
    setup = Setup()
    setup.sink.take(block(3))
    setup.feed.totals.counted["seen_packets"], setup.feed.latest_ns = 3, 17 * SECOND
    setup.sink.finish(10)
    assert [batch.clock_ns // SECOND for batch in setup.batches()] == [20, 20]
    (end,) = setup.batches()[-1].counters
    assert (end.epoch, end.end_ns, end.interface, end.ended) == (1, 17 * SECOND, "", True)
    assert not setup.publisher.progress.unacknowledged


def test_a_replay_that_saw_nothing_says_nothing() -> None:
    setup = Setup()
    setup.sink.finish(10)
    assert setup.batches() == []


def test_kafka_that_takes_nothing_is_given_up_with_its_own_words() -> None:
    setup = Setup()
    setup.broker.room = 0
    setup.sink.take(block(1))
    with pytest.raises(ServiceUnavailable, match=f"{GIVE_UP_NS // SECOND} s: it does not answer"):
        setup.sink.take(block(1))
