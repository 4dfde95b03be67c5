"""Work that is tried again until it succeeds: ClickHouse or Kafka may be away, and nothing is dropped for that."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from common import logs
from common.errors import ServiceUnavailable
from streams.worker.clock import Clock
from streams.worker.troubles import Place, Troubles

log = logs.get("streams")
T = TypeVar("T")

CLICKHOUSE, REGISTRY = "ClickHouse", "the schema registry"
KAFKA, OFFSETS, BROKER = "Kafka", "the offsets in Kafka", "a broker of Kafka"
PACKETS, LIVE = "the packets topic", "live statistics"
FLOWS, ASIDE, LEDGER = "the flows topic", "windows that were set aside", "the tables ledger and losses"
KEPT = "the table packets"
LARGE = "large messages"  # no service of others: where they are decoded
SERVICES = (CLICKHOUSE, KAFKA, OFFSETS, BROKER, REGISTRY, PACKETS, LIVE, FLOWS, ASIDE, LEDGER, KEPT)
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
SILENT_SECONDS = 10.0  # without an answer, from which on that is a trouble: the time-outs of clients are far longer
_WITH_THREADS = (CLICKHOUSE, KAFKA, OFFSETS, REGISTRY, FLOWS, KEPT, LARGE)

Executors = Callable[[str], Executor]
"""Makes the executor of a service."""


class Released(Exception):
    """The partition went, or the component stops, before the work succeeded. Somebody reads its messages again."""


def thread(service: str) -> Executor:
    """A thread for the blocking work of one service."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=service)


class Retrying:
    """Runs blocking work and remembers what is wrong with whom. Each service has a thread: none waits for another."""

    def __init__(self, clock: Clock, on_retry: Callable[[], None], executors: Executors = thread) -> None:
        self._clock, self._on_retry = clock, on_retry
        self._executors = {service: executors(service) for service in _WITH_THREADS}
        self.troubles = Troubles(log, clock)

    async def insist(self, service: str, place: Place, closing: asyncio.Event, work: Callable[[], T]) -> T:
        """Do it again and again while it raises ServiceUnavailable. Raises Released when `closing` is set.

        `place`: where the work is done; what is wrong there, also that there is no answer, is in `troubles` until it
        succeeds or is given up.
        """
        delay = FIRST_DELAY
        try:
            while True:
                try:
                    return await self._patiently(service, place, closing, work)
                except ServiceUnavailable as error:
                    self._on_retry()
                    self.troubles.report(service, str(error), place)
                await self._clock.wait(closing, delay)
                if closing.is_set():
                    raise Released
                delay = min(delay * 2, LONGEST_DELAY)
        finally:
            self.troubles.report(service, None, place)

    async def _patiently(self, service: str, place: Place, closing: asyncio.Event, work: Callable[[], T]) -> T:
        silence = asyncio.create_task(self._tell_silence(service, place, closing))
        try:
            return await self.once(service, work)
        finally:
            silence.cancel()

    async def _tell_silence(self, service: str, place: Place, closing: asyncio.Event) -> None:
        await self._clock.wait(closing, SILENT_SECONDS)
        if not closing.is_set():
            self.troubles.report(service, f"no answer for {SILENT_SECONDS:g} seconds", place)

    async def once(self, service: str, work: Callable[[], T]) -> T:
        """Try it once, in the service's thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executors[service], work)

    def close(self) -> None:
        """Nothing more is asked; what runs is not waited for."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
