"""Whether anything passes at all: who starts `ayaflow up` on an idle machine is told where there is something. Pure."""

QUIET_SECONDS = 30.0
SAID = (
    f"no packet for {QUIET_SECONDS:.0f} s on what is watched: choose with --interface, or see made-up traffic by "
    "`ayaflow demo`"
)


class Quiet:
    """Looks at how many packets the producer has seen. The clock is an argument, seconds."""

    def __init__(self) -> None:
        self._packets: int | None = None
        self._since = 0.0
        self._said = False

    def look(self, packets: object, now: float) -> str | None:
        """What to say from now on, nothing when it is over; None: as before. `packets`: what the producer tells."""
        if not isinstance(packets, int):
            self._packets = None
            return None
        if packets != self._packets:
            self._packets, self._since = packets, now
            if self._said:
                self._said = False
                return ""
        elif not self._said and now - self._since >= QUIET_SECONDS:
            self._said = True
            return SAID
        return None
