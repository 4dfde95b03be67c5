"""Stored windows on their way through the operators. Neither storing nor publishing waits for any of them.

Each operator has a thread and a queue a partition. Acknowledging waits for it, so that whoever has the partition next
shows it what it has not seen; after PATIENCE_SECONDS, or when it raises, a window is left out. What waits is held in
bounded memory; the rest is read back from the table.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from common import logs
from common.errors import ServiceUnavailable
from common.logs import Limit
from schemas.flows import FlowColumns
from streams.metrics import Metrics
from streams.operators.shown import Shown
from streams.partition.storing import KafkaPartition, Refused, WindowId
from streams.worker.clock import Clock
from streams.worker.lane import Lane, Unseen, held
from streams.worker.neighbours import FlowStore
from streams.worker.retrying import CLICKHOUSE, FIRST_DELAY, LONGEST_DELAY, Executors, Retrying

log = logs.get("streams")

SLOW_SECONDS = 30.0  # for one window, from which on that is a trouble
PATIENCE_SECONDS = 120.0
MOST_BYTES = 64 << 20  # of rows that wait, of all partitions, once for all operators
_TICK = 0.2  # seconds between two looks at what waits


class Runner(Protocol):
    """streams.operators.findings.Runner."""

    name: str

    def run(self, shown: Shown) -> int:
        """What it finds is stored and sent when this returns -> how much. Raises ServiceUnavailable, or anything."""


class _Line:
    """One operator."""

    def __init__(self, runner: Runner, thread: Executor) -> None:
        self.runner, self.thread = runner, thread
        self.service = f"the operator {runner.name}"
        self.windows = self.found = self.left_out = 0


class Operating:
    """Shows each operator what a lane has stored, in its order."""

    def __init__(
        self,
        runners: Sequence[Runner],
        store: FlowStore,
        metrics: Metrics,
        again: Retrying,
        clock: Clock,
        *,
        executors: Executors,
    ) -> None:
        self._lines = tuple(_Line(runner, executors(f"operator-{runner.name}")) for runner in runners)
        self._store, self._metrics, self._again, self._clock = store, metrics, again, clock
        self._limit = Limit(clock.monotonic)
        self._nbytes = 0
        self._seeing: set[asyncio.Future[int]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether an operator is at work; nobody can end it."""
        return bool(self._seeing)

    @property
    def services(self) -> tuple[str, ...]:
        """What troubles call them."""
        return tuple(line.service for line in self._lines)

    def show(
        self, lane: Lane, partition: KafkaPartition, window: WindowId, revision: int, flows: FlowColumns, *, needed: int
    ) -> None:
        """Show rows that are stored. `needed`: the first message that is not acknowledged until that is done."""
        if not self._lines:
            return
        waits = held(
            partition, window, revision, flows, needed=needed, since=self._clock.monotonic(),
            room=MOST_BYTES - self._nbytes,
        )  # fmt: skip
        self._nbytes += waits.nbytes
        shown = None if waits.flows is None else Shown(waits.flows, partition, revision)
        unseen = Unseen(waits, shown, len(self._lines))
        for line in self._lines:
            lane.unseen.setdefault(line.service, deque()).append(unseen)

    async def run(self, lane: Lane) -> None:
        """Until the lane is closing."""
        await asyncio.gather(*(self._follow(lane, line) for line in self._lines))

    def leave(self, lane: Lane) -> None:
        """The lane is gone."""
        for line in self._lines:
            self._again.troubles.report(line.service, None, lane.at())
        for queue in lane.unseen.values():
            while queue:
                self._done(queue)

    def close(self) -> None:
        """Nothing more is asked; what runs is not waited for."""
        for line in self._lines:
            line.thread.shutdown(wait=False, cancel_futures=True)

    def told(self) -> list[dict[str, Any]]:
        """For /health."""
        return [
            {
                "operator": line.runner.name,
                "windows": line.windows,
                "found": line.found,
                "left_out": line.left_out,
                "error": self._again.troubles.of(line.service),
            }
            for line in self._lines
        ]

    async def _follow(self, lane: Lane, line: _Line) -> None:
        queue, delay = lane.unseen.setdefault(line.service, deque()), FIRST_DELAY
        while not lane.closing.is_set():
            if not queue:
                await self._clock.wait(lane.closing, _TICK)
                continue
            first = queue[0]
            try:
                done = await self._look(lane, line, first)
            except ServiceUnavailable as error:  # it is shown again
                self._again.troubles.report(line.service, str(error), lane.at())
                if self._is_over(first):
                    self._leave_out(lane, line, queue, str(error))
                await self._clock.wait(lane.closing, delay)
                delay = min(2 * delay, LONGEST_DELAY)
            except Exception as error:  # noqa: BLE001  somebody's code
                what = f"{line.service} raised {type(error).__name__}: {error}"
                self._again.troubles.report(line.service, what[:500], lane.at(), retried=False)
                self._leave_out(lane, line, queue, what[:500])
            else:
                delay = FIRST_DELAY
                if done:
                    self._again.troubles.report(line.service, None, lane.at())
                    self._done(queue)
                elif not lane.closing.is_set():
                    self._leave_out(lane, line, queue, f"{line.service} takes too long")

    async def _look(self, lane: Lane, line: _Line, first: Unseen) -> bool:
        """Whether the operator has seen it; False: it takes too long, or the lane is closing. Raises what it raises."""
        stored, shown = first.stored, first.shown
        if shown is None:
            read = partial(self._store.rows, stored.partition, stored.window, stored.revision)
            shown = Shown(await self._again.once(CLICKHOUSE, read), stored.partition, stored.revision)
        seeing = asyncio.get_running_loop().run_in_executor(line.thread, _run, line.runner, shown)
        ended = asyncio.Event()
        self._seeing.add(seeing)
        seeing.add_done_callback(self._seeing.discard)
        seeing.add_done_callback(lambda _: ended.set())
        begun = self._clock.monotonic()
        while not seeing.done():
            await self._clock.wait(ended, _TICK if self._clock.monotonic() - begun < 1 else 1.0)
            if seeing.done():
                break
            if lane.closing.is_set() or self._is_over(first):
                seeing.add_done_callback(_forget)
                return False
            if self._clock.monotonic() - begun >= SLOW_SECONDS:
                what = f"{line.service} has worked on a window for {SLOW_SECONDS:g} seconds"
                self._again.troubles.report(line.service, what, lane.at(), retried=False)
        line.found += seeing.result()
        line.windows += 1
        return True

    def _is_over(self, first: Unseen) -> bool:
        return self._clock.monotonic() - first.stored.since >= PATIENCE_SECONDS

    def _leave_out(self, lane: Lane, line: _Line, queue: deque[Unseen], why: str) -> None:
        stored = queue[0].stored
        line.left_out += 1
        self._metrics.operator_left_out.labels(line.runner.name).inc()
        if times := self._limit.due(line.service):
            log.error(
                "an operator has not seen a window, and will not; the table has its rows",
                operator=line.runner.name,
                partition=lane.state.number,
                window_begin=stored.window.start,
                error=why,
                times=times,
            )
        self._done(queue)

    def _done(self, queue: deque[Unseen]) -> None:
        first = queue.popleft()
        first.left -= 1
        if not first.left:
            self._nbytes -= first.stored.nbytes


def _run(runner: Runner, shown: Shown) -> int:
    try:
        return runner.run(shown)
    except Refused as error:  # its own rows: again and again would not help
        raise ValueError(str(error)) from error
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # not for an operator to end us
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _forget(seeing: "asyncio.Future[int]") -> None:
    with contextlib.suppress(Exception, asyncio.CancelledError):
        seeing.result()
