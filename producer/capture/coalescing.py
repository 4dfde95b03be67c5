"""What the kernel program is told while it runs: that a producer lives, and whether an event a packet is wanted."""

from typing import Protocol

from common import logs
from producer.clock import WallClock

BEGIN_ABOVE, END_BELOW = 0.75, 0.25  # parts of the ring in use
LIVE_NS = 1_000_000_000  # between two times that we say that we live
LOG_EVERY_NS = 10_000_000_000  # when it changes again and again

log = logs.get("producer")


class KernelSwitches(Protocol):
    """How the program is told; kernel.Switches does it."""

    def live(self, now_ns: int, offset_ns: int) -> None:
        """A producer lives; `offset_ns`: from the monotonic to the wall clock."""

    def coalesce(self, wanted: bool) -> None:
        """Whether packets are to be added up by flow although there is room for an event each."""


class Coalescing:
    """An event a packet, or packets added up by flow: always (`only_flows`), or while the ring is full."""

    def __init__(self, switches: KernelSwitches, clock: WallClock, *, only_flows: bool) -> None:
        self._switches, self._clock, self._only_flows = switches, clock, only_flows
        self._lived_ns = clock.monotonic()
        self._logged_ns = -LOG_EVERY_NS
        self.active = only_flows
        """Whether packets are added up by flow, because we said so."""
        switches.coalesce(only_flows)
        switches.live(self._lived_ns, clock.offset_ns)

    @property
    def overwhelmed(self) -> bool:
        """Whether they are because the ring fills."""
        return self.active and not self._only_flows

    def live(self, now: int) -> None:
        """Say that we live, when it is time to."""
        if now - self._lived_ns >= LIVE_NS:
            self._switches.live(now, self._clock.offset_ns)
            self._lived_ns = now

    def choose(self, now: int, ring_fill: float) -> None:
        """Add up when the ring fills, back to an event a packet when it is nearly empty."""
        wanted = self._only_flows or ring_fill > (END_BELOW if self.active else BEGIN_ABOVE)
        if wanted == self.active:
            return
        self.active = wanted
        self._switches.coalesce(wanted)
        if now - self._logged_ns >= LOG_EVERY_NS:
            self._logged_ns = now
            log.info(
                "packets are added up by flow" if wanted else "an event a packet again", ring_fill=round(ring_fill, 2)
            )
