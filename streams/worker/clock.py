"""Time, as the worker uses it; in tests it stands still until it is moved (streams.testing)."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def time(self) -> float:
        """Seconds since the Unix epoch; may be set back."""

    def monotonic(self) -> float:
        """Seconds since any moment; only goes up."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, but no longer than so many seconds."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since any moment."""
        return time.perf_counter()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, but no longer than so many seconds."""
        await pause(event, seconds)


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, but not when the event is set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
