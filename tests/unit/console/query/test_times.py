"""Points in time as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import QueryError
from common.times import iso, local
from console.query import times

NOW = datetime(2026, 5, 17, 13, 45, 30, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("30s", NOW - timedelta(seconds=30)),
        ("10m", NOW - timedelta(minutes=10)),
        ("-10m", NOW - timedelta(minutes=10)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("1.5h", NOW - timedelta(minutes=90)),
        (" 2D ", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(days=7)),
        ("today", datetime(2026, 5, 17, tzinfo=UTC)),
        ("yesterday", datetime(2026, 5, 16, tzinfo=UTC)),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01 12:00", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00Z", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00+02:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_time_is_understood(text: str, expected: datetime) -> None:
    assert times.parse(text, now=NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "10", "10x", "10 m", "2026-13-01", "m", "1h-30m"])
def test_what_is_not_a_time_is_refused_and_the_forms_are_named(text: str) -> None:
    with pytest.raises(QueryError, match=r"--since .*10m, 2h, 1d") as caught:
        times.parse(text, now=NOW, option="--since")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1969-12-31", "2107-01-01", "0001-01-01T00:00:00+10:00"])
def test_what_the_tables_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="1970 to 2106"):
        times.parse(text, now=NOW)


def test_longer_ago_than_1970_is_1970() -> None:
    assert times.parse("99999999999d", now=NOW) == times.EARLIEST


def test_midnight_is_utc_wherever_the_clock_is() -> None:
    eastern = NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00:00-11:00").tzinfo)
    assert times.parse("today", now=eastern) == datetime(2026, 5, 17, tzinfo=UTC)


@pytest.mark.parametrize(("since", "until"), [("1m", "10m"), ("now", "now")])
def test_a_range_that_ends_before_it_begins_is_refused(since: str, until: str) -> None:
    with pytest.raises(QueryError, match="is not before"):
        times.parse_range(since, until, now=NOW)


def test_an_end_of_a_range_may_be_open() -> None:
    assert times.parse_range(None, None, now=NOW) == (times.EARLIEST, times.LATEST)
    assert times.parse_range("now", None, now=NOW) == (NOW, times.LATEST)
    assert times.parse_range(None, "now", now=NOW) == (times.EARLIEST, NOW)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2106, 1, 1)))  # noqa: DTZ001  hypothesis wants naive limits
def test_what_we_print_is_read_back(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    assert times.parse(iso(moment), now=NOW) == moment


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-10-24T22:00:00Z"),
        ("yesterday", "2026-10-23T22:00:00Z"),
        ("2026-10-25", "2026-10-24T22:00:00Z"),
        ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),  # the first of two
        ("2026-10-25 03:00", "2026-10-25T02:00:00Z"),
        ("2026-10-25T03:00Z", "2026-10-25T03:00:00Z"),
        ("now", "2026-10-25T12:00:00Z"),
    ],
)
def test_days_and_times_can_be_those_of_the_machines_clock(text: str, expected: str) -> None:
    assert iso(times.parse(text, now=datetime(2026, 10, 25, 12, tzinfo=UTC), local=True)) == expected


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31"])
def test_local_times_that_no_table_holds_are_refused(text: str) -> None:
    with pytest.raises(QueryError, match="outside of 1970 to 2106"):
        times.parse(text, now=NOW, local=True)


@pytest.mark.usefixtures("berlin")
def test_times_in_a_text_are_said_with_the_offset_of_the_machines_clock() -> None:
    assert (
        local("From 2026-10-25T00:30:00Z to 2026-10-25T01:30:00.5Z; x2026-10-25T01:30:00Z, 1 node")
        == "From 2026-10-25T02:30:00+02:00 to 2026-10-25T02:30:00.500000+01:00; x2026-10-25T01:30:00Z, 1 node"
    )
