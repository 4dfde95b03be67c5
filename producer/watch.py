"""The loop of a run: looks at the ring, and sleeps as long as it may, since waking up costs more than a look."""

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType

from producer.capture import Capture
from producer.hooks import Hooks
from producer.kernel import Kernel
from producer.publish import Publisher

SHORTEST_WAIT = 0.001
AWAY_WAIT = 0.1  # while Kafka takes nothing
FILLED, FILLED_WAIT = 0.4, 0.002  # part of the ring; then it matters what Kafka has acknowledged


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


def watch(  # noqa: PLR0917  the parts of a run
    capture: Capture, publisher: Publisher, hooks: Hooks, kernel: Kernel, stop: Stop, longest: float
) -> None:
    """Read and send until we are told to stop. Looks so often that the ring fills by a quarter in between.

    `longest`: seconds that a packet may wait, hence between two looks.
    """
    wait, last, ring = SHORTEST_WAIT, time.monotonic(), kernel.ring
    while not stop.is_set():
        stop.wait(min(wait, hooks.patience()), hooks.descriptors())
        publisher.poll(0)  # what Kafka has answered can wait for the next look: it would wake us up for each message
        read = capture.step()
        if publisher.last_stored:
            kernel.state.kafka_partition, kernel.state.kafka_offset = publisher.last_stored
        hooks.oldest_epoch = capture.oldest_epoch
        hooks.step()
        now = time.monotonic()
        rate, last = read * ring.stride / max(now - last, 1e-6), now
        # A rate may be back as suddenly as it went: never twice as long as the last time, but where nothing can come.
        wait = capture.patience(min(longest, 2 * wait)) if publisher.calm else AWAY_WAIT
        if rate:
            wait = min(wait, ring.size / 4 / rate)
        if capture.ring_fill > FILLED or capture.detail.overwhelmed:
            wait = min(wait, FILLED_WAIT)
        wait = max(wait, SHORTEST_WAIT)
