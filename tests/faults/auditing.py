"""`ayaflow audit` while things fail: it may be unable to tell, but may not call packets missing."""

import json

from tests.bench.process import Every
from tests.faults.installation import Installation


class Auditing(Every):
    """Audits from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 2.0) -> None:
        super().__init__(every_seconds, self._look)
        self._system = system
        self.exact = 0  # so often
        self.unsettled = 0
        self.alarms: list[str] = []

    def _look(self) -> None:
        done = self._system.ayaflow("audit", "--format", "json")
        if not done.stdout:  # ClickHouse does not answer
            return
        report = json.loads(done.stdout)
        assert report["exact"] is (done.returncode == 0)
        if report["differs"]:
            self.alarms.append(report["message"])
        elif report["exact"]:
            self.exact += 1
        else:  # a part stands still: the audit says since when
            self.unsettled += 1
