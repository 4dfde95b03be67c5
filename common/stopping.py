"""How a process that is told to end gets to know of it.

Not by threading.Event: its lock may be held by the very thread in which the signal's handler runs, which then waits for
itself.
"""

import contextlib
import math
import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType


class Stop:
    """Somebody wants us to end; whoever waits wakes up. To be closed."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._set = False

    def set(self) -> None:
        """Say it; a signal's handler may."""
        self._set = True
        os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._set

    def wait(self, seconds: float, descriptors: Iterable[int] = ()) -> None:
        """Sleep until then, until it is said, or until one of the descriptors can be read."""
        poll = select.poll()
        for fd in (self._fd, *descriptors):
            poll.register(fd, select.POLLIN)
        poll.poll(max(1, math.ceil(seconds * 1000)))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Set by SIGINT and SIGTERM. Outside the main thread nothing can set it but its owner."""
    with contextlib.closing(Stop()) as stop:

        def handle(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        if threading.current_thread() is not threading.main_thread():
            yield stop
            return
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
