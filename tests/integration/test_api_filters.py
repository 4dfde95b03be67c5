"""Filters as ClickHouse reads them: it chooses the flows that our evaluator chooses."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.query import explore_sql, filters, flow_sql
from console.query.match import matches
from console.query.vocabulary import FIELDS
from console.store.client import Store
from schemas.fields import Kind
from tests.integration.fix_api import ADDRESSES, DOMAINS, FLOWS, NETWORKS, SPAN

pytestmark = pytest.mark.clickhouse


def quoted(text: str) -> str:
    return f'"{text}"'


def values_of(name: str) -> st.SearchStrategy[str]:
    """Words that some rows have and others that none has."""
    field = FIELDS[name]
    here = (
        sorted({str(flow[column]) for flow in FLOWS for column in field.columns})
        if name
        in {
            "node",
            "interface",
            "direction",
            "protocol",
            "src_port",
            "dst_port",
            "port",
            "vlan_id",
            "icmp_type",
            "tunnel_type",
            "tunnel_id",
            "domain_source",
            "domain_count",
            "ja4",
            "alpn",
        }
        else []
    )
    match field.kind:
        case Kind.ADDRESS:
            return st.sampled_from([*ADDRESSES, *NETWORKS])
        case Kind.CHOICE:
            return st.sampled_from([*map(quoted, here)])
        case Kind.DOMAIN:
            below = [".example.org", ".ORG", ".www.example.org.", ".", ".xample.org"]
            return st.sampled_from([*map(quoted, DOMAINS), "WWW.example.org", "b\u00fccher.example", *below])
        case Kind.TEXT:
            return st.sampled_from([*map(quoted, here), "nowhere"])
        case Kind.PROTOCOL:
            return st.sampled_from([*here, "tcp", "sctp"])
    return st.sampled_from([*here, "0", "1"]) | st.integers(field.smallest, min(field.largest, 20_000)).map(str)


PATTERNS = ["WWW", "e.org$", "web", "^web1$", "1|2", "B", "(?i)B", ".", "h0", chr(92) * 2]
HERE = [name for name, field in FIELDS.items() if all(column in FLOWS[0] for column in field.columns)]


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(HERE))
    field = FIELDS[name]
    operator = draw(st.sampled_from(field.operators))
    if "~" in operator:
        return f"{name} {operator} {quoted(draw(st.sampled_from(PATTERNS)))}"
    if operator.endswith("in"):
        words = draw(st.lists(values_of(name), min_size=1, max_size=3))
        if field.kind in {Kind.NUMBER, Kind.PORT} and field.largest > 9 and draw(st.booleans()):
            words.append("10-600" if field.largest > 600 else "1-9")
        return f"{name} {operator} ({', '.join(words)})"
    return f"{name} {operator} {draw(values_of(name))}"


EXPRESSIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda one: f"not {one}" if one.startswith("(") else f"not ({one})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=EXPRESSIONS)
def test_clickhouse_chooses_the_flows_that_the_evaluator_chooses(store: Store, text: str) -> None:
    chosen = filters.parse(text)
    sql, parameters = flow_sql.flows(chosen, since=SPAN["since"], until=SPAN["until"], sort="time", limit=0)
    found = store.document(sql, parameters)
    names = [column["name"] for column in found["meta"]]
    rows = [dict(zip(names, row, strict=True)) for row in found["data"]]

    def key(row: dict[str, Any], start: int) -> tuple[Any, ...]:
        return (start, *(row[name] for name in (*list(flow_sql.KEYS)[1:], "packets", "bytes", "tcp_flags")))

    expected = sorted(key(flow, flow["window_begin"]) for flow in FLOWS if matches(chosen, flow))
    assert sorted(key(row, int(datetime.fromisoformat(row["window_begin"]).timestamp())) for row in rows) == expected
    # and the sums of top are those of the same flows, whatever table they come from
    question = explore_sql.Question(by=("direction",), flow_filter=chosen, **SPAN, oldest_raw=None)
    sql, parameters = explore_sql.top(question, sort="bytes", limit=10)
    answer = store.document(sql, parameters)
    at = [column["name"] for column in answer["meta"]].index("total_bytes")
    expected_bytes = sum(flow["bytes"] for flow in FLOWS if matches(chosen, flow))
    assert (answer["data"][0][at] if answer["data"] else 0) == expected_bytes
