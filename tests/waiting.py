"""Waiting for something to be so, and never for a time: nothing is expected to take as long as the bound, which only
ends what hangs."""

import time
from collections.abc import Callable
from typing import TypeVar

HANG_SECONDS = 120.0

T = TypeVar("T")


def until(ask: Callable[[], T], why: Callable[[], object] = str, *, seconds: float = HANG_SECONDS) -> T:
    """Ask again and again until the answer is true -> the answer. Fails with what `why` says.

    Not more than half of the time, and seldom after the first second: to ask takes CPU from what is waited for.
    """
    begin = time.monotonic()
    while True:
        asked = time.monotonic()
        if answer := ask():
            return answer
        now = time.monotonic()
        assert now < begin + seconds, f"not within {seconds:g} s: {why()}"
        time.sleep(max(0.05 if now < begin + 1 else 0.2, min(now - asked, 1.0)))
