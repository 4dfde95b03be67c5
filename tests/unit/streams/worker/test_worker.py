from common.errors import DecodeError
from streams.partition.storing import KafkaPartition, WindowId
from tests.unit.streams.worker.rig import Rig, Source


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
