"""How often an audit looks again before it believes what it sees. Pure; the clock is given.

The ledger, flows and its rollups are stored one after the other: a difference may be gone a moment later.
"""

from collections.abc import Callable

from console.audit.model import Report

PATIENCE_SECONDS = 3.0
"""Before a difference is believed."""
PAUSE_SECONDS = 0.5
"""Between two looks; whoever looks sleeps, in the way of its thread or event loop."""


class Settling:
    """One audit, from its first look on."""

    def __init__(self, clock: Callable[[], float], *, wait_seconds: float = 0) -> None:
        """`wait_seconds`: so long it looks while not all is settled. `clock` gives seconds."""
        self._clock, self._wait = clock, wait_seconds
        self._start = clock()

    def again(self, report: Report) -> bool:
        """Whether to look again after a pause, or to take the report as it is."""
        waited = self._clock() - self._start
        unsettled = report.empty or not report.settled
        return (report.differs and waited < PATIENCE_SECONDS) or (unsettled and waited < self._wait)
