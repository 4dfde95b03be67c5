"""Which tables answer for a time range."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.query.explore_sql import Question, step_for
from console.query.filters import parse
from console.query.plan import BY_ENDS, BY_HOST, BY_SERVICE, RAW, Segment, Tables, plan, tables

PERIODS = {"hosts_1h": 3600, "services_1m": 60, "flows_1d": 86_400, "flows_1h": 3600, "flows": 1}
BY_ENDS_AND_PLACE = {3600: "flows_1h", 0: "flows"}
SECONDS = st.integers(0, 5_000_000)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_a_range_is_cut_at_days_and_hours_or_at_minutes() -> None:
    assert plan(at(82_850), at(183_605)).segments == (
        Segment(table="flows", first=82_850, last=86_400),
        Segment(table="flows_1d", first=86_400, last=172_800),
        Segment(table="flows_1h", first=172_800, last=183_600),
        Segment(table="flows", first=183_600, last=183_605),
    )
    assert plan(at(3550), at(7265), BY_SERVICE).segments == (
        Segment(table="flows", first=3550, last=3600),
        Segment(table="services_1m", first=3600, last=7260),
        Segment(table="flows", first=7260, last=7265),
    )


@given(
    SECONDS,
    SECONDS,
    st.sampled_from([RAW, BY_ENDS, BY_ENDS_AND_PLACE, BY_HOST, BY_SERVICE]),
    st.sampled_from([0, 1, 30, 60, 300, 3600, 7200, 86_400, 172_800]),
)
def test_the_parts_are_the_range_and_each_table_holds_its_own_whole(
    first: int, size: int, chosen: Tables, step: int
) -> None:
    found = plan(at(first), at(first + size + 1), chosen, step=step)
    edges = [found.since, *(segment.last for segment in found.segments)]
    assert [segment.first for segment in found.segments] == edges[:-1]
    assert (found.since, edges[-1]) == (first, first + size + 1)
    for segment in found.segments:
        assert segment.first % PERIODS[segment.table] == segment.last % PERIODS[segment.table] == 0
        assert segment.table == "flows" or not step % PERIODS[segment.table]
        assert segment.table in chosen.values()
    if chosen is not RAW and not step:
        finest = min(filter(None, chosen))
        assert sum(segment.last - segment.first for segment in found.segments if segment.table == "flows") < 2 * finest


@pytest.mark.parametrize(
    ("columns", "one_end", "chosen"),
    [
        ({"protocol", "dst_port", "interface"}, False, BY_SERVICE),
        (set(), False, BY_SERVICE),
        ({"src_addr", "node", "primary"}, True, BY_HOST),
        ({"src_addr", "dst_addr"}, True, BY_HOST),
        ({"src_addr", "dst_addr"}, False, BY_ENDS),
        ({"src_addr", "dst_port"}, True, BY_ENDS),
        *(({"src_addr", "dst_addr", place}, False, BY_ENDS_AND_PLACE) for place in ("node", "interface", "direction")),
        ({"src_addr", "interface"}, True, BY_ENDS_AND_PLACE),
    ],
)
def test_the_smallest_tables_with_the_columns_are_chosen(columns: set[str], chosen: Tables, *, one_end: bool) -> None:
    assert tables(columns, raw=False, one_end=one_end) == chosen
    assert tables(columns, raw=True, one_end=one_end) is RAW


def test_a_fraction_of_a_second_at_the_end_is_in_the_range() -> None:
    assert plan(at(10.7), at(20.2), RAW).segments == (Segment(table="flows", first=10, last=21),)


def test_where_the_raw_windows_are_gone_the_periods_of_the_ends_are_taken_whole() -> None:
    found = plan(at(100_000), at(200_000), BY_HOST, oldest_raw=at(150_000))
    assert found.segments[0] == Segment(table="hosts_1h", first=97_200, last=198_000)
    found = plan(at(100_000), at(140_000), BY_SERVICE, oldest_raw=at(150_000))
    assert found.segments == (Segment(table="services_1m", first=99_960, last=140_040),)
    assert plan(at(100_000), at(200_000), RAW, oldest_raw=at(150_000)).since == 100_000


@pytest.mark.parametrize(
    ("seconds", "points", "window", "step"),
    [
        (300, 200, 10, 10),
        (3600, 200, 10, 30),
        (86_400, 200, 10, 600),
        (86_400, 24, 10, 3600),
        (60, 200, 7, 14),
        (60, 60, 1, 1),
        (400 * 86_400, 100, 10, 604_800),
        (7200, 10, 3600, 3600),
        (5000 * 86_400, 10, 10, 500 * 86_400),
    ],
)
def test_a_step_is_a_round_number_of_windows(seconds: int, points: int, window: int, step: int) -> None:
    assert step_for(at(0), at(seconds), points, window) == step


@pytest.mark.parametrize(("by", "step"), [("src_addr", 3600), ("dst_port", 60), ("src_port", 10)])
def test_where_the_raw_windows_are_gone_a_step_is_one_that_the_rollups_have(by: str, step: int) -> None:
    question = Question(by=(by,), flow_filter=parse(""), since=at(0), until=at(900), oldest_raw=at(86_400))
    assert question.step(200, 10) == step
    assert replace(question, oldest_raw=None).step(200, 10) == 10
    assert {segment.table for segment in question.plan(step).segments} <= {
        "flows" if step == 10 else "hosts_1h",
        "services_1m",
    }


@pytest.mark.parametrize("begin", [0, 1, 1_790_000_000, 1_795_737_595])
@pytest.mark.parametrize("seconds", [1, 60, 3600, 7 * 86_400, 400 * 86_400])
@pytest.mark.parametrize("window", [1, 7, 10, 3600])
def test_one_point_is_one_step(begin: int, seconds: int, window: int) -> None:
    step = step_for(at(begin), at(begin + seconds), 1, window)
    ends = plan(at(begin), at(begin + seconds), RAW, oldest_raw=None, step=step)
    assert step % window == 0
    assert len(range(ends.since // step * step, ends.until, step)) == 1
