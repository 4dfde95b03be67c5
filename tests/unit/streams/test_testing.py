"""The fakes do what the real parts do."""

import asyncio
from collections.abc import Callable

import pytest

from common.errors import ServiceUnavailable
from streams.partition.storing import KafkaPartition
from streams.testing import HandThreads, ManualClock, MemoryStore
from streams.worker.neighbours import FlowStore
from tests.unit.streams.store_contract import CONTRACT, START, WINDOW, flows

HERE = KafkaPartition(77, 3)


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_the_store_in_memory_keeps_the_contract(promise: Callable[[FlowStore, KafkaPartition], None]) -> None:
    store = MemoryStore()
    store.kept_from = 86_400
    promise(store, HERE)


def test_a_store_that_is_away_does_nothing() -> None:
    store = MemoryStore()
    store.away = True
    with pytest.raises(ServiceUnavailable):
        store.insert(flows(1), HERE, 0, 40)
    assert store.blocks == {}


def test_a_store_that_dies_leaves_the_rollup_behind_until_the_insert_is_done_again() -> None:
    store = MemoryStore()
    store.die = True
    with pytest.raises(ServiceUnavailable):
        store.insert(flows(1), HERE, 0, 40)
    assert (len(store.blocks), len(store.rollup)) == (1, 0)
    store.insert(store.rows(HERE, WINDOW, 0), HERE, 0, 40)
    assert (len(store.blocks), len(store.rollup)) == (1, 1)


async def test_a_clock_stands_still_until_it_is_moved() -> None:
    clock, event = ManualClock(START), asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, 2))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()
    assert clock.time() == pytest.approx(START + 2.1)
    event.set()
    await clock.wait(event, 2)


async def test_a_service_that_is_held_does_its_work_later() -> None:
    threads, done = HandThreads(), list[int]()
    loop = asyncio.get_running_loop()
    threads.hold("slow")
    future = loop.run_in_executor(threads("slow"), done.append, 1)
    await loop.run_in_executor(threads("quick"), done.append, 2)
    assert done == [2]
    await threads.let_go("slow")
    await future
    assert done == [2, 1]
