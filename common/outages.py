"""Neighbours that go and come back: a line when one goes, one a minute while it is away, one when it is back.

    outages = Outages(logs.get("streams"))
    outages.away("ClickHouse", "trying again until it works", error="connection refused")   # at each try
    outages.back("ClickHouse")                                                              # at each success

One that comes and goes within the minute is still told once a minute, so that no log fills a disk.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.logs import Limit, Log


@dataclass(slots=True)
class _Outage:
    began: float  # by the clock
    told: bool = False  # so its end is told, too


class Outages:
    """What is wrong with whom, said in a component's log. Any thread may call it."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._log, self._clock = log, clock
        self._limit = Limit(clock)
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}  # by service

    def away(self, service: str, action: str, *, kind: str = "", severe: bool = False, **fields: Any) -> None:
        """A try failed. `kind`: another kind of failure of the same service is said at once, not within the minute.

        Adds to the line for how many seconds it has lasted, and how many tries failed since the last line.
        """
        with self._lock:
            now = self._clock()
            outage = self._outages.setdefault(service, _Outage(now))
            if not (times := self._limit.due((service, kind))):
                return
            outage.told = True
            if times > 1:
                fields |= {"seconds": round(now - outage.began, 1), "times": times}
        (self._log.error if severe else self._log.warning)(action, service=service, **fields)

    def back(self, service: str) -> None:
        """A try succeeded."""
        if service not in self._outages:  # nearly always
            return
        with self._lock:
            outage = self._outages.pop(service, None)
            seconds = round(self._clock() - outage.began, 1) if outage is not None else 0.0
        if outage is not None and outage.told:
            self._log.info("works again", service=service, seconds=seconds)
