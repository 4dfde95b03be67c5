"""The live statistics of all nodes, once a second to Kafka. A thread of its own adds them up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from common.errors import ServiceUnavailable
from streams.live.feed import LiveFeed
from streams.worker.neighbours import Publisher


class LiveStatistics:
    """What messages brought since the last time."""

    def __init__(self, top: int, publisher: Publisher, executor: Executor) -> None:
        self.feed = LiveFeed(top)
        self._publisher, self._executor = publisher, executor

    async def send(self, lags: dict[int, int], now: float) -> str | None:
        """Send them; `lags` and `now` as LiveFeed.due has them. Returns what is wrong with Kafka or the registry.

        Raises what a summary failed of, when the others are sent.
        """
        summaries = self.feed.due(lags, now)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._send, summaries)

    def _send(self, summaries: list[Callable[[], dict[str, Any]]]) -> str | None:
        failure: Exception | None = None
        for summary in summaries:
            try:
                self._publisher.live(summary())
            except ServiceUnavailable as error:  # the schema registry; the next second has newer figures
                return str(error)
            except Exception as error:  # noqa: BLE001  one node's; those of the others are sent all the same
                failure = error
        if failure:
            raise failure
        return self._publisher.check()

    def close(self) -> None:
        """Nothing more is sent; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
