"""The loop of a run: looks at the ring, and sleeps as long as it may, since waking up costs more than a look."""

from collections.abc import Iterable
from typing import Protocol

from producer.clock import Nanoseconds
from producer.kafka.progress import Progress
from producer.kernel.run_state import RunState

SHORTEST_WAIT = 0.001
AWAY_WAIT = 0.1  # while Kafka takes nothing
FILLED, FILLED_WAIT = 0.4, 0.002  # part of the ring; then it matters what Kafka has acknowledged


class Waits(Protocol):
    """What we use of common.stopping.Stop."""

    def is_set(self) -> bool:
        """Whether we are to end."""

    def wait(self, seconds: float, descriptors: Iterable[int] = ()) -> object:
        """Sleep until then, until we are to end, or until one of the descriptors can be read."""


class Captures(Protocol):
    """What we use of capture.Capture."""

    ring_bytes: int

    @property
    def ring_fill(self) -> float:
        """Part of the ring that is in use."""

    @property
    def overwhelmed(self) -> bool:
        """Whether packets are added up by flow because the ring fills."""

    def step(self, progress: Progress) -> int:
        """Do what is due. Returns how many octets of the ring were read."""

    def patience(self, longest: float) -> float:
        """Seconds until `step` has something to do."""


class Answers(Protocol):
    """What we use of publisher.Publisher."""

    def poll(self, seconds: float) -> Progress:
        """Handle what Kafka has answered."""


class Follows(Protocol):
    """What we use of hooks.Hooks."""

    def patience(self) -> float:
        """Seconds until `step` may have something to do, although no descriptor says so."""

    def descriptors(self) -> tuple[int, ...]:
        """Those that can be read when `step` has something to do."""

    def step(self) -> None:
        """Do what is due."""


def watch(
    *,
    stop: Waits,
    publisher: Answers,
    capture: Captures,
    hooks: Follows,
    state: RunState,
    longest: float,
    monotonic: Nanoseconds,
) -> None:
    """Read and send until we are told to stop. Looks so often that the ring fills by a quarter in between.

    `longest`: seconds that a packet may wait, hence between two looks.
    """
    wait, last = SHORTEST_WAIT, monotonic()
    while not stop.is_set():
        stop.wait(min(wait, hooks.patience()), hooks.descriptors())
        progress = publisher.poll(0)  # its answers can wait for the next look: each would wake us up
        octets = capture.step(progress)
        if progress.stored:
            state.kafka_partition, state.kafka_offset = progress.stored
        if progress.names_stored:
            state.names_partition, state.names_offset = progress.names_stored
        state.names_position, state.names_ns = progress.names, progress.names_ns
        hooks.step()
        now = monotonic()
        rate, last = octets * 1e9 / max(now - last, 1_000), now
        # A rate may be back as suddenly as it went: never twice as long as the last time, but where nothing can come.
        wait = capture.patience(min(longest, 2 * wait)) if progress.calm else AWAY_WAIT
        if rate:
            wait = min(wait, capture.ring_bytes / 4 / rate)
        if capture.ring_fill > FILLED or capture.overwhelmed:
            wait = min(wait, FILLED_WAIT)
        wait = max(wait, SHORTEST_WAIT)
