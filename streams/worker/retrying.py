"""Work that is tried again until it succeeds: ClickHouse or Kafka may be away, and nothing is dropped for that."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from common import logs
from common.errors import ServiceUnavailable
from common.outages import Outages

log = logs.get("streams")
T = TypeVar("T")

CLICKHOUSE, KAFKA, BROKER, REGISTRY = "ClickHouse", "Kafka", "a broker of Kafka", "the schema registry"
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 10.0


class Released(Exception):
    """The partition went, or the component stops, before the work succeeded. Somebody reads its messages again."""


class Retrying:
    """Runs blocking work in a thread and remembers what is wrong with whom."""

    def __init__(self, executor: Executor, clock: Callable[[], float], on_retry: Callable[[], None]) -> None:
        self._executor, self._on_retry = executor, on_retry
        self.troubles: dict[str, str] = {}  # service -> what was wrong with the last try
        self._outages = Outages(log, clock)

    async def insist(self, service: str, closing: asyncio.Event, work: Callable[[], T]) -> T:
        """Do it again and again while it raises ServiceUnavailable. Raises Released when `closing` is set."""
        delay = _FIRST_DELAY
        while True:
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._executor, work)
            except ServiceUnavailable as error:
                self._on_retry()
                self.report(service, str(error))
            else:
                self.report(service, None)
                return result
            await pause(closing, delay)
            if closing.is_set():
                raise Released
            delay = min(delay * 2, _LONGEST_DELAY)

    def report(self, service: str, trouble: str | None) -> None:
        """Note what is wrong with a service, or that nothing is."""
        if trouble:
            self.troubles[service] = trouble
            self._outages.away(service, "trying again until it works", error=trouble)
        else:
            self.troubles.pop(service, None)
            self._outages.back(service)


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, but not when the event is set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
