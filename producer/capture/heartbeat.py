"""Tells the kernel program that a producer lives, from a thread that does nothing else: else it stops counting.

Whatever the capture loop waits for (Kafka, a registry, the disk, netlink), packets are counted meanwhile: the ring
fills, then they are added up by flow, then they are dropped, which is counted too. The thread ends with the process.
"""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from common import logs
from common.outages import Outages
from producer.clock import WallClock

SECONDS = 1.0  # between two times that we say that we live

log = logs.get("producer")


class Program(Protocol):
    """How the program of a run is told; kernel.maps.Life does it."""

    def live(self, now_ns: int, offset_ns: int) -> int:
        """A producer lives now, on the monotonic clock; `offset_ns`: from it to the wall clock.

        Returns for how long the program had counted nothing, since nobody had told it so in time, in ns.
        """


class Heartbeat:
    """Of the programs of all runs. Use it with `with`."""

    def __init__(self, programs: Sequence[Program], clock: WallClock) -> None:
        self._programs, self._clock = programs, clock
        self._outages = Outages(log)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def beat(self) -> None:
        """Say once that we live."""
        for program in self._programs:
            now = self._clock.monotonic()
            if idle := program.live(now, self._clock.offset_ns):
                log.warning(
                    "nothing was counted: no producer had told the kernel program that it lives; the audit says so",
                    seconds=round(idle / 1e9, 1),
                )

    def _run(self) -> None:
        wait: Callable[[float], bool] = self._end.wait
        while not wait(SECONDS):
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001  whatever it is: the next one may work
                self._outages.away("the kernel program", "cannot tell it that we live", severe=True, error=repr(error))
            else:
                self._outages.back("the kernel program")
