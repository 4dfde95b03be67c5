"""ClickHouse for the HTTP service: a few queries at a time, each with limits; results as they come."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from common.errors import AyaflowError
from common.settings import ClickHouseSettings, ConsoleSettings
from console.store.client import Parameters, Steps, Store

T = TypeVar("T")
PATIENCE_SECONDS = 3.0
"""A query waits so long for its turn."""


class Busy(AyaflowError):
    """As many queries run as may at a time."""


class Database:
    """Opens its connection with the first query, and anew after a failure; close it."""

    def __init__(self, settings: ConsoleSettings, clickhouse: ClickHouseSettings) -> None:
        self._settings, self._clickhouse = settings, clickhouse
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._running: dict[tuple[Any, ...], asyncio.Future[dict[str, Any]]] = {}
        places = settings.heavy_queries
        self._places = asyncio.Semaphore(places)
        self._threads = ThreadPoolExecutor(places + 1, thread_name_prefix="clickhouse")

    async def close(self) -> None:
        """End; queries that run are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    async def document(self, sql: str, parameters: Parameters) -> dict[str, Any]:
        """A small result (see Store.document). The same question is asked once at a time.

        Raises QueryError, ServiceUnavailable, Busy.
        """
        key = (sql, tuple(sorted(parameters.items())))
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(
                self.run(lambda store: store.document(sql, parameters))
            )
            running.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(running)  # who goes away leaves it to the others that asked the same

    def _done(self, key: tuple[Any, ...], question: asyncio.Future[dict[str, Any]]) -> None:
        del self._running[key]
        if not question.cancelled():
            question.exception()  # was raised where it was waited for, or nobody waits any more

    async def rows(self, sql: str, parameters: Parameters) -> list[dict[str, Any]]:
        """The rows of a small result, by column."""
        found = await self.document(sql, parameters)
        names = [column["name"] for column in found["meta"]]
        return [dict(zip(names, row, strict=True)) for row in found["data"]]

    async def last(self, steps: Steps[T]) -> T:
        """What questions that follow from one another come to: each is answered by its rows."""
        try:
            sql, parameters = next(steps)
            while True:
                sql, parameters = steps.send(await self.rows(sql, parameters))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # typeshed knows no type of it

    async def run(self, work: Callable[[Store], T]) -> T:
        """Any reading, in a thread, when it is its turn."""
        async with self._turn():
            store = await self._open()
            return await self._in_thread(lambda: work(store))

    async def stream(self, sql: str, parameters: Parameters, form: str) -> AsyncIterator[bytes]:
        """The bytes of a result. ClickHouse has accepted the query when this returns; the place is kept to the end."""
        stack = contextlib.AsyncExitStack()
        try:
            await stack.enter_async_context(self._turn())
            store = await self._open()
            # what ClickHouse says instead of the first row still becomes a status
            chunks, first = await self._in_thread(lambda: _begun(store.chunks(sql, parameters, form=form)))
        except BaseException:
            await stack.aclose()
            raise

        async def pieces() -> AsyncIterator[bytes]:
            async with stack:
                try:
                    yield first
                    while (piece := await self._in_thread(lambda: next(chunks, None))) is not None:
                        yield piece
                finally:
                    # the client may have gone: the connection to ClickHouse is closed, which ends the query
                    await asyncio.shield(self._in_thread(lambda: _end(chunks, self._settings.query_seconds)))

        return pieces()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._places.acquire(), PATIENCE_SECONDS)
        except TimeoutError:
            raise Busy(
                f"{self._settings.heavy_queries} queries are running already (console.heavy_queries);"
                " try again in a few seconds"
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _open(self) -> Store:
        async with self._opening:
            if self._store is None:
                console = self._settings
                limits = {"max_execution_time": console.query_seconds, "max_rows_to_read": console.query_rows}
                seconds = console.query_seconds + 10
                self._store = await self._in_thread(
                    lambda: Store(self._clickhouse, limits=limits, timeout_seconds=seconds, piece_seconds=seconds)
                )
            return self._store

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _end(chunks: Iterator[bytes], seconds: float) -> None:
    """Close a result; a piece that another thread is reading is waited for."""
    deadline = time.monotonic() + seconds
    while isinstance(chunks, Generator):
        try:
            chunks.close()
        except ValueError:  # it is being read
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
        return


def _begun(chunks: Iterator[bytes]) -> tuple[Iterator[bytes], bytes]:
    return chunks, next(chunks, b"")
