"""Being told to end: by a signal, by its owner, while waiting, on an event loop."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.stopping import Stop, stop_on_signals

ROOT = Path(__file__).parents[3]
FOREVER = 60.0  # never waited for, when all is well


@pytest.fixture
def stop() -> Iterator[Stop]:
    with closing(Stop()) as stop:
        yield stop


@pytest.fixture
def before() -> Iterator[list[int]]:
    """Signals that came to the handlers that were there before."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield came
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_a_second_one_hurries(before: list[int], number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert (stop.is_set(), stop.hurry) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert stop.hurry
    assert before == []
    signal.raise_signal(number)
    assert before == [number]


def test_with_once_the_second_signal_does_what_it_did_before(before: list[int]) -> None:
    with stop_on_signals(once=True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert (stop.is_set(), before) == (True, [])
        signal.raise_signal(signal.SIGTERM)
        assert (stop.hurry, before) == (False, [signal.SIGTERM])
    signal.raise_signal(signal.SIGINT)
    assert before == [signal.SIGTERM, signal.SIGINT]


def test_in_another_thread_signals_are_left_alone(before: list[int]) -> None:
    found: list[bool] = []

    def run() -> None:
        with stop_on_signals() as stop:
            stop.set()
            found.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGINT)
    assert (found, before) == ([True], [signal.SIGINT])


def test_waiting_ends_when_it_is_said_and_does_not_begin_after(stop: Stop) -> None:
    began = time.monotonic()
    thread = threading.Thread(target=stop.set)
    thread.start()
    assert stop.wait(FOREVER) == frozenset()
    assert stop.wait(FOREVER) == frozenset()
    thread.join()
    assert time.monotonic() - began < FOREVER


def test_waiting_tells_which_descriptor_can_be_read(stop: Stop) -> None:
    readable, writable = os.pipe()
    try:
        assert stop.wait(0, [readable]) == frozenset()
        os.write(writable, b"x")
        assert stop.wait(FOREVER, [readable]) == {readable}
    finally:
        os.close(readable)
        os.close(writable)


def test_an_event_loop_hears_a_signal_that_comes_while_it_waits(before: list[int]) -> None:
    async def wait(stop: Stop) -> None:
        with stop.on_loop() as said:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
            await asyncio.wait_for(said.wait(), FOREVER)

    with stop_on_signals() as stop:
        asyncio.run(wait(stop))
    assert (stop.is_set(), before) == (True, [])


def test_an_event_loop_hears_what_was_said_before_and_watches_no_longer(stop: Stop) -> None:
    async def wait() -> list[int]:
        loop = asyncio.get_running_loop()
        with stop.on_loop() as said:
            await asyncio.wait_for(said.wait(), FOREVER)
            # the descriptor stays readable: a loop that still watched it would never sleep
            return [number for number in range(1024) if loop.remove_reader(number)]

    stop.set()
    assert len(asyncio.run(wait())) <= 1  # the loop's own, by which threads wake it up


HANGS = """
import ctypes, signal
from common.stopping import stop_on_signals
with stop_on_signals(within=0.2):
    signal.raise_signal(signal.SIGTERM)
    ctypes.PyDLL(None).pause()      # holds the interpreter's lock, so no Python code runs any more
"""


def test_a_process_that_hangs_after_a_signal_ends_and_shows_where() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=FOREVER, check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "File" in done.stderr


def test_it_ends_without_standard_error_too() -> None:
    command = [sys.executable, "-c", HANGS]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], cwd=ROOT, timeout=FOREVER, check=False)
    assert done.returncode == 1
