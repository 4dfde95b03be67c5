"""How moments are written."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import pytest

from common.times import iso

MOMENT = datetime(2026, 5, 1, 12, 0, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("digits", "text"),
    [(0, "2026-05-01T12:00:59Z"), (3, "2026-05-01T12:00:59.999Z"), (6, "2026-05-01T12:00:59.999999Z")],
)
def test_a_fraction_is_cut_off_and_not_rounded(digits: Literal[0, 3, 6], text: str) -> None:
    assert iso(MOMENT, digits=digits) == text
    assert iso(MOMENT.timestamp(), digits=digits) == text


def test_every_moment_is_written_in_utc_and_with_all_its_digits() -> None:
    eastern = timezone(timedelta(hours=-11))
    assert iso(datetime(2026, 5, 1, 1, tzinfo=eastern), digits=6) == "2026-05-01T12:00:00.000000Z"
    assert iso(0) == "1970-01-01T00:00:00Z"
