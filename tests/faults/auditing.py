"""`ayaflow audit` while things fail: it may be unable to tell, but may not call packets missing."""

import threading
from types import TracebackType

from tests.faults.installation import Installation


class Auditing:
    """Audits from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 2.0) -> None:
        self._system, self._every = system, every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.exact = 0  # so often
        self.alarms: list[str] = []

    def __enter__(self) -> "Auditing":
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(self._every):
            done = self._system.ayaflow("audit")
            if done.returncode == 0:
                self.exact += 1
            elif "Not exact" in done.stdout:  # else ClickHouse does not answer, or the ledger waits for a producer
                self.alarms.append(done.stdout)
