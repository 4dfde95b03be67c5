from streams.partition.watermark import Watermark

S = 1_000_000_000
T0 = 1_800_000_000


def watermark() -> Watermark:
    return Watermark(timeout_seconds=10, window_seconds=10)


def test_it_is_the_lowest_clock_of_the_nodes() -> None:
    mark = watermark()
    mark.hear("a", (T0 + 5) * S, 0, T0 + 5)
    assert mark.advance(T0 + 5, 10) == (T0 + 5) * S
    mark.hear("b", (T0 + 7) * S, 0, T0 + 7)
    mark.hear("a", (T0 + 6) * S, 0, T0 + 7)
    assert mark.advance(T0 + 7, 10) == (T0 + 6) * S


def test_a_clock_that_is_set_back_neither_opens_what_was_closed_nor_holds_the_rest_open() -> None:
    mark = watermark()
    mark.hear("a", (T0 + 5) * S, 0, T0 + 5)
    assert mark.advance(T0 + 5, 10) == (T0 + 5) * S
    mark.hear("a", (T0 - 3600) * S, (T0 - 3600) * S, T0 + 6)
    mark.hear("b", (T0 + 8) * S, 0, T0 + 8)
    assert mark.advance(T0 + 8, 10) == (T0 + 5) * S
    mark.hear("a", (T0 + 9) * S, 0, T0 + 9)
    assert mark.advance(T0 + 9, 10) == (T0 + 8) * S


def test_it_never_goes_back() -> None:
    mark = watermark()
    mark.hear("a", (T0 + 5) * S, 0, T0 + 5)
    mark.advance(T0 + 5, 10)
    mark.hear("b", (T0 + 1) * S, 0, T0 + 5)
    assert mark.advance(T0 + 5, 10) == (T0 + 5) * S


def test_a_clock_that_is_not_known_yet_holds_nothing_back() -> None:
    mark = watermark()
    mark.hear("a", 0, T0 * S, T0)
    assert mark.advance(T0, 10) == 0
    mark.hear("b", T0 * S, 0, T0)
    assert mark.advance(T0, 10) == T0 * S


def test_a_silent_node_is_left_out_after_the_timeout() -> None:
    mark = watermark()
    mark.hear("a", T0 * S, 0, T0)
    mark.hear("b", (T0 + 9) * S, 0, T0 + 9)
    assert mark.advance(T0 + 10, 10) == T0 * S
    assert mark.advance(T0 + 10.1, 10) == (T0 + 9) * S
    assert mark.nodes == 1


def test_when_all_are_silent_the_last_window_ends() -> None:
    mark = watermark()
    mark.hear("a", (T0 + 3) * S, (T0 + 12) * S, T0)
    assert mark.advance(T0 + 11, 10) == (T0 + 20) * S


def test_a_node_a_minute_behind_does_not_hold_the_others_back() -> None:
    mark = watermark()
    mark.hear("replay", (T0 - 1000) * S, 0, T0)
    mark.hear("a", T0 * S, 0, T0)
    assert mark.advance(T0, 10) == T0 * S


def test_a_clock_in_the_future_does_not_make_the_others_laggards() -> None:
    mark = watermark()
    mark.hear("wrong", (T0 + 86_400) * S, 0, T0)
    mark.hear("a", T0 * S, 0, T0)
    assert mark.advance(T0, 10) == T0 * S
