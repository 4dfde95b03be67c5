"""Looks at an installation once in a while, from the beginning of the block until its end."""

import threading
from types import TracebackType
from typing import Self

from tests.faults.installation import Installation


class Looking:
    """Calls `look` in a thread of its own."""

    def __init__(self, system: Installation, every_seconds: float) -> None:
        self.system, self._every = system, every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self.look()

    def look(self) -> None:
        """What is done each time."""
        raise NotImplementedError
