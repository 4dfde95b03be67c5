"""What the kernel program is told while it runs: whether an event a packet is wanted."""

from typing import Protocol

from common import logs

BEGIN_ABOVE, END_BELOW = 0.75, 0.25  # parts of the ring in use
LOG_EVERY_NS = 10_000_000_000  # when it changes again and again

log = logs.get("producer")


class KernelSwitches(Protocol):
    """How the program is told; kernel.maps.ConfigPage does it."""

    def coalesce(self, wanted: bool) -> None:
        """Whether packets are to be added up by flow although there is room for an event each."""


class Coalescing:
    """An event a packet, or packets added up by flow: always (`only_flows`), or while the ring is full."""

    def __init__(self, switches: KernelSwitches, *, only_flows: bool) -> None:
        self._switches, self._only_flows = switches, only_flows
        self._logged_ns = -LOG_EVERY_NS
        self.active = only_flows
        """Whether packets are added up by flow, because we said so."""
        switches.coalesce(only_flows)

    @property
    def overwhelmed(self) -> bool:
        """Whether they are because the ring fills."""
        return self.active and not self._only_flows

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
