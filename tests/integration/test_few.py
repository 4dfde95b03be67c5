"""A small question before the large one finds what that one finds, also of windows with late packets."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.query import filters, flow_sql
from console.store.client import Store
from tests.integration.fix_api import FLOWS, SPAN, mapped
from tests.integration.test_api_filters import EXPRESSIONS

pytestmark = pytest.mark.clickhouse


@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.just("") | EXPRESSIONS,
    sort=st.sampled_from([*flow_sql.SORTS, flow_sql.HISTORY]),
    limit=st.sampled_from([0, 3, 60]),
    after=st.none() | st.sampled_from(FLOWS),
)
def test_few_flows_are_those_of_the_question_for_all(
    store: Store, text: str, sort: str, limit: int, after: dict[str, Any] | None
) -> None:
    """The first question is for 100, 106 or 220 rows of 400."""
    page = after and {key: mapped(after[key]) if key.endswith("_addr") else after[key] for key in flow_sql.KEYS}
    asked: dict[str, Any] = {**SPAN, "sort": sort, "limit": limit, "after": page}
    sql, parameters = flow_sql.flows(filters.parse(text), **asked)
    expected = store.select(sql, parameters)
    found = store.select(*store.last(flow_sql.few(filters.parse(text), **asked)))
    if sort == flow_sql.HISTORY:
        assert found == expected
        return

    def size(row: dict[str, Any]) -> Any:
        return row["window_begin"] if sort == "time" else row[sort] + row[f"{sort}_rev"]

    assert [size(row) for row in found] == [size(row) for row in expected]
    if limit:
        sql, parameters = flow_sql.flows(filters.parse(text), **asked | {"limit": 0})
        expected = store.select(sql, parameters)  # of equal size any may be shown
    assert {*map(str, found)} <= {*map(str, expected)}
