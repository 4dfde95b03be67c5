"""Which question follows on the first, small one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from console.query import flow_sql
from console.query.filters import parse

UNTIL = datetime(2026, 5, 31, tzinfo=UTC)
HOUR = int(datetime(2026, 5, 7, 12, tzinfo=UTC).timestamp())
RARE = "addr = 192.0.2.1"


def asked(text: str, sort: str, limit: int, *, rows: int, flows: int) -> list[str]:
    """The kinds of questions, where the newest rows are so many and of so many flows."""
    steps = flow_sql.few(parse(text), since=UNTIL - timedelta(days=30), until=UNTIL, sort=sort, limit=limit)
    kinds: list[str] = []
    answer: Any = None
    try:
        while True:
            sql, parameters = steps.send(answer)
            assert sql.startswith("SELECT sum(rows) AS rows")
            kinds.append("newest")
            answer = [
                {
                    "rows": str(min(rows, int(parameters["rows"]))),
                    "flows": str(flows),
                    "oldest": HOUR + 70,
                    "hours": [HOUR] if rows else [],
                }
            ]
    except StopIteration as end:
        sql, parameters = end.value
    if "page" in parameters:
        assert ("GROUP BY" not in sql) == (rows == flows)  # each row is a flow
        assert parameters["page"] == HOUR + 70
        assert (f"IN ({HOUR})" if rows else "AND 0 AND") in sql
    return [*kinds, "some" if "page" in parameters else "all"]


@pytest.mark.parametrize("sort", ["time", "bytes", flow_sql.HISTORY])
@pytest.mark.parametrize("text", [RARE, "bytes > 10"])
@pytest.mark.parametrize(("rows", "flows"), [(0, 0), (1, 1), (299, 299), (299, 298)])
def test_of_few_rows_only_the_hours_are_read_in_which_they_lie(sort: str, text: str, rows: int, flows: int) -> None:
    assert asked(text, sort, 100, rows=rows, flows=flows) == ["newest", "some"]


@pytest.mark.parametrize(
    ("text", "sort", "limit", "flows", "kinds"),
    [
        ("", "time", 100, 100, ["newest", "some"]),
        (RARE, flow_sql.HISTORY, 100, 100, ["newest", "some"]),
        ("", "time", 100, 99, ["newest", "all"]),  # so many revisions that older windows may belong to the page
        ("bytes > 10", "time", 100, 300, ["newest", "all"]),  # the newest may all be smaller
        (RARE, "bytes", 100, 300, ["newest", "all"]),
        (RARE, "time", 0, 100, ["newest", "all"]),
        ("", "bytes", 100, 0, ["all"]),
        ("", "time", 5_000, 0, ["all"]),
    ],
)
def test_of_many_rows_the_newest_are_read_if_they_are_enough(
    text: str, sort: str, limit: int, flows: int, kinds: list[str]
) -> None:
    assert asked(text, sort, limit, rows=10**9, flows=flows) == kinds
