"""Resident memory of the parts, sampled."""

import time

import numpy as np

from tests.bench.process import Every
from tests.faults.installation import Installation


class Memory(Every):
    """Looks once in a while, from the beginning of the block until its end."""

    def __init__(self, system: Installation, every_seconds: float = 1.0) -> None:
        super().__init__(every_seconds, self._look)
        self._system = system
        self._begin = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {}  # part -> (seconds, MB)

    def _look(self) -> None:
        now = time.monotonic() - self._begin
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
