"""What the worker says of itself: live statistics, and its health."""

from typing import Any

import pytest

from streams.live.feed import LiveFeed
from streams.live.view import LiveNode, Second
from streams.worker.retrying import LIVE
from tests.unit.streams.worker.rig import Rig, Source


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
