from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from common.stopping import Stop
from producer.replay.run import Pace

SECOND = 1_000_000_000


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 55 * SECOND
        self.idled: list[int] = []  # the capture's time at each wait

    def monotonic(self) -> int:
        return self.now

    def idle(self, seconds: float, clock_ns: int) -> None:
        self.now += int(seconds * SECOND)
        self.idled.append(clock_ns)


@pytest.fixture
def stop() -> Iterator[Stop]:
    with closing(Stop()) as stop:
        yield stop


def played(pace: Pace, clock: Clock, seconds: list[float]) -> list[tuple[int, float]]:
    """(packet, seconds since the beginning) of each packet."""
    times = np.array([int(1000 * SECOND + each * SECOND) for each in seconds], np.int64)
    found = []
    with closing(Stop()) as stop:
        for part in pace.parts(times, clock.idle, stop):
            found += [(row, (clock.now - 55 * SECOND) / SECOND) for row in range(part.start, part.stop)]
    return found


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
def test_packets_come_when_they_are_due(speed: float) -> None:
    clock = Clock()
    seconds = [0.0, 0.5, 0.5, 2.0, 7.0]
    found = played(Pace(speed, clock.monotonic), clock, seconds)
    assert [row for row, _ in found] == [0, 1, 2, 3, 4]
    for (_, at), due in zip(found, seconds, strict=True):
        assert due / speed <= at < due / speed + 0.11


def test_at_full_speed_nothing_waits() -> None:
    clock = Clock()
    assert [at for _, at in played(Pace(None, clock.monotonic), clock, [0.0, 5.0, 100.0])] == [0.0, 0.0, 0.0]
    assert clock.idled == []


def test_a_packet_out_of_order_does_not_overtake_nor_wait() -> None:
    clock = Clock()
    found = played(Pace(1.0, clock.monotonic), clock, [0.0, 1.0, 0.2, -5.0, 2.0])
    assert [row for row, _ in found] == [0, 1, 2, 3, 4]
    assert found[1][1] == found[3][1]


def test_the_time_said_while_waiting_is_never_past_what_was_given(stop: Stop) -> None:
    clock = Clock()
    pace = Pace(1.0, clock.monotonic)
    times = np.array([1000 * SECOND, 1003 * SECOND], np.int64)
    given = 0
    for part in pace.parts(times, clock.idle, stop):
        given = part.stop
        assert all(clock_ns < times[given - 1] + SECOND for clock_ns in clock.idled[-1:])
    assert given == 2
    assert max(clock.idled[:-1]) < times[1]


def test_a_stop_ends_the_waiting(stop: Stop) -> None:
    clock = Clock()
    pace = Pace(1.0, clock.monotonic)

    def idle(seconds: float, clock_ns: int) -> None:
        clock.idle(seconds, clock_ns)
        if len(clock.idled) == 3:
            stop.set()

    times = np.array([1000 * SECOND, 9000 * SECOND], np.int64)
    assert [part.stop for part in pace.parts(times, idle, stop)] == [1]
    assert len(clock.idled) == 3
