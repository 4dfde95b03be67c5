"""The wall clock follows the machine's steps. Both clocks are made up."""

from producer.clock import WallClock


class Clocks:
    """Monotonic time that goes on by `tick` at each reading; the wall clock is `ahead` of it."""

    def __init__(self, ahead: int, tick: int = 0) -> None:
        self.now, self.ahead, self.tick = 1_000, ahead, tick

    def monotonic(self) -> int:
        self.now += self.tick
        return self.now

    def wall(self) -> int:
        return self.now + self.ahead


def test_a_moment_is_told_by_the_difference_of_the_clocks() -> None:
    clocks = Clocks(ahead=1_000_000)
    assert WallClock(clocks.monotonic, clocks.wall).wall_ns(5) == 1_000_005


def test_a_step_is_followed_at_the_next_refresh_and_not_before() -> None:
    clocks = Clocks(ahead=10_000)
    clock = WallClock(clocks.monotonic, clocks.wall)
    clocks.ahead = -50_000
    assert clock.wall_ns(0) == 10_000
    assert clock.refresh() == -60_000
    assert clock.wall_ns(0) == -50_000


def test_the_reading_that_was_interrupted_least_counts() -> None:
    delays = iter([(0, 900), (0, 10), (0, 500)])
    state = {"now": 0, "reads": 0}

    def monotonic() -> int:
        if state["reads"] % 2 == 0:
            state["delay"] = next(delays)[1]
        else:
            state["now"] += state["delay"]
        state["reads"] += 1
        return state["now"]

    # the wall clock is read at the beginning of each interval: half of it is the error of that try
    clock = WallClock(monotonic, lambda: state["now"] + 7_000_000)
    assert clock.offset_ns == 7_000_000 - 5
