"""`ayaflow audit` while things fail: it may be unable to tell, but may not call packets missing."""

from tests.faults.installation import Installation
from tests.faults.looking import Looking


class Auditing(Looking):
    """Audits from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 2.0) -> None:
        super().__init__(system, every_seconds)
        self.exact = 0  # so often
        self.alarms: list[str] = []

    def look(self) -> None:
        done = self.system.ayaflow("audit")
        if done.returncode == 0:
            self.exact += 1
        elif "Not exact" in done.stdout:  # else ClickHouse does not answer, or the ledger waits for a producer
            self.alarms.append(done.stdout)
