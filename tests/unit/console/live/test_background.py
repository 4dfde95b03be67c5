import logging

import pytest

from common import logs
from console.live.background import AGAIN_SECONDS, FAILED_SECONDS, Background


class Play:
    """Background work, and a clock that its waiting moves."""

    def __init__(self, failures: int) -> None:
        self.now, self.runs, self.failures = 100.0, 0, failures
        self.problems: list[str] = []
        self.background = Background(logs.get("test"), lambda: self.now)

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise ValueError(f"no {self.runs}")

    async def wait(self, seconds: float) -> None:
        self.problems.append(self.background.problem)
        self.now += seconds


async def test_work_that_fails_is_told_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    play = Play(failures=3)
    with caplog.at_level(logging.ERROR):
        await play.background.keep("the clock", play.run, play.wait)
    assert play.runs == 4
    assert play.problems[2] == "the clock fails again and again (ValueError: no 3): see the log, and report it"
    assert len(caplog.records) == 1  # limited by time
    assert play.background.problem != ""
    play.now += FAILED_SECONDS - AGAIN_SECONDS
    assert play.background.problem == ""


async def test_work_that_ends_is_not_begun_again() -> None:
    play = Play(failures=0)
    await play.background.keep("the clock", play.run, play.wait)
    assert (play.runs, play.background.problem) == (1, "")
