from schemas.batches import RingId
from streams.partition.watermark import Skew, Watermark

S = 1_000_000_000
T0 = 1_800_000_000


class Mark:
    """A watermark whose clock is right."""

    def __init__(self) -> None:
        self.mark = Watermark(timeout_seconds=10, window_seconds=10)

    def hear(self, node: str, second: float | None, now: float, *, ring: int = 1, latest: float = -T0) -> None:
        clock_ns = 0 if second is None else int((T0 + second) * S)
        self.mark.hear(RingId(node, ring), clock_ns, int((T0 + latest) * S), T0 + now, T0 + now)

    def at(self, now: float) -> float:
        value = self.mark.advance(T0 + now, T0 + now, 10)
        return value / S - T0 if value else -1.0


def test_it_is_the_lowest_clock_of_the_nodes() -> None:
    mark = Mark()
    mark.hear("a", 5, 5)
    assert mark.at(5) == 5
    mark.hear("b", 7, 7)
    mark.hear("a", 6, 7)
    assert mark.at(7) == 6


def test_a_clock_that_is_set_back_takes_it_back_and_holds_the_rest_open_for_a_minute_at_most() -> None:
    mark = Mark()
    mark.hear("a", 5, 5)
    assert mark.at(5) == 5
    mark.hear("a", -3600, 6)
    assert mark.at(6) == -3600
    mark.hear("b", 8, 8)
    assert mark.at(8) == 8
    mark.hear("a", 7, 9)
    assert mark.at(9) == 7


def test_a_slower_one_that_joins_takes_it_back() -> None:
    mark = Mark()
    mark.hear("a", 5, 5)
    assert mark.at(5) == 5
    mark.hear("b", 1, 5)
    assert mark.at(5) == 1


def test_a_clock_that_is_not_known_yet_holds_nothing_back() -> None:
    mark = Mark()
    mark.hear("a", None, 0, latest=0)
    assert mark.at(0) == -1
    mark.hear("b", 0, 0)
    assert mark.at(0) == 0


def test_a_silent_node_is_left_out_after_the_timeout() -> None:
    mark = Mark()
    mark.hear("a", 0, 0)
    mark.hear("b", 9, 9)
    assert mark.at(10) == 0
    assert mark.at(10.1) == 9
    assert mark.mark.living == 1


def test_when_all_are_silent_the_last_window_ends() -> None:
    mark = Mark()
    mark.hear("a", 3, 0, latest=12)
    assert mark.at(11) == 20


def test_a_node_a_minute_behind_does_not_hold_the_others_back() -> None:
    mark = Mark()
    mark.hear("replay", -1000, 0)
    mark.hear("a", 0, 0)
    assert mark.at(0) == 0


def test_a_clock_in_the_future_does_not_make_the_others_laggards() -> None:
    mark = Mark()
    mark.hear("wrong", 86_400, 0)
    mark.hear("a", 0, 0)
    assert mark.at(0) == 0


def test_nothing_is_left_of_a_clock_in_the_future_that_was_alone_for_a_while() -> None:
    mark = Mark()
    mark.hear("a", 0, 0)
    mark.hear("wrong", 365 * 86_400, 0)
    mark.hear("wrong", 365 * 86_400, 9)
    assert mark.at(11) > 86_400  # the others were silent: their windows are closed
    mark.hear("a", 12, 12)
    assert mark.at(12) == 12
    assert mark.at(30) > 86_400  # nobody lives
    mark.hear("a", 31, 31)
    assert mark.at(31) == 31


def test_two_producers_of_one_name_have_a_clock_each() -> None:
    mark = Mark()
    mark.hear("a", 5, 5, ring=1)
    mark.hear("a", 3, 5, ring=2)
    assert mark.at(5) == 3


def test_how_far_a_clock_is_from_ours_is_told_while_its_node_lives() -> None:
    mark = Mark()
    mark.hear("wrong", 3600, 0)
    mark.hear("a", -2, 0)
    mark.hear("unknown", None, 0)
    assert sorted(mark.mark.skews()) == [Skew(-2, "a"), Skew(3600, "wrong")]
    mark.at(11)
    assert mark.mark.skews() == []
