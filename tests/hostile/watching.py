"""What audit and health say meanwhile, beside what the kernel's own counters say."""

import json
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.bench.process import Every
from tests.faults.installation import CONSOLE, Installation
from tests.faults.traffic import received
from tests.hostile.neighbourhood import STANDSTILLS

TOLD_SECONDS = 20  # in which a standstill must have been told of
EXACT, DIFFERS, NOT_SETTLED, SILENT = "exact", "differs", "not settled", "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One audit and one look at health."""

    at: float  # seconds since the Unix epoch
    audit: str  # EXACT, DIFFERS, NOT_SETTLED or SILENT
    message: str
    well: bool
    reasons: tuple[str, ...]  # of a stage that is not well


@dataclass(slots=True)
class Watching:
    """Asks every two seconds, from the beginning of the block until its end."""

    system: Installation
    said: list[Saying] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)  # "exact" over packets that are not there
    _samples: list[tuple[float, int]] = field(default_factory=list)  # when, and what the interface had received by then
    _threads: tuple[Every, ...] = ()

    def __post_init__(self) -> None:
        self._threads = (Every(0.2, self._sample), Every(2.0, self._look))

    def __enter__(self) -> "Watching":
        for each in self._threads:
            each.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._threads:
            each.__exit__()

    def told(self, name: str, begin: float, end: float) -> bool:
        """Whether health or audit said that something stands still, of what is long enough for that."""
        return (
            name not in STANDSTILLS
            or end - begin < TOLD_SECONDS
            or any(not (said.well and said.audit == EXACT) for said in self.between(begin, end))
        )

    def between(self, begin: float, end: float) -> list[Saying]:
        """What was said then, and in the few seconds that an answer takes."""
        return [said for said in self.said if begin < said.at < end + 5]

    def _sample(self) -> None:
        count = received(self.system.watched)  # before the time: whatever comes between, it had them by then
        self._samples.append((time.time(), count))

    def _look(self) -> None:
        done = self.system.ayaflow("audit", "--node", self.system.node, "--format", "json")
        health = self.system.health(CONSOLE, "/api/health")
        stages = [stage for stage in health.get("stages", ()) if not stage.get("ok")]
        try:
            report = json.loads(done.stdout)
        except ValueError:
            report = {}
        self.said.append(
            Saying(
                at=time.time(),
                audit=self._verdict(report, done.returncode),
                message=str(report.get("message", done.stderr.strip())),
                well=bool(health.get("ok")),
                reasons=tuple(f"{stage.get('stage')}: {stage.get('message')}" for stage in stages),
            )
        )

    def _verdict(self, report: dict[str, Any], code: int) -> str:
        if not report:
            return SILENT
        if code == 0:
            self._hold_to_it(report)
            return EXACT
        return DIFFERS if report["differs"] else NOT_SETTLED

    def _hold_to_it(self, report: dict[str, Any]) -> None:
        """It said up to when all is there: what the interface had received by then must be in it."""
        until = datetime.fromisoformat(report["until"]).timestamp()
        rows = [row for row in report["rows"] if row["interface"] == self.system.watched]
        seen = sum(row["seen_packets"] for row in rows)
        # a clock read a moment apart, and the epoch in which it was
        number = bisect_right(self._samples, (until - 1.5, 0)) - 1
        if number >= 0 and self._samples[number][1] > seen:
            self.lies.append(f"exact until {report['until']}: {seen} of {self._samples[number][1]} packets")
