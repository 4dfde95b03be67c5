import pytest

from common.backlog import PartitionBacklog
from common.errors import ServiceUnavailable
from streams.worker.retrying import CLICKHOUSE, PACKETS
from streams.worker.standstill import MOST_LOOKS, TOLD_LOOKS, Stand, Standstill
from streams.worker.watching import LOOK_SECONDS
from tests.unit.streams.worker.rig import Rig, Source


def seen(*, first: int, end: int, committed: int = -1, read: bool = True) -> PartitionBacklog:
    return PartitionBacklog(
        partition=3,
        begin=0,
        committed=committed,
        first=first,
        end=end,
        oldest_unix_s=1.0 if first < end else None,
        read=read,
    )


def after(looks: int, each: PartitionBacklog, stand: Stand | None) -> Standstill:
    """What is known after so many looks that all saw the same, and the one that saw it first."""
    standstill = Standstill()
    for _ in range(looks + 1):
        standstill.look([each], {3: stand} if stand else {})
    return standstill


@pytest.mark.parametrize(
    ("each", "stand", "what"),
    [
        (
            seen(first=40, end=50),
            Stand(40, -1, waiting=False),
            "Kafka has messages from 40 on, and they are not fetched",
        ),
        (seen(first=40, end=50), None, "Kafka has messages from 40 on, and they are not fetched"),
        (seen(first=0, end=1, read=False), None, "Kafka has messages from 0 on, and nobody reads them"),
        (seen(first=50, end=50, committed=7), Stand(50, 50, waiting=False), "what is stored is not committed beyond 7"),
        (seen(first=40, end=50, committed=7), Stand(50, 40, waiting=True), "what is stored is not committed beyond 7"),
    ],
)
def test_what_the_client_does_not_do_is_told_and_then_given_up(
    each: PartitionBacklog, stand: Stand | None, what: str
) -> None:
    assert after(TOLD_LOOKS - 1, each, stand).told(3) is None
    assert after(TOLD_LOOKS, each, stand).told(3) == what
    assert after(MOST_LOOKS - 1, each, stand).hopeless is None
    assert after(MOST_LOOKS, each, stand).hopeless == f"partition 3: {what}"


@pytest.mark.parametrize(
    ("each", "stand"),
    [
        (seen(first=50, end=50, committed=49), Stand(50, 49, waiting=False)),  # the last message knows the ring
        (seen(first=50, end=50), None),
        (seen(first=0, end=50), Stand(0, -1, waiting=True)),  # we wait for the registry, or for memory
        (seen(first=40, end=50), Stand(50, -1, waiting=False)),  # ClickHouse does not take what came
        (seen(first=40, end=50, committed=-1), Stand(50, -1, waiting=False)),
    ],
)
def test_where_the_client_has_nothing_to_do_or_we_do_not_get_on_it_is_not_blamed(
    each: PartitionBacklog, stand: Stand | None
) -> None:
    standstill = after(10 * MOST_LOOKS, each, stand)
    assert (standstill.told(3), standstill.hopeless) == (None, None)


def test_who_gets_on_slowly_and_who_gets_no_answer_from_kafka_is_waited_for() -> None:
    standstill, stand = Standstill(), Stand(40, -1, waiting=False)
    for first in range(40, 400):
        for _ in range(TOLD_LOOKS):
            standstill.look([seen(first=first, end=500)], {3: Stand(first, -1, waiting=False)})
        assert standstill.told(3) is None
    for _ in range(5):
        for _ in range(MOST_LOOKS):
            standstill.look([seen(first=40, end=50)], {3: stand})
        assert standstill.hopeless is None
        standstill.forget()


async def test_a_partition_that_is_ours_and_not_fetched_is_named_in_seconds_and_ends_the_component() -> None:
    rig, node = Rig(settings={"node_timeout_seconds": 10}), Source()
    rig.broker.read, rig.member.ours = {0, 1}, {0, 1}
    rig.end[1] = 4
    await rig.worker.start()
    for look in range(MOST_LOOKS - 1):
        await rig.send(node.batch(look, clock=look + 1))  # the other one goes on
        await rig.clock.advance(LOOK_SECONDS)
        assert rig.worker.health()["ok"] is (look + 1 < TOLD_LOOKS)
    [trouble] = rig.worker.health()["troubles"]
    assert (trouble["service"], trouble["partition"]) == (PACKETS, 1)
    assert trouble["error"] == "Kafka has messages from 0 on, and they are not fetched"
    assert not rig.worker.failure.done()
    await rig.clock.advance(LOOK_SECONDS)
    with pytest.raises(ServiceUnavailable, match="partition 1: Kafka has messages from 0 on, and they are not fetched"):
        rig.worker.failure.result()
    await rig.worker.stop()


async def test_offsets_that_are_not_committed_end_the_component_and_it_begins_again() -> None:
    rig, node = Rig(), Source()
    rig.broker.read = {0}
    rig.member.broker = None  # Faust's commit never comes back
    await rig.worker.start()
    await rig.send(node.batch(1, clock=2), node.batch(11, clock=30), node.batch(clock=30))
    for _ in range(MOST_LOOKS + 1):
        await rig.clock.advance(LOOK_SECONDS)
    assert rig.member.acknowledged == {0: 2}
    assert [trouble["error"] for trouble in rig.worker.health()["troubles"]] == [
        "what is stored is not committed beyond -1"
    ]
    await rig.clock.advance(LOOK_SECONDS)
    assert isinstance(rig.worker.failure.exception(), ServiceUnavailable)
    await rig.worker.stop()


async def test_while_clickhouse_is_away_kafkas_client_is_not_blamed() -> None:
    rig, node = Rig(), Source()
    rig.broker.read = {0}
    rig.threads.hold(CLICKHOUSE)
    await rig.worker.start()
    await rig.send(node.batch(1, clock=2), node.batch(2, clock=30))
    for _ in range(2 * MOST_LOOKS):
        await rig.clock.advance(LOOK_SECONDS)
    assert not rig.worker.failure.done()
    assert all(trouble["error"] != "they are not fetched" for trouble in rig.worker.health()["troubles"])
    await rig.threads.let_go(CLICKHOUSE)
    await rig.worker.stop()
