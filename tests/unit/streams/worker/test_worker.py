import asyncio
from dataclasses import replace
from typing import Any

import pytest

from common.errors import DecodeError, ServiceUnavailable
from schemas.avro.codec import Codec
from schemas.packets import EpochCounters, PacketBatch
from streams.live.feed import LiveFeed
from streams.live.view import LiveNode, Second
from streams.partition.state import Partition, Taken
from streams.partition.storing import KafkaPartition, WindowId
from streams.testing import settle
from streams.worker import intake
from streams.worker import worker as limits
from streams.worker.retrying import CLICKHOUSE, KAFKA, LARGE, LIVE, REGISTRY
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


async def test_a_message_is_taken_its_window_and_epoch_stored_and_then_it_is_acknowledged() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, 2, clock=3))
    await rig.clock.advance(1)
    assert (rig.store.packets, len(rig.store.ledger), rig.acked) == (0, 1, [])  # its window is open
    await rig.send(node.batch(11, clock=12), node.batch(clock=12))
    await rig.clock.advance(0.2)
    assert (rig.store.packets, len(rig.store.ledger), rig.acked) == (2, 1, [])  # it is not published
    await rig.send(node.batch(clock=21))
    await rig.clock.advance(0.2)
    assert (rig.store.packets, len(rig.store.ledger), rig.acked) == (3, 1, [(0, 0)])  # its epoch waits for others
    await rig.clock.advance(1)
    await rig.clock.advance(1)
    assert (len(rig.store.ledger), rig.acked) == (2, [(0, 0), (0, 1), (0, 2)])  # the last one knows the ring
    assert (rig.metric("packets_total"), rig.metric("stored_packets_total"), rig.metric("batches_total")) == (3, 3, 4)
    await rig.worker.stop()


async def test_late_packets_are_stored_as_a_correction() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    await rig.send(node.batch(2, 3, clock=11))
    await rig.clock.advance(0.8)
    assert rig.store.packets == 1  # they wait for more of their kind
    await rig.clock.advance(0.4)
    assert rig.store.packets == 3
    assert [name.revision for name in rig.store.blocks] == [0, 1]
    assert (rig.metric("late_packets_total"), rig.metric("corrections_total")) == (2, 1)
    await rig.worker.stop()


async def test_what_kafka_holds_twice_is_counted_once() -> None:
    rig = Rig()
    again = Source().batch(1, 2, clock=10)
    await rig.send(again, again)
    await rig.clock.advance(0.2)
    assert rig.store.packets == 2
    assert (rig.metric("packets_total"), rig.metric("duplicate_packets_total")) == (2, 2)
    await rig.worker.stop()


async def test_what_is_missing_of_a_ring_is_counted() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    node.sent += 3
    await rig.send(node.batch(2, clock=3))
    assert (rig.metric("gaps_total"), rig.metric("lost_events_total")) == (1, 3)
    await rig.worker.stop()


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


async def test_stopping_acknowledges_what_is_stored_and_leaves_open_windows_in_kafka() -> None:
    rig, node = Rig(), Source()
    await rig.worker.start()
    await rig.send(node.batch(1, clock=10), node.batch(11, clock=12))
    await rig.clock.advance(1)
    await rig.send(node.batch(12, clock=13))
    await rig.worker.stop()
    assert (rig.store.packets, rig.acked) == (1, [(0, 0)])
    await rig.send(node.batch(13, clock=20))  # Faust may have one more
    assert rig.acked == [(0, 0)]
    assert rig.worker.health()["partitions"] == 0
    assert not rig.worker.failure.done()


async def test_a_bug_in_a_partitions_task_ends_the_component() -> None:
    rig, node = Rig(), Source()

    def broken(partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        raise ZeroDivisionError

    rig.store.revisions = broken  # type: ignore[method-assign]
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    assert isinstance(rig.worker.failure.exception(), ZeroDivisionError)
    assert not rig.worker.health()["ok"]
    rig.worker.fail(DecodeError("a second one"))  # the first is the cause
    assert isinstance(rig.worker.failure.exception(), ZeroDivisionError)
    await rig.worker.stop()


async def test_live_statistics_are_sent_once_a_second() -> None:
    rig, node = Rig(), Source()
    await rig.worker.start()
    await rig.send(node.batch(0.1, clock=0.2), node.batch(0.3, 0.4, clock=1))
    await rig.clock.advance(1)
    assert [stats["node"] for stats in rig.publisher.statistics] == ["n1"]
    await rig.clock.advance(1)
    assert len(rig.publisher.statistics) == 1  # it sent nothing since
    await rig.clock.advance(5)  # to the next look at Kafka
    assert (rig.metric("open_windows"), rig.metric("lag_messages")) == (1, 0)
    assert rig.metric("open_window_bytes") > 0
    await rig.worker.stop()


async def test_live_statistics_that_cannot_be_sent_are_told_and_hold_nothing_back() -> None:
    rig, node = Rig(), Source()
    await rig.worker.start()
    rig.publisher.trouble = "no broker answers"
    await rig.send(node.batch(0.1, clock=0.2))
    await rig.clock.advance(1)
    assert rig.worker.health()["kafka"] == "no broker answers"
    rig.publisher.trouble, rig.publisher.registry_away = None, True
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(1)
    assert rig.worker.health()["kafka"] == "the schema registry does not answer"
    rig.publisher.registry_away = False
    await rig.send(node.batch(2, clock=10))
    await rig.clock.advance(1)
    assert rig.worker.health()["ok"]
    assert rig.store.packets == 3
    await rig.worker.stop()


async def test_health_says_what_there_is_and_what_waits() -> None:
    rig, node = Rig(), Source()
    assert rig.worker.health() == {
        "ok": True,
        "stage": "streams",
        "error": "",
        "warnings": [],
        "partitions": 0,
        "watermark_delay_seconds": None,
        "clocks": {},
        "open_windows": 0,
        "oldest_open_window": None,
        "lag_messages": None,  # nobody has asked yet
        "oldest_unstored_seconds": None,
        "partitions_unread": None,
        "backlog": [],
        "rows_stored": 0,
        "last_insert_age_seconds": None,
        "clickhouse": "ok",
        "kafka": "ok",
        "registry": "ok",
        "unpublished_windows": 0,
        "unpublished_flows": 0,
        "operators": [],
        "troubles": [],
        "dead_letters": 0,
    }
    await rig.clock.advance(11)
    rig.broker.read = {0, 1}
    await rig.send(node.batch(1, clock=10))
    rig.end[0] += 4
    await rig.send(node.batch(11, clock=10.5), partition=1)
    await rig.worker.start()
    await rig.clock.advance(2)
    health = rig.worker.health()
    assert (health["partitions"], health["open_windows"], health["lag_messages"]) == (2, 1, 4)
    assert (health["rows_stored"], health["last_insert_age_seconds"]) == (1, 2.0)
    assert health["watermark_delay_seconds"] == 3.0
    await rig.worker.stop()


async def test_a_clock_that_is_ahead_and_a_name_that_two_have_are_told() -> None:
    rig, twin = Rig(), Source(ring_id=8)
    node, wrong = Source(), Source("wrong")
    await rig.worker.start()
    for second in range(1, 6):
        await rig.send(node.batch(second, clock=second + 0.5), wrong.batch(86_400, clock=86_400 + second + 0.5))
        await rig.clock.advance(1)
    health = rig.worker.health()
    assert health["ok"]
    assert health["clocks"] == {
        "ahead": {"node": "wrong", "seconds": 86_401.5},
        "behind": {"node": "n1", "seconds": 1.5},
    }
    (warning,) = health["warnings"]
    assert "the clock of node wrong is 86,40" in warning
    assert rig.metric("clock_skew_seconds", which="ahead") == 86_401.5
    for second in range(6, 12):
        await rig.send(node.batch(second, clock=second + 0.5), twin.batch(second, clock=second + 0.5))
        await rig.clock.advance(1)
    health = rig.worker.health()
    assert not health["ok"]
    assert health["error"].startswith("two producers call themselves node n1 (rings 7 and 8): set `node`")
    assert rig.metric("shared_names") == 1
    await rig.clock.advance(100)
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_partition_that_its_node_left_has_no_say_in_the_watermarks_delay() -> None:
    rig, node = Rig(settings={"node_timeout_seconds": 5}), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(600)
    await rig.send(node.batch(599, clock=599), partition=1)
    await rig.clock.advance(1)
    assert rig.worker.health()["watermark_delay_seconds"] == 2.0
    await rig.worker.stop()


async def test_a_failing_summary_is_told_and_tried_again_and_holds_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, bad, good = Rig(), Source("bad"), Source("good")
    await rig.worker.start()
    summarize = LiveNode.summarize

    def broken(view: LiveNode, second: Second, *args: Any, **more: Any) -> dict[str, Any]:
        if second.node == "bad":
            raise OverflowError("date value out of range")
        return summarize(view, second, *args, **more)

    monkeypatch.setattr(LiveNode, "summarize", broken)
    await rig.send(bad.batch(1, clock=2))
    await rig.send(good.batch(1, clock=2), partition=1)
    await rig.clock.advance(0.5)
    await rig.send(bad.batch(2, clock=3))
    await rig.send(good.batch(2, clock=3), partition=1)
    await rig.clock.advance(0.5)
    assert [stats["node"] for stats in rig.publisher.statistics] == ["good"]
    [trouble] = rig.worker.health()["troubles"]
    assert (trouble["service"], trouble["error"]) == (LIVE, "OverflowError('date value out of range')")
    monkeypatch.setattr(LiveNode, "summarize", summarize)
    await rig.send(bad.batch(3, clock=4))
    await rig.clock.advance(1)
    assert [stats["node"] for stats in rig.publisher.statistics] == ["good", "bad"]
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_watermark_in_the_future_is_told_as_such() -> None:
    rig = Rig()
    await rig.worker.start()
    await rig.send(Source().batch(86_400, clock=86_401))
    await rig.clock.advance(1)
    assert rig.worker.health()["watermark_delay_seconds"] == -86_400
    assert rig.metric("watermark_delay_seconds") == -86_400
    await rig.worker.stop()


async def test_a_live_view_that_fails_at_a_message_does_not_hold_its_packets_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, node = Rig(), Source()

    def broken(*_: Any) -> None:
        raise OverflowError("date value out of range")

    monkeypatch.setattr(LiveFeed, "add", broken)
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    assert (rig.store.packets, rig.worker.health()["troubles"][0]["service"]) == (1, LIVE)
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
