import asyncio

import pytest

from streams.partition import open_windows as limits
from streams.partition.rings import RING_MESSAGES, RING_SECONDS
from streams.testing import settle
from streams.windowing import windows
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
