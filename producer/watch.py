"""The loop of a run: looks at the ring, and sleeps as long as it may, since waking up costs more than a look."""

import time

from common.stopping import Stop
from producer.capture.capture import Capture
from producer.interfaces.hooks import Hooks
from producer.kafka.publisher import Publisher
from producer.kernel.run import PinnedRun

SHORTEST_WAIT = 0.001
AWAY_WAIT = 0.1  # while Kafka takes nothing
FILLED, FILLED_WAIT = 0.4, 0.002  # part of the ring; then it matters what Kafka has acknowledged


def watch(  # noqa: PLR0917  the parts of a run
    capture: Capture, publisher: Publisher, hooks: Hooks, kernel: PinnedRun, stop: Stop, longest: float
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
