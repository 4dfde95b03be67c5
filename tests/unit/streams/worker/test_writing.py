import asyncio

import pytest

from common.errors import ServiceUnavailable
from common.times import iso
from schemas.flows import FlowColumns
from streams.partition import state as limits
from streams.partition.rings import RING_MESSAGES, RING_SECONDS
from streams.partition.storing import KafkaPartition
from streams.testing import settle
from streams.windowing import windows
from streams.worker.output import publishing
from streams.worker.retrying import CLICKHOUSE
from tests.unit.streams.worker.rig import START, Rig, Source


async def test_while_clickhouse_is_away_nothing_is_acknowledged_and_nothing_lost() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    rig.store.away = True
    await rig.send(node.batch(2, clock=10), node.batch(11, clock=12))
    await rig.clock.advance(60)
    health = rig.worker.health()
    assert (health["ok"], health["clickhouse"]) == (False, "ClickHouse does not answer")
    assert (rig.acked, rig.store.packets) == ([], 0)
    assert rig.metric("insert_retries_total") > 0
    rig.store.away = False
    for _ in range(3):
        await rig.clock.advance(10)
    assert (rig.acked, rig.store.packets) == ([(0, 0), (0, 1)], 2)
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


@pytest.mark.parametrize("fault", ["lose_answer", "die"])
async def test_an_insert_whose_answer_is_lost_is_not_done_twice(fault: str) -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.send(node.batch(clock=10))
    setattr(rig.store, fault, True)
    await rig.clock.advance(0.2)
    assert len(rig.store.blocks) == 1
    assert not rig.worker.health()["ok"]
    await rig.send(node.batch(2, clock=11))  # comes before the second try
    await rig.clock.advance(10)
    await rig.clock.advance(10)
    assert rig.store.packets == 2
    assert [(name.revision, end) for name, (end, _) in rig.store.blocks.items()] == [(0, 2), (1, 3)]
    assert rig.store.rollup.keys() == rig.store.blocks.keys()
    await rig.worker.stop()


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


@pytest.mark.parametrize("still_there", [False, True])
async def test_rows_that_are_too_old_for_the_table_are_told_and_let_go(still_there: bool) -> None:
    rig, node = Rig(), Source()
    rig.store.kept_from, rig.store.shows_expired = START + 10, still_there
    await rig.send(node.batch(1, clock=10), node.batch(clock=11))
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert (rig.metric("expired_rows_total"), rig.metric("rows_stored_total")) == (1, 0)
    assert rig.acked == [(0, 0)]
    await rig.worker.stop()


async def test_rows_that_the_table_takes_and_does_not_show_are_tried_again() -> None:
    rig, node = Rig(), Source()
    shown = rig.store.revisions
    rig.store.revisions = lambda *_: []  # type: ignore[method-assign]
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(0.2)
    assert "does not show them" in rig.worker.health()["clickhouse"]
    rig.store.revisions = shown  # type: ignore[method-assign]
    await rig.clock.advance(1)
    assert (rig.store.packets, len(rig.store.blocks)) == (1, 1)
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_the_ledger_is_written_once_for_each_epoch() -> None:
    rig, node, again = Rig(), Source(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(1)
    ((key, row),) = rig.store.ledger.items()
    assert (key, sum(row.consumed_packets)) == (("n1", 7, 1, "eth0", 0, True), 1)
    assert (
        rig.metric("ledger_rows_total"),
        rig.metric("ledger_packets_total", figure="consumed"),
        rig.metric("ledger_packets_total", figure="missing"),
    ) == (1, 1, 0)
    await rig.worker.stop()
    second = Rig(store=rig.store)
    await second.send(again.batch(1, clock=2))
    await second.clock.advance(1)
    assert (second.store.calls.count("insert_ledger"), second.metric("ledger_rows_total")) == (1, 0)
    await second.worker.stop()


async def test_epochs_whose_counters_never_came_are_in_the_ledger_when_the_ring_is_given_up() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2, closes=False))
    other = Source(ring_id=8)
    for second in range(RING_MESSAGES):
        await rig.send(other.batch(clock=3 + second))
    assert rig.store.ledger == {}  # two may have one name: it may still go on
    await rig.clock.advance(RING_SECONDS + 1)
    await rig.clock.advance(1)
    assert [row.closed for row in rig.store.ledger.values()] == [False]
    assert rig.metric("ledger_packets_total", figure="unclosed") == 1
    await rig.worker.stop()


async def test_a_window_that_is_compacted_leaves_out_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "COMPACT_ROWS", 2)
    first = Rig()
    await first.send(Source().batch(1, 2, 3, clock=10))
    await first.clock.advance(0.2)
    await first.worker.stop()
    rig, node = Rig(store=first.store), Source()
    await rig.send(node.batch(1, 2, 3, clock=4), node.batch(4, 5, 6, clock=7))
    await rig.clock.advance(0.2)
    assert rig.store.packets == 3  # it is open, and was only looked at
    assert [revision for revision, _ in rig.publisher.sent] == [0]
    await rig.send(node.batch(clock=10))
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert rig.store.packets == 6
    await rig.worker.stop()


async def test_when_memory_runs_out_a_window_is_written_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY_BYTES", 1)
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(0.2)
    assert rig.store.packets == 1
    await rig.send(node.batch(2, clock=10))
    await rig.clock.advance(0.2)
    await rig.clock.advance(1)
    assert rig.store.packets == 2
    assert [name.revision for name in rig.store.blocks] == [0, 1]
    await rig.worker.stop()


async def test_the_windows_after_the_one_at_which_a_partition_goes_are_left_to_the_next_worker() -> None:
    rig, node = Rig(), Source()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(1)  # its epoch is stored
    await rig.send(node.batch(11, clock=12), node.batch(clock=20))
    rig.threads.hold(CLICKHOUSE)
    await rig.clock.advance(0.2)
    releasing = asyncio.create_task(rig.worker.release_all())
    await settle()
    await rig.threads.let_go(CLICKHOUSE)
    await releasing
    assert (rig.store.packets, rig.acked) == (1, [(0, 0)])
    await rig.worker.stop()


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


async def refused(rig: Rig, node: Source) -> None:
    """The first of three windows is refused; the others are stored."""
    rig.store.refuses = {START}
    await rig.send(node.batch(1, 1, clock=10), node.batch(11, clock=20), node.batch(21, clock=30), node.batch(clock=31))
    await rig.clock.advance(1)
    await rig.clock.advance(1)


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
