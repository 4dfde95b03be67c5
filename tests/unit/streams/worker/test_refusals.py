"""What ClickHouse refuses: set aside, and stored when it is refused no longer."""

from common.errors import ServiceUnavailable
from common.times import iso
from schemas.flows import FlowColumns
from streams.partition.storing import KafkaPartition
from streams.worker.retrying import CLICKHOUSE
from tests.unit.streams.worker.rig import START, Rig, Source, refused


async def test_a_window_that_is_refused_stays_in_sight_while_others_are_stored() -> None:
    rig, bad, good = Rig(), Source("bad"), Source("good")
    insert = rig.store.insert

    def refuse(flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> None:
        if partition.number == 0:
            raise ServiceUnavailable("violates a constraint")
        insert(flows, partition, revision, offset_end)

    rig.store.insert = refuse  # type: ignore[method-assign]
    await rig.worker.start()
    await rig.send(bad.batch(1, clock=12))
    for n in range(60):
        await rig.send(good.batch(n * 10 + 1, clock=n * 10 + 12), partition=1)
        await rig.clock.advance(1)
        health = rig.worker.health()
        assert (health["ok"], health["clickhouse"]) == (False, "violates a constraint")
    assert health["troubles"] == [
        {
            "service": CLICKHOUSE,
            "partition": 0,
            "window_begin": iso(START),
            "since": iso(START),
            "error": "violates a constraint",
        }
    ]
    assert rig.metric("troubles", service=CLICKHOUSE) == 1
    assert rig.store.packets == 60
    await rig.worker.stop()


async def test_a_window_that_is_refused_is_set_aside_at_once_and_stored_when_it_is_no_longer() -> None:
    rig, node = Rig(), Source()
    await refused(rig, node)
    ((name, (offset_end, flows, error)),) = rig.store.kept_aside.items()
    assert (name.window.start, name.revision, offset_end) == (START, 0, 2)
    assert (int(flows.packets.sum()), error) == (2, "a constraint is violated")
    assert (rig.store.packets, rig.acked) == (2, [(0, 0), (0, 1)])  # and the others go on
    assert rig.metric("refused_packets_total") == 2
    for _ in range(20):
        await rig.clock.advance(10)
        (trouble,) = rig.worker.health()["troubles"]
        assert f"the window of {iso(START)} is set aside" in trouble["error"]
        assert "a constraint is violated" in trouble["error"]
    rig.store.refuses = set()
    await rig.send(node.batch(2, clock=32))  # late: the name of the first is taken
    for _ in range(70):
        await rig.clock.advance(1)
    assert sorted((name.window.start - START, name.revision) for name in rig.store.blocks) == [
        (0, 0),
        (0, 1),
        (10, 0),
        (20, 0),
    ]
    assert (rig.store.packets, rig.store.still_aside, rig.worker.health()["ok"]) == (5, set(), True)
    await rig.worker.stop()


async def test_what_was_set_aside_is_not_stored_again_by_who_reads_its_messages_again() -> None:
    first = Rig()
    await refused(first, Source())
    await first.worker.stop()  # and nothing of what it acknowledged was committed
    first.store.refuses = set()
    second, node = Rig(store=first.store), Source()
    await second.send(node.batch(1, 1, clock=10), node.batch(11, clock=20))
    await second.send(node.batch(21, clock=30), node.batch(clock=31))
    for _ in range(4):
        await second.clock.advance(1)
    assert second.store.packets == 4
    assert sorted((name.window.start - START, name.revision) for name in second.store.blocks) == [
        (0, 0),
        (10, 0),
        (20, 0),
    ]
    assert (second.acked, second.store.still_aside) == ([(0, 0), (0, 1), (0, 2)], set())
    await second.worker.stop()


async def test_what_was_set_aside_is_stored_by_who_has_the_partition_though_nothing_comes() -> None:
    first, node = Rig(), Source()
    await refused(first, node)
    await first.worker.stop()
    second = Rig(store=first.store)
    await second.worker.start()
    for _ in range(20):
        await second.clock.advance(10)
    assert "is set aside" in second.worker.health()["clickhouse"]  # it is nobody else's trouble
    second.store.refuses = set()
    for _ in range(8):
        await second.clock.advance(10)
    assert (second.store.packets, second.store.still_aside) == (4, set())
    assert [flows.window_begin for _, flows in second.publisher.sent] == [START]
    assert second.worker.health()["clickhouse"] == "ok"
    second.end[0] = second.offsets.committed[0] = 4
    await second.send(node.batch(41, clock=50), node.batch(clock=51))  # and then something comes
    for _ in range(4):
        await second.clock.advance(1)
    assert second.store.packets == 5
    await second.worker.stop()


async def test_of_a_partition_that_went_before_anything_came_nothing_is_attended_to() -> None:
    first = Rig()
    await refused(first, Source())
    await first.worker.stop()
    second = Rig(store=first.store)
    await second.worker.start()
    await second.clock.advance(5)
    second.member.ours = set()
    for _ in range(3):
        await second.clock.advance(5)
    assert second.worker.health()["clickhouse"] == "ok"
    second.store.refuses = set()
    for _ in range(20):
        await second.clock.advance(10)
    assert second.store.still_aside
    await second.worker.stop()


async def test_a_partition_that_goes_takes_its_refusals_out_of_health() -> None:
    rig, node = Rig(), Source()
    await refused(rig, node)
    assert not rig.worker.health()["ok"]
    await rig.worker.release_all()
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_ledger_that_is_refused_holds_up_the_acknowledgement_and_no_window() -> None:
    rig, node = Rig(), Source()
    rig.store.refuses_ledger = True
    for number in range(1, 5):
        await rig.send(node.batch(10 * number - 1, clock=10 * number))
        await rig.clock.advance(10)
    assert (rig.store.packets, rig.store.ledger, rig.acked) == (4, {}, [])
    assert rig.worker.health()["clickhouse"] == "a constraint is violated"
    rig.store.refuses_ledger = False
    for _ in range(3):
        await rig.clock.advance(30)
    assert (len(rig.store.ledger), rig.acked) == (4, [(0, 0), (0, 1), (0, 2)])
    assert rig.worker.health()["ok"]
    await rig.worker.stop()
