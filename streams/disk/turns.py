"""Work that is done again and again by one worker of all: the one that reads partition 0 of the packets topic."""

import threading
from collections.abc import Callable

from common import logs
from common.errors import ServiceUnavailable

log = logs.get("streams")

_END_SECONDS = 1.0


class Turns:
    """A thread that holds nobody up. What goes wrong is kept for health, and the next turn tries again."""

    def __init__(
        self, name: str, work: Callable[[], object], *, seconds: Callable[[], float], mine: Callable[[], bool]
    ) -> None:
        """`seconds`: until the next turn; `mine`: whether this worker is the one."""
        self._name, self._work, self._seconds, self._mine = name, work, seconds, mine
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.ours = False
        self.error: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.turn()
            self._ended.wait(self._seconds())

    def turn(self) -> None:
        """One of them, if it is ours."""
        self.ours = self._mine()
        if not self.ours:
            self.error = None
            return
        try:
            self._work()
        except ServiceUnavailable as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001  windows go on without it
            if self.error is None and not self._ended.is_set():
                log.warning("work that can wait did not succeed", what=self._name, error=repr(error))
            self.error = repr(error)
        else:
            self.error = None

    def close(self) -> None:
        """End. What runs is not waited for long."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
