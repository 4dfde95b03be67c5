"""How a process that is told to end gets to know of it: the one place that handles signals.

Not by threading.Event: its lock may be held by the very thread in which the signal's handler runs, which then waits for
itself.
"""

import contextlib
import faulthandler
import logging
import math
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import asyncio  # only who has an event loop pays for it


END_SECONDS = 60.0
"""In which a component ends that was told to: longer than any of them takes when nothing hangs."""


class Stop:
    """Somebody wants us to end; whoever waits wakes up. To be closed."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._count = 0

    def set(self) -> None:
        """Say it; a signal's handler may."""
        self._count += 1
        os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._count > 0

    @property
    def hurry(self) -> bool:
        """Whether it was said again, by somebody who does not want to wait."""
        return self._count > 1

    def wait(self, seconds: float, descriptors: Iterable[int] = ()) -> frozenset[int]:
        """Sleep until then, until it is said, or until one of the descriptors can be read. Returns those that can."""
        poll = select.poll()
        for fd in (self._fd, *descriptors):
            poll.register(fd, select.POLLIN)
        return frozenset(fd for fd, _ in poll.poll(max(1, math.ceil(seconds * 1000)))) - {self._fd}

    @contextlib.contextmanager
    def on_loop(self) -> Iterator["asyncio.Event"]:
        """The same for the running event loop: set when, or soon after, it is said."""
        import asyncio

        said, loop = asyncio.Event(), asyncio.get_running_loop()

        def heard() -> None:
            loop.remove_reader(self._fd)  # it stays readable
            said.set()

        loop.add_reader(self._fd, heard)
        try:
            yield said
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def end_now(code: int) -> NoReturn:
    """End the process without waiting for threads and tasks of a library that hangs; ours have been ended before."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def ignore_signals() -> None:
    """Of a process that ends when another one does, whatever it is told."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stop_on_signals(*, once: bool = False, within: float | None = None) -> Iterator[Stop]:
    """Set by SIGINT and SIGTERM. Outside the main thread nothing can set it but its owner.

    `once`: a second signal does what it did before, as when ending may take long and has nothing left to lose.
    `within`: so many seconds after the first signal the process ends in any case, with exit code 1 and the stacks of
    its threads on standard error. For components, which lose nothing by it: each goes on where it was.
    """
    with contextlib.closing(Stop()) as stop:
        # None: standard error was closed, and its number may be another file's
        stacks = 2 if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

        def handle(_number: int, _frame: FrameType | None) -> None:
            if within and not stop.is_set():
                # a thread in C: needs neither the interpreter's lock nor any of ours
                faulthandler.dump_traceback_later(within, exit=True, file=stacks)
            stop.set()
            if once:
                as_before()

        def as_before() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        if threading.current_thread() is not threading.main_thread():
            yield stop
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, handle)
        try:
            yield stop
        finally:
            as_before()
