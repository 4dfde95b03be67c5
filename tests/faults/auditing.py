"""`ayaflow audit` while things fail: it may be unable to tell, but may not call packets missing."""

from tests.bench.process import Every
from tests.faults.installation import Installation


class Auditing(Every):
    """Audits from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 2.0) -> None:
        super().__init__(every_seconds, self._look)
        self._system = system
        self.exact = 0  # so often
        self.alarms: list[str] = []

    def _look(self) -> None:
        done = self._system.ayaflow("audit")
        if done.returncode == 0:
            self.exact += 1
        elif "Not exact" in done.stdout:  # else ClickHouse does not answer, or the ledger waits for a producer
            self.alarms.append(done.stdout)
