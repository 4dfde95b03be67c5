"""Whatever falls into which bucket, the groups that are found are the largest."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.query import largest
from console.query.explore_sql import MEASURES, Question, dimensions
from console.query.filters import parse

LATER = datetime(2026, 5, 2, tzinfo=UTC)
GROUPS = st.dictionaries(st.integers(0, 999), st.integers(1, 50), min_size=1, max_size=60)


def question(by: str, hours: int = 24) -> Question:
    return Question(
        by=dimensions(by), flow_filter=parse(""), since=LATER - timedelta(hours=hours), until=LATER, oldest_raw=None
    )


def rows(sizes: dict[int, int], limit: int) -> list[dict[str, Any]]:
    """As ClickHouse answers: numbers of 64 bits as text."""
    total = {f"total_{measure}": str(sum(sizes.values())) for measure in MEASURES}
    ordered = sorted(sizes.items(), key=lambda one: (-one[1], one[0]))[:limit]
    return [{"group": key, **dict.fromkeys(MEASURES, str(size)), **total} for key, size in ordered]


def answered(
    groups: dict[int, int], buckets: int, kept: int, limit: int
) -> tuple[list[int], dict[str, int], list[str]]:
    """Groups, totals and the kinds of questions; a group is in the bucket `group % buckets`."""
    heavy = Counter[int]()
    for group, size in groups.items():
        heavy[group % buckets] += size
    steps, asked, answer = largest.top(question("src_addr,dst_addr"), sort="flows", limit=limit, kept=kept), [], None
    try:
        while True:
            sql, parameters = steps.send(answer)  # type: ignore[arg-type]
            if sql.startswith("SELECT toUInt16("):
                asked.append("buckets")
                largest_first = sorted(heavy.items(), key=lambda one: (-one[1], one[0]))[: int(parameters["limit"])]
                answer = [{"bucket": bucket, "size": str(size)} for bucket, size in largest_first]
            elif sql.startswith("SELECT 1 AS everything"):
                asked.append("totals")
                assert "services_1m" in sql
                answer = rows({0: sum(groups.values())}, 1)
            else:
                chosen = re.search(r"toUInt16\(.*\) IN \(([\d, ]+)\)", sql)
                asked.append("some" if chosen else "all")
                inside = {int(one) for one in chosen[1].split(",")} if chosen else {*range(buckets)}
                answer = rows({g: s for g, s in groups.items() if g % buckets in inside}, limit)
    except StopIteration as end:
        found, totals = end.value
    return [row["group"] for row in found], totals, asked


@given(GROUPS, st.integers(1, 40), st.integers(1, 20), st.integers(1, 30))
def test_they_are_those_of_one_question_for_all(groups: dict[int, int], buckets: int, kept: int, limit: int) -> None:
    found, totals, asked = answered(groups, buckets, kept, limit)
    assert found == [row["group"] for row in rows(groups, limit)]
    assert totals == dict.fromkeys(MEASURES, sum(groups.values()))
    assert asked[0] == "buckets"


def test_few_large_groups_are_found_without_asking_for_all() -> None:
    groups = dict.fromkeys(range(500), 1) | {7: 9_000, 8: 8_000}
    assert answered(groups, buckets=40, kept=5, limit=2)[::2] == ([7, 8], ["buckets", "some", "totals"])
    assert answered(groups, buckets=40, kept=5, limit=3)[2] == ["buckets", "some", "all"]
    assert answered(groups, buckets=5, kept=5, limit=3)[2] == ["buckets", "all"]


@pytest.mark.parametrize(
    ("by", "hours", "limit", "first"),
    [
        ("src_addr,protocol,dst_port,dst_addr", 24, 20, "SELECT toUInt16("),
        ("pair", 6, 200, "SELECT toUInt16("),
        ("addr,dst_port", 24, 20, "SELECT if("),
        ("pair", 5, 20, "SELECT tuple("),
        ("pair", 24, 1_000, "SELECT tuple("),
        ("dst_port", 24, 20, "SELECT u.dst_port"),
    ],
)
def test_it_is_asked_of_ends_over_hours_for_a_page(by: str, hours: int, limit: int, first: str) -> None:
    sql, _ = next(largest.top(question(by, hours), sort="bytes", limit=limit))
    assert sql.startswith(first)
