import asyncio
import time

from streams.worker.clock import SystemClock


async def test_waiting_ends_when_the_event_is_set_or_the_time_is_over() -> None:
    clock, event = SystemClock(), asyncio.Event()
    await clock.wait(event, 0.001)
    waiting = asyncio.create_task(clock.wait(event, 3600))
    event.set()
    await waiting


def test_the_time_is_the_machines() -> None:
    clock = SystemClock()
    before, begun = time.time(), clock.monotonic()
    assert clock.time() >= before
    assert clock.monotonic() >= begun
