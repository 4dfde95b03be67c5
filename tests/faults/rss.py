"""Resident memory of the parts, sampled."""

import threading
import time
from types import TracebackType

import numpy as np

from tests.faults.installation import Installation


class Memory:
    """Looks once in a while, from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 1.0) -> None:
        self._system, self._every = system, every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.samples: dict[str, list[tuple[float, float]]] = {}  # part -> (seconds, MB)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        begin = time.monotonic()
        while not self._ended.wait(self._every):
            now = time.monotonic() - begin
            for name, part in self._system.parts.items():
                if megabytes := part.rss_mb():
                    self.samples.setdefault(name, []).append((now, megabytes))

    def peaks(self) -> dict[str, int]:
        """Highest of each part, MB."""
        return {name: round(max(megabytes for _, megabytes in found)) for name, found in self.samples.items()}

    def slopes(self, after_seconds: float) -> dict[str, float]:
        """MB an hour of each part, fitted to what was seen later than that."""
        found = {}
        for name, samples in self.samples.items():
            late = np.array([each for each in samples if each[0] >= after_seconds])
            if len(late) > 2:
                found[name] = round(float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) * 3600, 2)
        return found
