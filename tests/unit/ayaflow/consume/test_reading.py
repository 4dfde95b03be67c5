from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ayaflow.consume import Flows, Packets, SettingsError
from ayaflow.consume.fetched import Opened, Stretch, stretch_of
from ayaflow.consume.reading import Span

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"since": datetime(2026, 5, 1)}, "since has no time zone"),  # noqa: DTZ001
        ({"since": NOON, "until": NOON}, "since must be before until"),
        ({"group": "g", "until": NOON}, "leave one of them out"),
        ({"resume": dict, "until": NOON}, "leave one of them out"),
        ({"late": timedelta(hours=1)}, "give until, too"),
        ({"properties": {"group.id": "g"}}, "write group="),
        ({"properties": {"enable.auto.commit": "true"}}, "enable.auto.commit cannot be set"),
        ({"properties": {"fetch.min.bytes": 5}}, "must be a text"),
        ({"schema_registry": "nowhere"}, "write it as http://"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("kind", [Flows, Packets])
def test_what_cannot_be_is_said_at_once(kind: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        kind(**arguments)


def test_the_bounds_of_a_range_are_exact() -> None:
    span = Span.of(NOON, NOON + timedelta(microseconds=3))
    assert span.since_ns == int(NOON.timestamp()) * 10**9
    assert span.until_ns == span.since_ns + 3000


@given(
    st.lists(st.integers(0, 30), max_size=20, unique=True).map(sorted),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(0, 30)),
)
def test_of_a_partition_each_offset_is_taken_once_up_to_the_end(
    offsets: list[int], begin: int, position: int, cut: int, end: int | None
) -> None:
    """In two fetches, of which the second has some of the first again."""
    opened = Opened(begin, position, end, None)
    made = [offsets[:cut], offsets[max(0, cut - 2) :]]
    taken, new, missing = list[int](), list[int](), 0
    for some in map(np.array, filter(None, made)):
        found: Stretch[None] | None = stretch_of(opened, np.arange(len(some)), some)
        if found is not None:
            taken += some[found.numbers].tolist()
            new += [each for each in some[found.numbers].tolist() if each >= found.begin]
            missing += found.missing
            assert found.end == opened.position
    assert taken == [each for each in offsets if position <= each and (end is None or each < end)]
    assert new == [each for each in taken if each >= begin]
    first = max(begin, position)
    assert missing == (max(0, taken[-1] + 1 - first) - len(new) if taken else 0)
