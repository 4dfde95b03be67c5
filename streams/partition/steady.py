"""Wall time that never goes back: what waits for its age must not wait an hour longer because a clock was set. Pure."""

_STEP_SECONDS = 5.0  # so far ahead at once after a step back, it was set right again


class Steady:
    """What the wall clock says, and where it is set back, as if it went on; where it is set right, likewise."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._behind = 0.0  # that the wall clock was set back, in seconds

    def time(self, wall: float) -> float:
        """Seconds; `wall` is what the clock says now."""
        self._behind = max(self._behind, self._last - wall)
        ahead = wall + self._behind - self._last
        if ahead > _STEP_SECONDS:
            self._behind = max(0.0, self._behind - ahead)
        self._last = wall + self._behind
        return self._last
