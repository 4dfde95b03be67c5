"""The state of each part of `ayaflow up`, and when it may start, start again or be given up. Pure.

The clock is an argument.
"""

import enum
from dataclasses import dataclass

LONGEST_PAUSE = 30.0  # s between two starts
CALM_SECONDS = 60.0  # ready for so long: the next death counts as the first
FATAL_CODES = frozenset({2, 3})  # a wrong setting, a lack of this machine: starting again does not help


class State(enum.StrEnum):
    """Of a stage."""

    WAITING = "waiting"  # for others, or for its next start
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "not well"  # runs, was ready once, says that it is not well now
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a stage is."""

    name: str  # also the sub-command
    needs: tuple[str, ...]  # stages that must have been ready before its first start
    stop_seconds: float  # for a clean stop, then SIGKILL
    privileged: bool = False  # runs as root, if we do


PLANS = (
    Plan(name="kafka", needs=(), stop_seconds=20),
    Plan(name="clickhouse", needs=(), stop_seconds=15),
    Plan(name="streams", needs=("kafka", "clickhouse"), stop_seconds=20),
    Plan(name="producer", needs=("kafka",), stop_seconds=15, privileged=True),
    Plan(name="console", needs=(), stop_seconds=5),
)
"""In the order of their start."""

STOP_ORDER = ("producer", "streams", "console", "clickhouse", "kafka")
"""With the packets: what is still on its way finds the next stage alive."""


def pause(deaths: int) -> float:
    """Seconds to wait before the next start: 1, 2, 4 … 30."""
    return min(LONGEST_PAUSE, 2.0 ** (deaths - 1)) if deaths else 0.0


@dataclass(slots=True)
class Stage:
    """One part and what became of it."""

    plan: Plan
    state: State = State.WAITING
    since: float = 0.0  # of the state, s on the caller's clock
    was_ready: bool = False  # ever
    restarts: int = 0  # in all
    deaths: int = 0  # in a row
    start_at: float = 0.0  # not before
    message: str = ""  # the last thing that went wrong, a sentence

    def may_start(self, ready: set[str], now: float) -> bool:
        """Whether to start it now. `ready`: names of stages that have been ready."""
        return self.state is State.WAITING and now >= self.start_at and ready.issuperset(self.plan.needs)

    def started(self, now: float) -> None:
        """A process runs."""
        self._become(State.STARTING, now)

    def heard(self, *, ok: bool, message: str, now: float) -> bool:
        """What its readiness probe said. Returns whether it has just become ready."""
        if self.state not in {State.STARTING, State.READY, State.UNHEALTHY}:
            return False
        if ok:
            became = self.state is not State.READY
            if became:
                self._become(State.READY, now)
            elif now - self.since >= CALM_SECONDS:
                self.deaths = 0
            self.was_ready, self.message = True, ""
            return became
        if self.state is State.READY:
            self._become(State.UNHEALTHY, now)
        self.message = message
        return False

    def died(self, code: int, last_words: str, now: float) -> bool:
        """Its process ended by itself. Returns whether that is fatal for all."""
        fatal = not self.was_ready and not self.restarts and code in FATAL_CODES
        how = f"signal {-code}" if code < 0 else f"code {code}"
        self.message = last_words or f"ended with {how}"
        if fatal:
            self._become(State.STOPPED, now)
            return True
        self.deaths += 1
        self.restarts += 1
        self.start_at = now + pause(self.deaths)
        self._become(State.WAITING, now)
        return False

    def _become(self, state: State, now: float) -> None:
        if state is not self.state:
            self.state, self.since = state, now

    def stopping(self, now: float) -> None:
        """It was asked to stop."""
        self._become(State.STOPPING, now)

    def stopped(self, now: float) -> None:
        """It did."""
        self._become(State.STOPPED, now)
