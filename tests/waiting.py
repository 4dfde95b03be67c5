"""Waiting for something to be so, and never for a time: nothing is expected to take as long as the bound, which only
ends what hangs."""

import time
from collections.abc import Callable
from typing import TypeVar

HANG_SECONDS = 120.0

T = TypeVar("T")


def until(ask: Callable[[], T], why: Callable[[], object] = str, *, seconds: float = HANG_SECONDS) -> T:
    """Ask again and again until the answer is true -> the answer. Fails with what `why` says."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {why()}"
        time.sleep(0.05)
    return answer
