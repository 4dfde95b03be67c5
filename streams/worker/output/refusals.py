"""Windows that ClickHouse refuses: a constraint, a type that does not fit.

Such a window is set aside at once, before a later one is stored: its rows are kept in the table `refused`, under the
name that they would have in `flows`, so that whoever reads the tables knows where they are. From there it is tried now
and then, by whoever has the partition; so it is stored in the end when somebody drops the constraint.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from common import logs
from common.times import iso
from streams.metrics import Metrics
from streams.partition.storing import Outcome, Refused, WindowId, WindowJob, bring_in, set_aside
from streams.worker.clock import Clock
from streams.worker.lane import Lane, Refusal
from streams.worker.neighbours import FlowStore
from streams.worker.retrying import ASIDE, CLICKHOUSE, FIRST_DELAY, LEDGER, Retrying

log = logs.get("streams")
T = TypeVar("T")

Follow = Callable[..., None]
"""streams.worker.output.publishing.Publishing.send, and the like."""

_LONGEST_DELAY = 30.0
BRING_IN_SECONDS = 60.0  # between two tries to store what is set aside


def or_refused(work: Callable[[], T]) -> T | Refused:
    """What it returns, or why ClickHouse refuses it, which is no reason to try again at once."""
    try:
        return work()
    except Refused as error:
        return error


class Refusals:
    """What a lane cannot store now, and what is done about it."""

    def __init__(
        self, store: FlowStore, followers: Sequence[Follow], metrics: Metrics, again: Retrying, clock: Clock
    ) -> None:
        """`followers`: who is told of rows that are stored in the end."""
        self._store, self._followers, self._metrics = store, followers, metrics
        self._again, self._clock = again, clock

    async def refused(self, lane: Lane, job: WindowJob, error: Refused) -> Outcome:
        """A window was refused: set it aside."""
        keep = partial(set_aside, job, self._store, str(error))
        outcome = await self._again.insist(CLICKHOUSE, lane.at(job.window), lane.closing, keep)
        if outcome.aside:
            self._metrics.refused_packets.inc(outcome.aside)
            log.error(
                "set a window aside that ClickHouse refuses; its rows are in the table refused until it takes them",
                partition=lane.state.number,
                window_begin=job.window.start,
                packets=outcome.aside,
                error=str(error),
            )
            self._again.troubles.report(ASIDE, _sentence(job.window, error), lane.at())
        return outcome

    async def insist(self, lane: Lane, table: str, work: Callable[[], T]) -> T | None:
        """Put rows into a table beside flows. None: it refuses them, and they are tried again later, for ever.

        Without them nothing is acknowledged; the windows go on.
        """
        refusal = lane.refused.get(table)
        if refusal is not None and self._clock.monotonic() < refusal.next_try:
            return None
        found = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, partial(or_refused, work))
        if isinstance(found, Refused):
            self._postpone(lane, table)
            self._again.troubles.report(LEDGER, str(found), lane.at())
            return None
        if lane.refused.pop(table, None):
            self._again.troubles.report(LEDGER, None, lane.at())
        return found

    def _postpone(self, lane: Lane, table: str) -> None:
        """It was refused: try it again later."""
        refusal = lane.refused.setdefault(table, Refusal(delay=FIRST_DELAY, next_try=0.0))
        refusal.next_try = self._clock.monotonic() + refusal.delay
        refusal.delay = min(2 * refusal.delay, _LONGEST_DELAY)
        self._metrics.insert_retries.inc()

    async def bring_in(self, lane: Lane) -> None:
        """Now and then, try to store what was set aside of this partition, also by others."""
        now = self._clock.monotonic()
        if now < lane.next_bring_in:
            return
        lane.next_bring_in = now + BRING_IN_SECONDS
        look = partial(self._store.all_aside, lane.state.number)
        aside = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, look)
        trouble = ""
        for each in aside:
            store = partial(or_refused, partial(bring_in, each, self._store))
            flows = await self._again.insist(CLICKHOUSE, lane.at(), lane.closing, store)
            if isinstance(flows, Refused):
                trouble = trouble or _sentence(each.window, flows)
            else:  # its messages were acknowledged long ago
                log.info("a window that was set aside is stored", partition=lane.state.number, **each.window._asdict())
                for follow in self._followers:
                    follow(lane, each.partition, each.window, each.revision, flows, needed=lane.state.position)
        self._again.troubles.report(ASIDE, trouble or None, lane.at())

    def leave(self, lane: Lane) -> None:
        """The partition goes: it is somebody else's trouble."""
        for service in (ASIDE, LEDGER):
            self._again.troubles.report(service, None, lane.at())


def _sentence(window: WindowId, error: Refused) -> str:
    return f"the window of {iso(window.start)} is set aside in the table refused, which ClickHouse refuses: {error}"
