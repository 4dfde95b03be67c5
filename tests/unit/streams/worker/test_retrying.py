import asyncio
import threading

import pytest

from common.errors import ServiceUnavailable
from streams.testing import HandThreads, ManualClock, settle
from streams.worker.retrying import CLICKHOUSE, KAFKA, SILENT_SECONDS, Released, Retrying, thread
from streams.worker.troubles import ANYWHERE, Place


class Service:
    """Fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ServiceUnavailable("away")
        return "done"


def never() -> asyncio.Event:
    return asyncio.Event()


async def test_work_is_done_again_at_growing_intervals_until_it_succeeds() -> None:
    clock, tries, service = ManualClock(0), list[int](), Service(failures=9)
    retrying = Retrying(clock, lambda: tries.append(1), HandThreads())
    done = asyncio.ensure_future(retrying.insist(CLICKHOUSE, ANYWHERE, never(), service))
    await settle()
    assert service.calls == 1
    assert retrying.troubles.of(CLICKHOUSE) == "away"
    for number, delay in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10], 2):
        await clock.advance(delay - 0.01)
        assert service.calls == number - 1
        await clock.advance(0.02)
        assert service.calls == number
    assert await done == "done"
    assert len(tries) == 9
    assert not retrying.troubles


async def test_a_partition_that_goes_ends_the_tries_and_takes_its_trouble_along() -> None:
    closing = asyncio.Event()
    closing.set()
    retrying = Retrying(ManualClock(0), lambda: None, HandThreads())
    with pytest.raises(Released):
        await retrying.insist(CLICKHOUSE, ANYWHERE, closing, Service(failures=1))
    assert not retrying.troubles


async def test_what_succeeds_although_the_partition_goes_is_not_thrown_away() -> None:
    closing = asyncio.Event()
    closing.set()
    retrying = Retrying(ManualClock(0), lambda: None, HandThreads())
    assert await retrying.insist(CLICKHOUSE, ANYWHERE, closing, Service(failures=0)) == "done"


async def test_a_bug_is_not_tried_again() -> None:
    with pytest.raises(ZeroDivisionError):
        await Retrying(ManualClock(0), lambda: None, HandThreads()).insist(CLICKHOUSE, ANYWHERE, never(), lambda: 1 / 0)


async def test_one_service_does_not_wait_for_another() -> None:
    threads = HandThreads()
    retrying = Retrying(ManualClock(0), lambda: None, threads)
    threads.hold(KAFKA)
    slow = asyncio.ensure_future(retrying.insist(KAFKA, ANYWHERE, never(), Service(failures=0)))
    assert await retrying.insist(CLICKHOUSE, ANYWHERE, never(), Service(failures=0)) == "done"
    assert not slow.done()
    await threads.let_go(KAFKA)
    assert await slow == "done"


async def test_a_service_that_does_not_answer_is_a_trouble_long_before_its_time_out() -> None:
    clock, threads = ManualClock(0), HandThreads()
    retrying = Retrying(clock, lambda: None, threads)
    threads.hold(CLICKHOUSE)
    slow = asyncio.ensure_future(retrying.insist(CLICKHOUSE, Place(3), never(), Service(failures=0)))
    await clock.advance(SILENT_SECONDS - 0.1)
    assert not retrying.troubles
    await clock.advance(0.2)
    assert retrying.troubles.of(CLICKHOUSE) == "no answer for 10 seconds"
    await threads.let_go(CLICKHOUSE)
    assert await slow == "done"
    assert not retrying.troubles


async def test_a_partition_that_goes_while_nobody_answers_is_no_trouble() -> None:
    clock, threads, closing = ManualClock(0), HandThreads(), asyncio.Event()
    retrying = Retrying(clock, lambda: None, threads)
    threads.hold(CLICKHOUSE)
    slow = asyncio.ensure_future(retrying.insist(CLICKHOUSE, ANYWHERE, closing, Service(failures=0)))
    await settle()
    closing.set()
    await clock.advance(60)
    assert not retrying.troubles
    await threads.let_go(CLICKHOUSE)
    assert await slow == "done"


async def test_each_service_has_a_thread_of_its_own() -> None:
    retrying = Retrying(ManualClock(0), lambda: None, thread)
    try:
        names = {
            await retrying.insist(service, ANYWHERE, never(), lambda: threading.current_thread().name)
            for service in (CLICKHOUSE, KAFKA, CLICKHOUSE)
        }
        assert names == {"ClickHouse_0", "Kafka_0"}
    finally:
        retrying.close()
