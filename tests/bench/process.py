"""What a running process uses, from /proc."""

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

_CPUCLOCK_SCHED = 2


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far, to the nanosecond: /proc/PID/stat has hundredths of a second."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # as clock_getcpuclockid(3)


def rss_mb(pid: int) -> float:
    """Resident memory now, MB (2^20)."""
    return _status(pid, "VmRSS") / 1024


def peak_rss_mb(pid: int) -> float:
    """Highest resident memory so far."""
    return _status(pid, "VmHWM") / 1024


def _status(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
    ]


def median_cpu_seconds(work: Callable[[], object], rounds: int = 7) -> float:
    """Median CPU time of a call, of all our threads, after one to warm up. Other processes disturb it little."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def wait_until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


class Every:
    """Calls something again and again in a thread, until the end of the block."""

    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        self._seconds, self._work = seconds, work
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            self._work()
