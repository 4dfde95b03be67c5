import asyncio

import pytest

from common.errors import ServiceUnavailable
from schemas.flows import Loss
from streams.partition.storing import WindowId
from streams.testing import settle
from streams.worker.retrying import CLICKHOUSE
from tests.unit.streams.worker.rig import START, WINDOW, Rig, Source


async def test_reading_begins_where_the_group_ended() -> None:
    rig, node = Rig(), Source()
    rig.end[0] = rig.offsets.committed[0] = 40
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    ((offset_end, _),) = rig.store.blocks.values()
    assert offset_end == 41
    assert rig.store.losses == []
    await rig.worker.stop()


async def test_reading_that_begins_too_late_ends_the_component() -> None:
    rig, node = Rig(), Source()
    rig.offsets.committed[0], rig.end[0] = 40, 41
    rig.offsets.held.add((0, 40))
    await rig.send(node.batch(1, clock=10))
    with pytest.raises(ServiceUnavailable, match="message 40 of partition 0 did not come, and 41 did"):
        rig.worker.failure.result()
    assert rig.store.calls == []
    await rig.worker.stop()


async def test_a_message_left_out_of_an_open_partition_ends_the_component_before_anything_behind_it_is_taken() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    rig.offsets.held.add((0, 1))
    node.batch(2, clock=3)
    rig.end[0] = 2
    await rig.send(node.batch(3, clock=30), node.batch(clock=30))
    with pytest.raises(ServiceUnavailable, match="message 1 of partition 0 did not come, and 2 did"):
        rig.worker.failure.result()
    await rig.clock.advance(1)
    assert (rig.metric("packets_total"), rig.acked) == (1, [])
    await rig.worker.stop()


async def test_reading_begins_behind_a_mark_of_a_transaction() -> None:
    rig, node = Rig(), Source()
    rig.offsets.committed[0], rig.end[0] = 40, 41  # the group ended at the mark
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    assert (rig.store.packets, rig.store.losses, rig.worker.failure.done()) == (1, [], False)
    await rig.worker.stop()


async def test_what_is_acknowledged_is_said_by_offset_however_many_have_no_message() -> None:
    rig, node = Rig(), Source()
    for second in range(3):
        await rig.send(node.batch(second, clock=second + 1))
        rig.end[0] += 1_000_000  # marks
    await rig.send(node.batch(clock=30), node.batch(clock=31))
    for _ in range(5):
        await rig.clock.advance(1)
    assert rig.store.packets == 3
    assert rig.member.acknowledged == {0: 3_000_004}  # the last message knows the ring
    await rig.worker.stop()


async def test_nothing_is_acknowledged_of_a_partition_that_is_only_being_opened() -> None:
    rig, node = Rig(), Source()
    rig.offsets.committed[0], rig.offsets.oldest[0], rig.end[0] = 40, 50, 50
    rig.store.away = True
    await rig.send(node.batch(1, clock=2))
    await rig.worker.stop()  # the loss of 40 to 50 is not written down
    assert rig.member.acknowledged == {}


async def test_a_partition_is_opened_when_kafka_and_clickhouse_answer() -> None:
    rig, node = Rig(), Source()
    rig.offsets.away = rig.store.away = True
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(1)
    assert rig.worker.health()["kafka"] == "Kafka does not tell the offsets"
    rig.offsets.away = False
    await rig.clock.advance(1)
    assert rig.worker.health()["clickhouse"] == "ClickHouse does not answer"
    assert rig.metric("batches_total") == 0
    rig.store.away = False
    await rig.clock.advance(1)
    await rig.clock.advance(0.2)
    assert rig.store.packets == 1
    await rig.worker.stop()


@pytest.mark.parametrize("who", ["offsets", "store"])
async def test_a_partition_that_goes_while_it_is_opened_is_not_read(who: str) -> None:
    rig, node = Rig(), Source()
    getattr(rig, who).away = True
    await rig.send(node.batch(1, clock=10))
    await settle()
    await rig.worker.release_all()
    assert (rig.metric("packets_total"), rig.acked, rig.worker.health()["partitions"]) == (0, [], 0)
    await rig.worker.stop()


async def test_a_partition_that_goes_in_the_last_question_is_not_read() -> None:
    rig, node = Rig(), Source()
    rig.threads.hold(CLICKHOUSE)
    await rig.send(node.batch(1, clock=10))
    await settle()
    await rig.worker.release_all()
    await rig.threads.let_go(CLICKHOUSE)
    assert (rig.metric("packets_total"), rig.acked) == (0, [])
    await rig.worker.stop()


async def test_messages_that_kafka_removed_while_nobody_read_are_written_down() -> None:
    rig, node = Rig(), Source()
    rig.offsets.committed[0], rig.offsets.oldest[0] = 40, 50
    rig.end[0] = 50
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(0.2)
    ((source, loss),) = rig.store.losses
    assert source == (1, 0)
    assert loss == messages_lost(40, 50)
    assert rig.metric("lost_messages_total") == 10
    await rig.worker.stop()


async def test_when_kafka_forgot_the_group_the_table_tells_what_is_lost() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=10))
    await rig.worker.release_all()
    rig.offsets.oldest[0] = rig.end[0] = 5
    await rig.send(node.batch(11, clock=12))
    await rig.clock.advance(0.2)
    assert rig.store.packets == 1
    assert [loss for _, loss in rig.store.losses] == [messages_lost(1, 5)]
    await rig.worker.stop()


async def test_messages_that_somebody_moved_the_group_over_are_written_down_before_any_window() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=10))
    await rig.worker.release_all()
    assert rig.store.packets == 1
    rig.offsets.committed[0], rig.offsets.ours = 5, False
    rig.end[0] = 5
    rig.store.calls.clear()
    await rig.send(node.batch(11, clock=30))
    await rig.clock.advance(0.2)
    assert [loss for _, loss in rig.store.losses] == [messages_lost(1, 5)]
    written = [call for call in rig.store.calls if call in {"insert", "insert_losses"}]
    assert written == ["insert_losses", "insert"]  # behind the window, the table would say that nothing is missing
    await rig.worker.stop()


async def test_messages_that_kafka_removes_under_a_running_worker_are_written_down_before_the_rest() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    rig.offsets.oldest[0] = rig.end[0] = 5
    rig.store.away = True
    await rig.send(node.batch(2, clock=3), node.batch(clock=10))
    await rig.clock.advance(1)
    assert rig.acked == []
    rig.store.away = False
    for _ in range(5):
        await rig.clock.advance(1)
    assert [loss for _, loss in rig.store.losses] == [messages_lost(1, 5)]
    assert rig.acked == [(0, 0), (0, 5)]
    await rig.worker.stop()


async def test_offsets_without_messages_are_no_loss() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    rig.end[0] = 5
    await rig.send(node.batch(2, clock=10))
    await rig.clock.advance(0.2)
    assert (rig.store.packets, rig.store.losses) == (2, [])
    await rig.worker.stop()


async def test_a_message_that_comes_again_opens_its_partition_again() -> None:
    rig, node = Rig(), Source()
    first = node.batch(1, clock=10)
    await rig.send(first, node.batch(11, clock=12))
    await rig.clock.advance(0.2)
    assert rig.store.packets == 1
    rig.hand_over(first, offset=0)
    await rig.clock.advance(0.2)
    assert rig.store.packets == 1  # read back, and not stored twice
    assert len(rig.store.blocks) == 1
    assert [task.get_name() for task in asyncio.all_tasks()].count("t.packets 0") == 1
    await rig.worker.stop()


async def test_a_topic_that_was_made_anew_is_read_afresh() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    rig.offsets.topic_id, rig.offsets.oldest[0], rig.end[0] = 2, 3, 3
    await rig.send(node.batch(2, clock=10))
    await rig.clock.advance(0.2)
    assert [(name.partition.topic_id, name.revision) for name in rig.store.blocks] == [(1, 0), (2, 0)]
    assert (rig.store.packets, rig.store.losses) == (2, [])
    await rig.worker.stop()


async def test_after_a_change_of_the_window_length_what_was_read_before_keeps_the_old_one() -> None:
    before = Rig()
    node, again = Source(), Source()
    await before.send(node.batch(1, clock=2), node.batch(11, clock=20))
    await before.clock.advance(0.2)  # both windows are stored up to offset 2
    await before.worker.stop()
    assert before.acked == []
    rig = Rig(settings={"window_seconds": 60}, store=before.store)
    await rig.send(again.batch(1, clock=2), again.batch(11, clock=20), again.batch(12, clock=60))
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert rig.store.packets == 3
    assert sorted(name.window for name in rig.store.blocks) == [
        WindowId(START, WINDOW),
        WindowId(START, 60),
        WindowId(START + 10, WINDOW),
    ]
    await rig.worker.stop()


async def test_a_partition_that_is_revoked_in_the_middle_of_an_insert_waits_for_it() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(1)  # its epoch is stored
    await rig.send(node.batch(11, clock=12), node.batch(clock=12))
    rig.threads.hold(CLICKHOUSE)
    await rig.clock.advance(0.2)
    assert rig.threads.waiting(CLICKHOUSE) == 1
    releasing = asyncio.create_task(rig.worker.release_all())
    await settle()
    assert not releasing.done()
    await rig.threads.let_go(CLICKHOUSE)
    await releasing
    assert (rig.store.packets, rig.acked) == (1, [(0, 0)])
    await rig.worker.stop()


async def test_an_insert_that_takes_too_long_does_not_hold_back_a_rebalance() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.send(node.batch(clock=11))
    rig.threads.hold(CLICKHOUSE)
    await rig.clock.advance(0.2)
    releasing = asyncio.create_task(rig.worker.release_all())
    await settle()
    assert not releasing.done()
    await rig.clock.advance(5)
    await releasing
    await rig.threads.let_go(CLICKHOUSE)  # it is stored all the same
    assert (rig.store.packets, rig.acked) == (1, [])  # and whoever has the partition next finds it
    assert not rig.worker.failure.done()
    await rig.worker.stop()


async def test_a_released_partition_is_read_on_by_its_next_worker_without_counting_twice() -> None:
    first = Rig()
    node, again = Source(), Source()
    await first.send(node.batch(1, clock=2), node.batch(2, clock=10))
    await first.clock.advance(0.2)
    await first.worker.stop()
    second = Rig(store=first.store, offsets=first.offsets)
    await second.send(again.batch(1, clock=2), again.batch(2, clock=10), again.batch(3, clock=10))
    await second.clock.advance(0.2)
    await second.clock.advance(1)
    assert second.store.packets == 3
    await second.worker.stop()


def messages_lost(start: int, end: int) -> Loss:
    """As noticed while the clock stood still."""
    return Loss(
        time_ns=START * 1_000_000_000, kind="messages", node="", ring_id=0, start=start, end=end, lost=end - start
    )
