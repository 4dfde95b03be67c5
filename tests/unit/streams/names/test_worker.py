"""The worker of names between fakes: what is stored, acknowledged, set aside and told, whatever is away."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from schemas.avro.codec import Codec
from schemas.names import NameBatch
from streams import metrics
from streams.kafka.testing import MemoryMember, MemoryOffsets, MemoryPublisher
from streams.names.accounts import REPEATED_SECONDS
from streams.names.partition import INSERT_SECONDS
from streams.names.testing import MemoryBehind, MemoryNames
from streams.names.worker import NameWorker
from streams.testing import HandThreads, ManualClock, settle
from streams.worker.output.refusals import BRING_IN_SECONDS
from tests.unit.streams.names.node import START, Node, batch

CODEC = Codec()


@dataclass
class Message:
    """What Faust would hand over."""

    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = b"n1"
    timestamp: float = START


@dataclass
class Rig:
    """A worker, and what it has around it."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    store: MemoryNames = field(default_factory=MemoryNames)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    offsets: MemoryOffsets = field(default_factory=MemoryOffsets)
    member: MemoryMember = field(default_factory=MemoryMember)
    behind: MemoryBehind = field(default_factory=MemoryBehind)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    end: int = 0
    seconds: int = 0  # since START, when Kafka takes messages

    def __post_init__(self) -> None:
        self.offsets.committed[0] = 0
        self.worker = NameWorker(
            topic="t.names", window_seconds=10, codec=CODEC, store=self.store, publisher=self.publisher,
            offsets=self.offsets, behind=self.behind, metrics=metrics.create(self.registry), member=self.member,
            clock=self.clock, executors=HandThreads(),
        )  # fmt: skip

    async def send(self, *messages: NameBatch | bytes | None) -> None:
        for each in messages:
            value = CODEC.encode_name_batch(each) if isinstance(each, NameBatch) else each
            self.offsets.held.add((0, self.end))
            self.worker.take(Message(0, self.end, value, timestamp=START + self.seconds))
            self.end += 1
        await settle()

    async def later(self, seconds: float = INSERT_SECONDS) -> None:
        for _ in range(round(seconds) + 1):
            await self.clock.advance(1)

    @property
    def stored(self) -> list[str]:
        return sorted(name for table in self.store.rows.values() for name in table.column("name").to_pylist())


async def test_how_many_messages_wait_is_told_and_what_is_not_known_is_not_guessed() -> None:
    rig, node = Rig(), Node()
    await rig.worker.start()
    rig.behind.ends = {0: 5, 1: 3}
    node.ask()
    await rig.send(node.send())
    await rig.later(11)
    assert rig.worker.health()["lag_messages"] == 4 + 3
    assert rig.registry.get_sample_value("ayaflow_streams_names_lag_messages") == 7
    rig.behind.away = True
    await rig.later(11)
    assert rig.worker.troubled
    assert rig.worker.health()["lag_messages"] == 7, "for a minute"
    await rig.later(60)
    assert rig.worker.health()["lag_messages"] is None
    rig.behind.away = False
    await rig.later(11)
    assert (rig.worker.health()["lag_messages"], rig.worker.troubled) == (7, False)
    await rig.worker.stop()


async def test_names_are_stored_and_then_acknowledged() -> None:
    rig, node = Rig(), Node()
    node.ask()
    first = node.send()
    node.ask()
    await rig.send(first, node.send())
    assert (rig.stored, rig.member.acknowledged) == ([], {})
    await rig.later()
    assert rig.stored == ["host1.example", "host2.example"]
    assert rig.member.acknowledged == {}, "the last messages of a ring are read again by a successor"
    node.ask()
    rig.seconds += REPEATED_SECONDS + 1
    await rig.send(node.send())
    await rig.later()
    assert rig.member.acknowledged == {0: 2}, "but not those that came long before the last"
    assert rig.registry.get_sample_value("ayaflow_streams_names_total") == 3
    assert rig.registry.get_sample_value("ayaflow_streams_name_rows_stored_total") == 3
    await rig.worker.stop()


async def test_a_message_that_is_none_is_set_aside_and_those_behind_it_are_stored() -> None:
    rig, node = Rig(), Node()
    node.ask()
    await rig.send(b"hello", None, CODEC.encode_live_stats({"node": "n"}), node.send())
    await rig.later()
    assert rig.stored == ["host1.example"]
    assert [(letter.offset, letter.topic) for letter in rig.publisher.dead_letters] == [
        (n, "t.names") for n in range(3)
    ]
    await rig.worker.stop()


@pytest.mark.parametrize(
    "members",
    [
        {"copies": 2**62},
        {"open_copies": 2**62},
        {"unused_copies": 2**62},
        {"copies": 5, "epoch": np.arange(3), "epoch_copies": np.array([2**63 - 1, 2**63 - 1, 7])},  # 64 bits further
    ],
)
async def test_copies_that_no_ring_holds_are_set_aside(members: dict[str, Any]) -> None:
    """Those of two messages would not fit into the ledger."""
    rig, node = Rig(), Node()
    node.ask()
    await rig.send(*(batch([], node="liar", sequence=number, **members) for number in range(3)), node.send())
    await rig.later()
    assert len(rig.publisher.dead_letters) == 3
    assert (rig.stored, rig.worker.failure.done()) == (["host1.example"], False)
    await rig.worker.stop()


async def test_what_is_away_is_waited_for_and_told() -> None:
    rig, node = Rig(), Node()
    node.ask()
    await rig.send(node.send())
    rig.store.away = True
    await rig.later(10)
    assert rig.stored == []
    assert rig.worker.troubled
    assert "ClickHouse is away" in str(rig.worker.health())
    rig.store.away = False
    await rig.later(20)
    assert (rig.stored, rig.worker.troubled) == (["host1.example"], False)
    await rig.worker.stop()


async def test_who_comes_next_stores_what_was_decided_and_not_written() -> None:
    rig, node = Rig(), Node()
    node.ask()
    message = node.send()
    await rig.send(message)
    rig.store.lose_answer = True  # of the ledger
    await rig.later()
    assert rig.store.ledger
    heir = Rig(store=rig.store, offsets=rig.offsets)
    await rig.worker.stop()
    rows = dict(rig.store.rows)
    rig.store.rows.clear()
    await heir.send(message)
    await heir.later()
    assert rig.store.rows.keys() == rows.keys()
    assert heir.stored == ["host1.example"]
    await heir.worker.stop()


async def test_a_partition_that_goes_and_comes_back_is_read_again_and_stored_once() -> None:
    rig, node = Rig(), Node()
    node.ask()
    message = node.send()
    await rig.send(message)
    await rig.later()
    await rig.worker.release_all()
    rig.end = 0
    await rig.send(message)
    await rig.later()
    assert rig.stored == ["host1.example"]
    assert rig.worker.health()["partitions"] == 1
    await rig.worker.stop()


async def test_names_that_are_refused_are_set_aside_and_brought_in_by_whoever_has_the_partition() -> None:
    rig, node = Rig(), Node()
    rig.store.refuses = "host1.example"
    for _ in range(2):
        node.ask()
        await rig.send(node.send())
        await rig.later()
    assert rig.stored == ["host2.example"]
    assert "ClickHouse refuses them: no row may have host1.example" in str(rig.worker.health())
    assert rig.registry.get_sample_value("ayaflow_streams_refused_name_rows_total") == 1
    await rig.later(BRING_IN_SECONDS)
    assert rig.worker.troubled, "it is tried again, and refused again"
    heir = Rig(store=rig.store, offsets=rig.offsets)
    await rig.worker.stop()
    assert rig.worker.health()["troubles"] == []
    heir.end = 2
    heir.offsets.committed[0] = 2
    node.ask()
    await heir.send(node.send())
    await heir.later()
    assert heir.stored == ["host2.example", "host3.example"]
    rig.store.refuses = None
    await heir.later(BRING_IN_SECONDS)
    assert heir.stored == ["host1.example", "host2.example", "host3.example"]
    assert not rig.store.set_aside_rows
    assert not heir.worker.troubled
    await heir.worker.stop()


async def test_messages_that_kafka_removed_are_told_before_anything_behind_them_is_acknowledged() -> None:
    rig, node = Rig(), Node()
    node.ask()
    message = node.send()
    rig.offsets.oldest[0] = rig.end = 5
    await rig.send(message)
    await rig.later()
    assert [(loss.kind, loss.start, loss.end) for loss in rig.store.losses] == [("names", 0, 5)]
    assert rig.stored == ["host1.example"]
    await rig.worker.stop()


@pytest.mark.parametrize("committed", [-1, 7])
async def test_messages_that_a_group_that_was_moved_or_forgotten_skips_are_told(committed: int) -> None:
    rig, node = Rig(), Node()
    node.ask()
    await rig.send(node.send())
    await rig.later()
    await rig.worker.stop()
    heir = Rig(store=rig.store, offsets=rig.offsets)
    heir.offsets.committed[0], heir.offsets.ours, heir.end = committed, committed < 0, 7
    heir.offsets.oldest[0] = 7 if committed < 0 else 0
    node.ask()
    node.send()
    node.ask()
    await heir.send(node.send())
    await heir.later()
    assert ("names", 1, 7, 6) in {(loss.kind, loss.start, loss.end, loss.lost) for loss in heir.store.losses}
    await heir.worker.stop()


async def test_what_is_set_aside_of_a_partition_of_which_nothing_comes_is_brought_in() -> None:
    rig, node = Rig(), Node()
    rig.store.refuses = "host1.example"
    node.ask()
    await rig.send(node.send())
    await rig.later()
    assert rig.store.set_aside_rows
    await rig.worker.stop()
    rig.store.refuses = None
    heir = Rig(store=rig.store, offsets=rig.offsets)
    await heir.worker.start()
    await heir.later(BRING_IN_SECONDS)
    assert (heir.stored, heir.store.set_aside_rows) == (["host1.example"], {})
    heir.member.ours = set()
    await heir.later(20)
    assert not [task for task in asyncio.all_tasks() if "not open" in task.get_name()]
    await heir.worker.stop()


async def test_a_bug_of_ours_sets_a_message_aside_and_nothing_stands_still(monkeypatch: Any) -> None:
    rig, node = Rig(), Node()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    await rig.send(node.send())
    with monkeypatch.context() as patch:
        patch.setattr("streams.names.partition.NamePartition.take", broken)
        await rig.send(node.send())
    node.ask()
    await rig.send(node.send())
    await rig.later()
    assert ["ZeroDivisionError" in letter.error for letter in rig.publisher.dead_letters] == [True]
    assert rig.stored == ["host1.example"]
    await rig.worker.stop()
