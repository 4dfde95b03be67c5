"""From the kernel's monotonic clock to the wall clock, following its steps. Pure: both clocks are arguments."""

import time
from collections.abc import Callable

Nanoseconds = Callable[[], int]

_TRIES = 3


class WallClock:
    """Knows the difference between the two clocks as it was at the last `refresh`."""

    def __init__(self, monotonic: Nanoseconds = time.monotonic_ns, wall: Nanoseconds = time.time_ns) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self.offset_ns = 0
        self.refresh()

    def refresh(self) -> int:
        """Measure the difference anew: the wall clock between two readings of the monotonic one, the closest of three.

        Returns how far the wall clock has moved against the monotonic one since the last time, in ns.
        """
        best, offset = -1, 0
        for _ in range(_TRIES):
            before = self.monotonic()
            wall = self._wall()
            after = self.monotonic()
            if best < 0 or after - before < best:
                best, offset = after - before, wall - (before + after) // 2
        moved, self.offset_ns = offset - self.offset_ns, offset
        return moved

    def wall_ns(self, monotonic_ns: int) -> int:
        """Nanoseconds since the Unix epoch of a moment on the monotonic clock."""
        return monotonic_ns + self.offset_ns
