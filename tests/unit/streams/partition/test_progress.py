from hypothesis import given
from hypothesis import strategies as st

from streams.partition.progress import committable


@given(
    st.integers(0, 50),
    st.lists(st.integers(0, 50)),
    st.dictionaries(st.integers(0, 50), st.integers(0, 50), max_size=5),
)
def test_never_past_what_is_needed_and_never_inside_a_span(
    position: int, needed: list[int], spans: dict[int, int]
) -> None:
    needed = [offset for offset in needed if offset < position]
    result = committable(position, needed, spans)
    assert result <= min(needed, default=position)
    assert not any(first < result <= last for first, last in spans.items())
    higher = range(result + 1, min(needed, default=position) + 1)
    assert all(any(first < offset <= last for first, last in spans.items()) for offset in higher)


def test_with_nothing_to_wait_for_all_is_acknowledged() -> None:
    assert committable(7, [], {}) == 7


def test_spans_that_touch_are_followed_to_the_first() -> None:
    assert committable(9, [8], {5: 8, 2: 5}) == 2
