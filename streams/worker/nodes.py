"""What is wrong with the nodes that send: clocks far from ours, names that several producers have."""

from collections.abc import Iterable
from typing import Any

from common import logs
from streams.metrics import SKEWS, Metrics
from streams.partition.rings import Shared
from streams.partition.state import Partition
from streams.partition.watermark import Skew
from streams.worker.clock import Clock

log = logs.get("streams")

SKEW_SECONDS = 300.0
"""A clock that is further ahead is wrong: Kerberos allows as much, a wrong time zone makes half an hour at least."""


class Nodes:
    """Looked at once a second; says it in the log, the metrics and /health."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._limit = logs.Limit(clock.monotonic)
        self._ahead: Skew | None = None  # the one most ahead
        self._behind: Skew | None = None
        self._shared: list[Shared] = []

    def look(self, partitions: Iterable[Partition]) -> None:
        """At those of these partitions."""
        partitions = list(partitions)
        skews = [skew for partition in partitions for skew in partition.watermark.skews()]
        self._ahead, self._behind = max(skews, default=None), min(skews, default=None)
        for which, skew in zip(SKEWS, (self._ahead, self._behind), strict=True):
            self._metrics.clock_skew_seconds.labels(which).set(skew.seconds if skew else 0)
        self._shared = [name for partition in partitions for name in partition.shared_names(self._clock.time())]
        self._metrics.shared_names.set(len(self._shared))
        for sentence in self.warnings:
            if self._limit.due("clock"):
                wrong = sum(skew.seconds > SKEW_SECONDS for skew in skews)
                log.warning("clocks are wrong", nodes=wrong, hint=sentence)
        if self._shared and self._limit.due("name"):
            log.error("names of nodes are used twice", names=len(self._shared), hint=self.error)

    @property
    def clocks(self) -> dict[str, Any]:
        """The clock most ahead of ours and the one most behind: its node, and seconds ahead."""
        skews = zip(SKEWS, (self._ahead, self._behind), strict=True)
        return {which: {"node": skew.node, "seconds": round(skew.seconds, 3)} for which, skew in skews if skew}

    @property
    def warnings(self) -> list[str]:
        """What people are to set right, and harms nobody else; sentences."""
        if self._ahead is None or self._ahead.seconds <= SKEW_SECONDS:
            return []
        seconds = f"{self._ahead.seconds:,.0f} s"
        return [f"the clock of node {self._ahead.node} is {seconds} ahead of ours, and so are its flows: set it (NTP)"]

    @property
    def error(self) -> str:
        """What mixes up what is stored; a sentence, empty: nothing."""
        return str(self._shared[0]) if self._shared else ""
