"""Messages that are set aside, and those that wait: for the registry, for Kafka, for memory, for a thread."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from common.errors import ServiceUnavailable
from schemas.avro.codec import Codec
from schemas.packets import EpochCounters, PacketBatch
from streams.partition.state import Partition, Taken
from streams.testing import settle
from streams.worker import intake
from streams.worker import worker as limits
from streams.worker.retrying import CLICKHOUSE, KAFKA, LARGE, REGISTRY
from tests.unit.streams.batches import SECOND
from tests.unit.streams.worker.rig import START, Rig, Source


class Registry(Codec):
    """A codec whose registry may be away, and that may have a bug."""

    away = bug = False

    def at_hand(self, message: bytes) -> bool:
        return not self.away

    def decode_packet_batch(self, message: bytes) -> PacketBatch:
        if self.away:
            raise ServiceUnavailable("the registry does not answer")
        if self.bug:
            raise ZeroDivisionError
        return super().decode_packet_batch(message)


@pytest.mark.parametrize("value", [b"poison", b"", None])
async def test_a_message_that_cannot_be_read_is_set_aside_and_reading_goes_on(value: bytes | None) -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2), value, node.batch(2, clock=10), node.batch(clock=10))
    (letter,) = rig.publisher.dead_letters
    assert (letter.value, letter.key, letter.partition, letter.offset) == (value, b"n1", 0, 1)
    assert letter.error
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert (rig.store.packets, rig.acked) == (2, [(0, 0), (0, 1), (0, 2)])
    assert (rig.metric("dead_letters_total"), rig.worker.health()["dead_letters"]) == (1, 1)
    await rig.worker.stop()


async def test_a_bug_in_the_decoder_is_a_message_set_aside() -> None:
    rig = Rig(codec=Registry())
    rig.codec.bug = True
    await rig.send(b"anything")
    assert "ZeroDivisionError" in rig.publisher.dead_letters[0].error
    await rig.worker.stop()


async def test_a_message_at_which_a_partition_fails_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, node = Rig(), Source()
    take = Partition.take

    def broken(state: Partition, offset: int, *args: Any, **more: Any) -> Taken:
        if offset == 1:
            raise OverflowError("int too large to convert")
        return take(state, offset, *args, **more)

    monkeypatch.setattr(Partition, "take", broken)
    await rig.send(node.batch(1, clock=2), node.batch(2, clock=3), node.batch(3, clock=10))
    await rig.clock.advance(1)
    assert [letter.offset for letter in rig.publisher.dead_letters] == [1]
    assert "OverflowError" in rig.publisher.dead_letters[0].error
    assert (rig.store.packets, rig.worker.failure.done()) == (2, False)
    await rig.worker.stop()


async def test_a_message_that_is_set_aside_waits_for_kafka() -> None:
    rig = Rig()
    rig.publisher.refuses = True
    await rig.send(b"poison")
    await rig.clock.advance(5)
    assert rig.metric("batches_total") == 0
    assert rig.worker.health()["kafka"] == "Kafka did not take a message"
    rig.publisher.refuses = False
    await rig.clock.advance(10)
    assert [letter.offset for letter in rig.publisher.dead_letters] == [0]
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_message_whose_partition_goes_before_it_is_set_aside_is_not_acknowledged() -> None:
    rig = Rig()
    rig.publisher.refuses = True
    await rig.send(b"poison")
    await settle()
    await rig.worker.release_all()
    assert (rig.acked, rig.publisher.dead_letters) == ([], [])
    await rig.worker.stop()


async def test_a_message_waits_for_the_registry_that_knows_its_schema() -> None:
    rig = Rig(codec=Registry())
    rig.codec.away = True
    await rig.send(Source().batch(1, clock=10))
    await rig.clock.advance(5)
    assert rig.metric("batches_total") == 0
    assert rig.worker.health()["registry"] == "the registry does not answer"
    rig.codec.away = False
    await rig.clock.advance(10)
    await rig.clock.advance(0.2)
    assert (rig.store.packets, rig.publisher.dead_letters, rig.worker.health()["registry"]) == (1, [], "ok")
    await rig.worker.stop()


async def test_a_partition_that_waits_for_kafka_or_the_registry_does_not_hold_back_inserts() -> None:
    rig, node = Rig(codec=Registry(), settings={"publish_flows": False}), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.send(node.batch(clock=10))
    rig.threads.hold(KAFKA)
    await rig.send(b"poison")
    await rig.clock.advance(0.2)
    assert rig.threads.waiting(KAFKA) == 1
    assert rig.store.packets == 1
    await rig.threads.let_go(KAFKA)
    await rig.send(node.batch(11, clock=20))
    rig.threads.hold(REGISTRY)
    rig.codec.away = True
    await rig.send(node.batch(21, clock=22))
    await rig.clock.advance(0.2)
    assert rig.threads.waiting(REGISTRY) == 1
    assert rig.store.packets == 2
    rig.codec.away = False
    await rig.threads.let_go(REGISTRY)
    await rig.worker.stop()


async def test_while_inserts_are_slow_messages_of_all_partitions_are_taken() -> None:
    rig, slow, other = Rig(), Source("slow"), Source("other")
    await rig.send(slow.batch(1, clock=2))
    await rig.send(other.batch(1, clock=2), partition=1)
    rig.threads.hold(CLICKHOUSE)
    await rig.send(slow.batch(2, clock=10))
    await rig.clock.advance(0.2)
    assert rig.threads.waiting(CLICKHOUSE) == 1
    await rig.send(other.batch(2, clock=10), b"poison", partition=1)
    await rig.send(slow.batch(3, clock=11))  # behind what is being inserted
    await rig.clock.advance(0.2)
    assert (rig.metric("packets_total"), len(rig.publisher.dead_letters), rig.store.packets) == (5, 1, 0)
    await rig.threads.let_go(CLICKHOUSE)
    await rig.clock.advance(2)
    assert rig.store.packets == 5
    assert rig.worker.health()["open_windows"] == 0
    await rig.worker.stop()


async def test_a_message_that_waits_holds_no_other_partition() -> None:
    rig, node = Rig(codec=Registry()), Source()
    rig.publisher.refuses, rig.settings["publish_flows"] = True, False
    await rig.send(b"poison", b"more poison")
    rig.threads.hold(REGISTRY)
    rig.codec.away = True
    await rig.send(Source("unknown").batch(1, clock=2), partition=1)
    rig.codec.away = False
    await rig.send(node.batch(1, clock=10), partition=2)
    await rig.clock.advance(0.2)
    assert (rig.metric("packets_total"), rig.store.packets) == (1, 1)
    await rig.worker.stop()


async def test_a_partition_is_not_fetched_while_many_of_its_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_MOST_MESSAGES", 4)
    rig, node = Rig(), Source()
    rig.offsets.away = True
    await rig.send(*(node.batch(n, clock=n) for n in range(1, 4)))
    assert rig.member.paused == set()
    await rig.send(node.batch(4, clock=4), node.batch(5, clock=5))  # what was on its way still comes
    assert rig.member.paused == {0}
    rig.member.resume(0)  # somebody else did
    await rig.send(node.batch(6, clock=6))
    assert rig.member.paused == {0}
    rig.offsets.away = False
    await rig.clock.advance(10)
    assert (rig.metric("packets_total"), rig.member.paused) == (6, set())
    await rig.worker.stop()


async def test_one_large_message_that_waits_is_enough_not_to_fetch_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_MOST_BYTES", 1000)
    rig = Rig()
    rig.offsets.away = True
    await rig.send(bytes(1000))
    assert rig.member.paused == {0}
    rig.offsets.away = False
    await rig.clock.advance(1)
    assert rig.member.paused == set()
    await rig.worker.stop()


async def test_a_partition_with_less_than_its_share_of_memory_waits_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, large, small = Rig(), Source("large"), Source("small")
    await rig.send(*(large.batch(n, clock=n) for n in range(1, 9)))
    await rig.send(small.batch(1, clock=2), partition=1)
    monkeypatch.setattr(limits, "_MOST_BYTES", rig.worker._assignment.nbytes - 1)
    await rig.send(large.batch(9, clock=9.5))
    await rig.send(small.batch(2, clock=3), partition=1)
    await rig.clock.advance(0.2)
    assert (rig.metric("packets_total"), rig.metric("batches_total")) == (10, 10)
    await rig.worker.stop()


async def test_no_more_messages_are_taken_while_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    monkeypatch.setattr(limits, "_MOST_BYTES", 1)
    rig.store.away = True
    await rig.send(node.batch(2, clock=10))
    await rig.clock.advance(100)
    assert rig.metric("batches_total") == 1
    monkeypatch.setattr(limits, "_MOST_BYTES", 1 << 30)
    await rig.clock.advance(0.2)
    assert rig.metric("packets_total") == 2
    await rig.worker.stop()


async def test_a_message_that_waits_for_memory_is_given_up_with_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    monkeypatch.setattr(limits, "_MOST_BYTES", 1)
    await rig.send(node.batch(2, clock=3))
    await settle()
    await rig.worker.release_all()
    assert (rig.metric("packets_total"), rig.acked) == (1, [])
    await rig.worker.stop()


async def test_a_message_with_many_counters_lets_others_have_their_turn_and_is_acknowledged_as_a_whole() -> None:
    rig, node = Rig(), Source()
    made = replace(node.batch(1, clock=3), counters=())
    rows = [
        EpochCounters.nothing(epoch=epoch, start_ns=START * SECOND, end_ns=START * SECOND) for epoch in range(2, 30_002)
    ]
    rows[0] = replace(rows[0], epoch=1, interface="eth0", seen_packets=1, emitted_packets=1)
    turns: list[tuple[int, int]] = []

    async def others() -> None:
        while True:
            state = rig.worker._states().get(0)
            if state is not None:
                turns.append((len(state.accounts.closed()), state.committable(rig.clock.time())))
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await rig.send(replace(made, counters=tuple(rows)))
    task.cancel()
    between = sorted({closed for closed, _ in turns if 0 < closed < 30_000})
    assert len(between) >= 6  # a part of them at a time
    assert {offset for closed, offset in turns if closed < 30_000} == {0}
    assert rig.metric("packets_total") == 1
    await rig.clock.advance(1)
    assert len(rig.store.ledger) == 30_000
    await rig.send(node.batch(clock=21))
    for _ in range(3):
        await rig.clock.advance(1)
    assert rig.acked[0] == (0, 0)
    await rig.worker.stop()


async def test_a_large_message_is_decoded_by_a_thread_and_those_behind_it_wait() -> None:
    rig, node = Rig(), Source()
    large = node.batch(*(second / 100 for second in range(200)), clock=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_LARGE_BYTES", len(rig.codec.encode_packet_batch(large)))
        rig.threads.hold(LARGE)
        await rig.send(large, node.batch(4, clock=5))
        assert (rig.threads.waiting(LARGE), rig.metric("packets_total")) == (1, 0)
        await rig.threads.let_go(LARGE)
        assert rig.metric("packets_total") == 201
    await rig.worker.stop()
