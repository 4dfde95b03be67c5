"""The watermark of a partition: up to when all packets of its nodes have been read.

Pure; the wall clock is an argument.
"""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.batches import RingId

_LAGGARD_SECONDS = 60.0


class Skew(NamedTuple):
    """How far a node's clock is from ours."""

    seconds: float  # positive: ahead of ours; negative also while its messages are waited for
    node: str


def laggard_seconds(window_seconds: float, timeout_seconds: float) -> float:
    """How far a clock may be behind the others and still hold them back."""
    return max(_LAGGARD_SECONDS, 2 * window_seconds, timeout_seconds)


@dataclass(slots=True)
class _Clock:
    clock_ns: int  # of the last message that told it; 0: none did
    latest_ns: int  # behind its latest packet
    heard: float  # by our clock
    ahead: float  # seconds that it was ahead of our clock then


class Watermark:
    """The lowest clock of the sources that live. It goes back when a clock is set back or a slower one joins.

    A source is a ring's producer: two of one node's name may have different clocks.
    It lives from its first message until it has been silent for `timeout_seconds` of wall time. When none lives,
    everything is complete. One whose clock is more than a minute (or two windows) behind the others, a replayed
    capture or a wrong clock, does not hold them back: what it sends counts as late, and late packets are stored too.
    One that is ahead decides nothing while another lives, and nothing is left of it when it has gone.
    """

    def __init__(self, *, timeout_seconds: float, window_seconds: int) -> None:
        self._timeout = timeout_seconds
        self.laggard_seconds = laggard_seconds(window_seconds, timeout_seconds)
        self._clocks: dict[RingId, _Clock] = {}
        self._value = 0
        self._highest = 0  # of the clocks and packets since somebody lived: what is complete when all are silent

    def hear(self, source: RingId, clock_ns: int, latest_packet_ns: int, now: float, wall: float) -> None:
        """A message came. `clock_ns` 0: its clock is not known. `now` never goes back, `wall` may."""
        if not self._clocks:
            self._highest = self._value = 0
        known = self._clocks.setdefault(source, _Clock(clock_ns=0, latest_ns=0, heard=now, ahead=0.0))
        known.heard = now
        if clock_ns:
            known.clock_ns, known.ahead = clock_ns, clock_ns / 1e9 - wall
        known.latest_ns = max(known.latest_ns, clock_ns, latest_packet_ns + 1)

    def leave(self, source: RingId) -> None:
        """Nothing more will come of it."""
        if source in self._clocks:
            self._clocks[source].heard = float("-inf")

    def advance(self, now: float, wall: float, window_seconds: int) -> int:
        """The watermark at wall time `wall`, in nanoseconds since the Unix epoch; 0: none yet."""
        for source in [source for source, clock in self._clocks.items() if now - clock.heard > self._timeout]:
            self._highest = max(self._highest, self._clocks.pop(source).latest_ns)
        if not self._clocks:
            if self._highest:  # nobody will add to any window: close up to the end of the last one
                length = window_seconds * 1_000_000_000
                self._value = -(-self._highest // length) * length
            return self._value
        clocks = [clock.clock_ns for clock in self._clocks.values() if clock.clock_ns]
        if clocks:
            ahead = min(max(clocks), int(wall * 1e9))  # a clock in the future is no measure of the others
            self._value = min(clock for clock in clocks if clock >= ahead - int(self.laggard_seconds * 1e9))
        return self._value

    @property
    def value(self) -> int:
        """As of the last `advance`."""
        return self._value

    @property
    def living(self) -> int:
        """Sources that live."""
        return len(self._clocks)

    def skews(self) -> list[Skew]:
        """Of the sources that live and tell their clock, as of their last message."""
        return [Skew(clock.ahead, source.node) for source, clock in self._clocks.items() if clock.clock_ns]
