"""Flows that are published: after they are stored, before their messages are acknowledged."""

import pytest

from streams.worker.output import publishing
from tests.unit.streams.worker.rig import START, Rig, Source, refused


async def test_flows_are_published_before_their_messages_are_acknowledged() -> None:
    rig, node = Rig(), Source()
    rig.publisher.refuses = True
    await rig.send(node.batch(1, clock=10), node.batch(clock=11))
    await rig.clock.advance(5)
    assert (rig.store.packets, rig.publisher.sent, rig.acked) == (1, [], [])
    assert rig.worker.health()["kafka"] == "Kafka did not take a message"
    rig.publisher.refuses = False
    for _ in range(3):
        await rig.clock.advance(10)
    ((revision, flows),) = rig.publisher.sent
    assert (revision, int(flows.packets.sum())) == (0, 1)
    assert rig.acked == [(0, 0)]
    await rig.worker.stop()


async def test_flows_are_not_published_when_nobody_wants_them() -> None:
    rig, node = Rig(settings={"publish_flows": False}), Source()
    rig.publisher.refuses = True
    await rig.send(node.batch(1, clock=10), node.batch(clock=11))
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert (rig.store.packets, rig.acked) == (1, [(0, 0)])
    await rig.worker.stop()


async def test_what_a_predecessor_stored_is_published_by_its_successor() -> None:
    first = Rig()
    first.publisher.refuses = True
    await first.send(Source().batch(1, clock=10))
    await first.clock.advance(0.2)  # stored; then it dies
    await first.worker.stop()
    second = Rig(store=first.store)
    await second.send(Source().batch(1, clock=10))
    await second.clock.advance(0.2)
    assert [revision for revision, _ in second.publisher.sent] == [0]
    assert (second.store.packets, second.metric("rows_stored_total")) == (1, 0)
    await second.worker.stop()


async def test_a_partition_that_goes_before_its_flows_are_published_is_not_acknowledged() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(1)  # its epoch is stored
    rig.publisher.refuses = True
    await rig.send(node.batch(clock=10), node.batch(clock=11))
    await rig.clock.advance(0.2)
    await rig.worker.release_all()
    assert (rig.store.packets, rig.acked) == (1, [])
    await rig.worker.stop()


async def test_a_flows_topic_that_takes_nothing_holds_up_neither_table_nor_dead_letters() -> None:
    rig, node = Rig(), Source()
    rig.publisher.refuses = True
    for number in range(1, 6):
        await rig.send(node.batch(10 * number - 1, clock=10 * number))
        await rig.clock.advance(1)
    assert (rig.store.packets, rig.publisher.sent, rig.acked) == (5, [], [])
    health = rig.worker.health()
    assert (health["ok"], health["unpublished_windows"], health["clickhouse"]) == (False, 5, "ok")
    rig.publisher.refuses = False
    for _ in range(3):
        await rig.clock.advance(10)
    assert [flows.window_begin - START for _, flows in rig.publisher.sent] == [0, 10, 20, 30, 40]
    assert rig.acked == [(0, offset) for offset in range(4)]
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_what_waits_beyond_its_memory_is_read_back_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MOST_BYTES", 1)
    rig, node = Rig(), Source()
    rig.publisher.refuses = True
    await rig.send(node.batch(1, clock=10), node.batch(11, clock=20))
    await rig.clock.advance(1)
    rig.publisher.refuses = False
    await rig.clock.advance(10)
    await rig.clock.advance(10)
    assert [(int(flows.packets.sum()), flows.window_begin - START) for _, flows in rig.publisher.sent] == [
        (1, 0),
        (1, 10),
    ]
    await rig.worker.stop()


async def test_flows_that_nobody_takes_for_long_are_given_up_and_told(caplog: pytest.LogCaptureFixture) -> None:
    rig, node = Rig(), Source()
    rig.publisher.refuses = True
    await rig.send(node.batch(1, clock=10), node.batch(clock=11))
    await rig.clock.advance(1)
    for _ in range(70):
        await rig.clock.advance(10)
    assert rig.acked[0] == (0, 0)
    assert (rig.metric("unpublished_flows_total"), rig.worker.health()["unpublished_flows"]) == (1, 1)
    assert "the table has them" in caplog.text
    rig.publisher.refuses = False
    await rig.send(node.batch(11, clock=20))
    await rig.clock.advance(10)
    await rig.clock.advance(10)
    assert [flows.window_begin - START for _, flows in rig.publisher.sent] == [10]
    await rig.worker.stop()


async def test_what_is_read_back_to_be_published_is_that_of_its_topic_though_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "MOST_BYTES", 0)
    first = Rig()
    await refused(first, Source())
    await first.worker.stop()
    second = Rig(store=first.store)
    second.store.refuses = set()
    await second.worker.start()
    for _ in range(8):
        await second.clock.advance(10)
    assert [(flows.window_begin, int(flows.packets.sum())) for _, flows in second.publisher.sent] == [(START, 2)]
    await second.worker.stop()
