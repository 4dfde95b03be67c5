"""Background work that is not to die unseen: a failure is told, health says so, and the work begins again.

    background = Background(logs.get("console"))
    task = asyncio.create_task(background.keep("the live view's clock", run))
    background.problem  # a sentence while it fails

Of work in a thread of its own, whoever runs it calls `failed`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from common.logs import Limit, Log

AGAIN_SECONDS = 1.0
FAILED_SECONDS = 10.0
"""Work that has not failed for so long is well: whatever fails at once is started again more often."""


class Background:
    """The background work of a component. Any thread may call it."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._log, self._clock = log, clock
        self._limit = Limit(clock)
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[float, str]] = {}  # work -> when it failed last, and of what

    async def keep(
        self, work: str, run: Callable[[], Awaitable[None]], wait: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Run it until it returns; `wait` a moment after each failure. `work` is what it is called."""
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001  told, whatever it is
                self.failed(work, error)
            else:
                return
            await wait(AGAIN_SECONDS)

    def failed(self, work: str, error: BaseException) -> None:
        """It failed, and begins again."""
        with self._lock:
            self._failed[work] = self._clock(), f"{type(error).__name__}: {error}"[:200]
        if times := self._limit.due((work, type(error))):
            self._log.error("background work failed, and begins again", work=work, times=times, cause=error)

    @property
    def problem(self) -> str:
        """What fails, a sentence; empty: nothing."""
        now = self._clock()
        with self._lock:
            failing = [(work, why) for work, (when, why) in self._failed.items() if now - when < FAILED_SECONDS]
        return "; ".join(f"{work} fails again and again ({why}): see the log, and report it" for work, why in failing)
