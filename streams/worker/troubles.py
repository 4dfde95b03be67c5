"""What is wrong now: with which service, in which partition and window, and since when.

A success clears the trouble of its own place and no other: one window that ClickHouse refuses for ever stays in sight
beside a thousand that it takes. The log has one line a service and minute, however many places there are.
"""

from dataclasses import dataclass
from typing import NamedTuple

from common.logs import Log
from common.outages import Outages
from common.times import iso
from streams.worker.clock import Clock

MOST_TOLD = 10


class Place(NamedTuple):
    """Where work is done. Both None: nowhere in particular."""

    partition: int | None = None
    window_begin: int | None = None  # seconds since the Unix epoch


ANYWHERE = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Work that did not succeed when it was tried last."""

    service: str
    place: Place
    since: float  # seconds since the Unix epoch
    error: str  # of the last try

    def told(self) -> dict[str, str | int | None]:
        """For /health."""
        window = self.place.window_begin
        return {
            "service": self.service,
            "partition": self.place.partition,
            "window_begin": None if window is None else iso(window),
            "since": iso(self.since),
            "error": self.error,
        }


class Troubles:
    """All that is wrong, by service and place. Reported from one thread, asked from any."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._clock = clock
        self._all: dict[tuple[str, Place], Trouble] = {}  # in the order in which they began
        self._outages = Outages(log, clock.monotonic)

    def __bool__(self) -> bool:
        return bool(self._all)

    def report(self, service: str, error: str | None, place: Place = ANYWHERE, *, retried: bool = True) -> None:
        """Note what is wrong with a service at a place, or that nothing is. `retried`: the same work is done again."""
        key = (service, place)
        if error is None:
            if self._all.pop(key, None) and not self.count(service):
                self._outages.back(service)
            return
        before = self._all.get(key)
        since = before.since if before else self._clock.time()
        self._all[key] = Trouble(service=service, place=place, since=since, error=error)
        where = {name: value for name, value in place._asdict().items() if value is not None}
        self._outages.away(
            service,
            "trying again until it works" if retried else "not well",
            error=error,
            places=self.count(service),
            **where,
        )

    def count(self, service: str) -> int:
        """Places where something is wrong with a service."""
        return sum(of == service for of, _ in list(self._all))

    def of(self, service: str) -> str | None:
        """What is wrong with a service for longest."""
        return next((trouble.error for (of, _), trouble in list(self._all.items()) if of == service), None)

    def told(self) -> list[dict[str, str | int | None]]:
        """The oldest, for /health."""
        return [trouble.told() for trouble in list(self._all.values())[:MOST_TOLD]]
