import math
from typing import Any

from common.errors import ServiceUnavailable
from streams.partition.rings import ANCHOR_SECONDS
from streams.worker.retrying import OFFSETS, PACKETS
from tests.unit.streams.worker.rig import WINDOW, Rig, Source

LIMIT = WINDOW + 10 + 60  # a window, the time-out of a silent node, grace


def rig_of(**settings: Any) -> Rig:
    rig = Rig(settings={"node_timeout_seconds": 10, **settings})
    rig.broker.read = {0}
    return rig


async def test_what_waits_is_told_by_partition_with_its_age() -> None:
    rig, node = rig_of(), Source()
    await rig.worker.start()
    await rig.send(node.batch(1, clock=2))
    await rig.clock.advance(6)
    health = rig.worker.health()
    assert (health["ok"], health["lag_messages"], health["partitions_unread"]) == (True, 0, [])
    assert health["oldest_unstored_seconds"] == 6.0
    assert health["backlog"] == [
        {"partition": 0, "stored_until": 0, "end": 1, "messages": 1, "oldest_seconds": 6.0, "read": True}
    ]
    assert rig.metric("oldest_unstored_seconds", partition="0") == 6.0
    await rig.send(node.batch(clock=10))
    await rig.clock.advance(1)
    await rig.clock.advance(5)  # stored, though the last message that knows the ring is not acknowledged
    health = rig.worker.health()
    assert (health["oldest_unstored_seconds"], health["backlog"]) == (0.0, [])
    await rig.clock.advance(1)
    assert rig.acked == [(0, 0)]
    await rig.worker.stop()


async def test_packets_that_wait_for_longer_than_a_window_are_trouble_even_if_all_services_are_well() -> None:
    rig = rig_of()
    rig.offsets.away = False
    rig.end[0] = 5
    await rig.worker.start()
    await rig.clock.advance(LIMIT - 10)
    assert rig.worker.health()["ok"]
    await rig.clock.advance(20)
    health = rig.worker.health()
    assert not health["ok"]
    [trouble] = health["troubles"]
    assert (trouble["service"], trouble["partition"]) == (PACKETS, 0)
    assert "5 messages are not stored, the oldest for 90 s" in trouble["error"]
    rig.broker.committed[0] = 5
    await rig.clock.advance(6)
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_partition_that_nobody_reads_is_named_and_soon_trouble() -> None:
    rig = rig_of()
    rig.end[0], rig.end[7] = 0, 98
    await rig.worker.start()
    await rig.clock.advance(6)
    health = rig.worker.health()
    assert (health["lag_messages"], health["partitions_unread"]) == (98, [7])
    await rig.clock.advance(LIMIT)
    [trouble] = rig.worker.health()["troubles"]
    assert trouble["partition"] == 7
    assert "nobody reads it" in trouble["error"]
    await rig.worker.stop()


async def test_another_workers_partition_is_its_matter_for_as_long_as_it_may_not_acknowledge() -> None:
    rig = rig_of()
    rig.end[0] = 98
    rig.member.ours = set()
    await rig.worker.start()
    await rig.clock.advance(ANCHOR_SECONDS)
    health = rig.worker.health()
    assert (health["ok"], health["lag_messages"], health["backlog"]) == (True, 0, [])
    await rig.clock.advance(LIMIT + 10)
    [trouble] = rig.worker.health()["troubles"]
    assert "another worker reads it" in trouble["error"]
    await rig.worker.stop()


async def test_while_kafka_does_not_answer_nothing_is_said_to_be_known() -> None:
    rig, node = rig_of(), Source()
    await rig.worker.start()
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(5)
    assert rig.worker.health()["lag_messages"] == 0
    rig.broker.away = True
    await rig.clock.advance(5)
    for _ in range(13):
        await rig.clock.advance(5)
    health = rig.worker.health()
    assert (health["ok"], health["lag_messages"], health["oldest_unstored_seconds"]) == (False, None, None)
    assert health["kafka"] == "Kafka does not tell how far it is read"
    assert math.isnan(rig.metric("lag_messages"))
    rig.broker.away = False
    await rig.clock.advance(5)
    assert (rig.worker.health()["ok"], rig.metric("lag_messages")) == (True, 0)
    await rig.worker.stop()


async def test_a_bug_in_a_look_is_told_and_does_not_end_the_looks() -> None:
    rig = rig_of()
    look = rig.broker.look

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    rig.broker.look = broken  # type: ignore[assignment,method-assign]
    await rig.worker.start()
    await rig.clock.advance(1)
    assert rig.worker.health()["troubles"][0]["service"] == OFFSETS
    rig.broker.look = look  # type: ignore[method-assign]
    await rig.clock.advance(5)
    assert rig.worker.health()["ok"]
    await rig.worker.stop()


async def test_a_look_that_waits_holds_nothing_back() -> None:
    rig, node = rig_of(), Source()
    rig.threads.hold("broker")
    await rig.worker.start()
    await rig.send(node.batch(1, clock=10))
    await rig.clock.advance(100)
    assert rig.store.packets == 1
    await rig.worker.stop()


async def test_a_topic_that_was_made_anew_under_us_begins_anew() -> None:
    rig, node = rig_of(), Source()
    await rig.worker.start()
    await rig.send(node.batch(1, clock=2))
    rig.broker.topic_id = 2
    await rig.clock.advance(6)
    await rig.clock.advance(5)
    assert not rig.worker.failure.done()  # the group may be told of it meanwhile
    await rig.clock.advance(5)
    assert isinstance(rig.worker.failure.exception(), ServiceUnavailable)
    await rig.worker.stop()


async def test_partitions_that_are_no_more_are_no_trouble() -> None:
    rig = rig_of()
    rig.end[7] = 98
    await rig.worker.start()
    await rig.clock.advance(LIMIT + 10)
    assert not rig.worker.health()["ok"]
    del rig.end[7]
    await rig.clock.advance(5)
    assert rig.worker.health()["ok"]
    assert rig.registry.get_sample_value("ayaflow_streams_oldest_unstored_seconds", {"partition": "7"}) is None
    await rig.worker.stop()
