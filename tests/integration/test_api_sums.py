"""Sums over the API: tops and series, whatever table they come from."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from common import settings as settings_module
from common.times import iso
from console.query import explore_sql, largest
from console.query.filters import parse
from console.store.client import Store
from tests.integration.fix_api import ADDRESSES, NOW, RANGE, STORED, api_client, mapped, top
from tests.integration.fix_tables import Tables

pytestmark = pytest.mark.clickhouse

PLACES = {"node": ["n1", "n2"], "interface": ["eth0", "eth1"], "direction": ["ingress", "egress"]}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(-11_000, 0), size=st.integers(1, 12_000))
def test_sums_from_rollups_are_those_of_the_windows_that_start_in_the_range(
    api: TestClient, first: int, size: int
) -> None:
    span = {
        name: datetime.fromtimestamp(NOW + second, UTC).isoformat()
        for name, second in (("since", first), ("until", first + size))
    }
    inside = [row for row in STORED if NOW + first <= row["window_begin"] < NOW + first + size]
    answer = api.get("/api/top", params={**span, "by": "dst_addr"}).json()
    assert answer["total"] == {
        **{name: sum(row[name] for row in inside) for name in ("packets", "bytes", "packets_rev", "bytes_rev")},
        "records": len(inside),
    }
    series = api.get("/api/series", params={**span, "by": "protocol", "points": 7}).json()
    values = [value or 0 for one in series["series"] for value in one["values"]]  # null: nothing is known
    assert sum(values) == sum(row["bytes"] + row["bytes_rev"] for row in inside)
    assert series["since"] == answer["since"]


def test_the_coarsest_table_that_has_what_is_asked_is_read(api: TestClient) -> None:
    assert top(api, by="dst_port")["table"] == top(api, by="node", filter="interface = eth0")["table"] == "services_1m"
    for one_end in (
        {"by": "src_addr"},
        {"by": "addr", "filter": "node = web1"},
        {"by": "node", "filter": "addr = 10.0.0.1"},
        {"by": "dst_addr", "filter": "dst_addr in 10.0.0.0/8"},
    ):
        assert top(api, **one_end)["table"] == "hosts_1h"
    for both in (
        {"by": "src_addr,dst_port"},
        {"by": "pair"},
        {"by": "addr", "filter": "addr = 10.0.0.1"},
        {"by": "node", "filter": "addr in 10.0.0.0/8"},
        {"by": "node", "filter": "addr = 10.0.0.1 or addr = 10.0.0.2"},
        {"by": "src_addr", "filter": "dst_addr = 10.0.0.1"},
    ):
        assert top(api, **both)["table"] == "flows_1h"
    for raw in (
        {"by": "src_port"},
        {"by": "port"},
        {"by": "community_id"},
        {"filter": "src_port = 53"},
        {"filter": "bytes > 1"},
    ):
        assert top(api, **raw)["table"] == "flows"
    short = api.get(
        "/api/top",
        params={
            "since": datetime.fromtimestamp(NOW, UTC).isoformat(),
            "until": datetime.fromtimestamp(NOW + 300, UTC).isoformat(),
        },
    ).json()
    assert short["table"] == "flows"


def test_either_side_counts_what_each_end_sent_and_got(api: TestClient) -> None:
    sent: dict[str, list[int]] = {}
    for row in STORED:
        for mine, own, other in (("src_addr", "bytes", "bytes_rev"), ("dst_addr", "bytes_rev", "bytes")):
            if mine == "src_addr" or row["src_addr"] != row["dst_addr"]:
                sums = sent.setdefault(row[mine], [0, 0])
                sums[0] += row[own]
                sums[1] += row[other]
    answer = top(api, by="addr", limit=100)
    assert {row["addr"]: [row["bytes"], row["bytes_rev"]] for row in answer["rows"]} == sent
    assert answer["total"]["bytes"] == sum(row["bytes"] for row in STORED)
    pairs: dict[frozenset[str], int] = {}
    for row in STORED:
        key = frozenset((row["src_addr"], row["dst_addr"]))
        pairs[key] = pairs.get(key, 0) + row["bytes"] + row["bytes_rev"]
    rows = top(api, by="pair", limit=1000)["rows"]
    assert {frozenset(row["pair"]): row["bytes"] + row["bytes_rev"] for row in rows} == pairs


@pytest.mark.parametrize("expression", ["", "addr = 10.0.0.1", "dst_addr in 10.0.0.0/8", "primary = 1"])
@pytest.mark.parametrize("by", ["src_addr", "dst_addr", "addr", "node", "pair"])
def test_whatever_table_answers_the_sums_are_those_of_the_windows(api: TestClient, by: str, expression: str) -> None:
    """A condition that holds of each flow, and that only the windows know, makes them answer."""
    found = [
        top(api, by=by, limit=1000, filter=" and ".join(part for part in (expression, more) if part))
        for more in ("", "src_port >= 0")
    ]
    assert found[1]["table"] == "flows" != found[0]["table"]
    assert found[0]["rows"]
    for name in ("rows", "total"):
        assert found[0][name] == found[1][name]


@pytest.fixture
def of_days(tables: Tables) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """Flows of three days, which two nodes saw at two interfaces each, and a range that cuts the first and the last."""
    rng = random.Random(3)
    begin = NOW // 86_400 * 86_400 - 4 * 86_400
    rows = [
        {
            "window_begin": begin + rng.randrange(3 * 8_640) * 10,
            **{name: rng.choice(values) for name, values in PLACES.items()},
            "primary": rng.random() < 0.7,
            "src_addr": mapped(rng.choice(ADDRESSES)),
            "dst_addr": mapped(rng.choice(ADDRESSES[:3])),
            "dst_port": rng.choice([53, 443]),
            **{name: rng.randrange(2_000) for name in ("packets", "bytes", "packets_rev", "bytes_rev")},
        }
        for _ in range(400)
    ]
    tables.insert("flows", rows)
    flags = {"clickhouse.url": tables.url, "clickhouse.database": tables.database}
    with api_client(settings_module.load(flags={**flags, "kafka.bootstrap_servers": "127.0.0.1:1"})) as client:
        yield client, {"since": iso(begin + 5_000), "until": iso(begin + 2 * 86_400 + 7_000)}


@pytest.mark.parametrize(
    ("by", "expression", "table"),
    [
        ("pair", "", "flows_1d"),
        ("src_addr,dst_port", "dst_addr in 10.0.0.0/8", "flows_1d"),
        ("src_addr,dst_addr", "primary = 1", "flows_1d"),
        ("src_addr,dst_addr", "node = n1", "flows_1h"),
        ("pair,node", "", "flows_1h"),
        ("src_addr,dst_port", "interface = eth1", "flows_1h"),
        ("pair,interface", "primary = 0", "flows_1h"),
        ("pair,direction", "", "flows_1h"),
        ("src_addr,dst_addr", "direction = egress and node = n2", "flows_1h"),
        ("src_addr", "", "hosts_1h"),
        ("addr,node", "", "hosts_1h"),
    ],
)
def test_whole_days_are_read_where_nobody_asks_where_flows_were_seen(
    of_days: tuple[TestClient, dict[str, str]], by: str, expression: str, table: str
) -> None:
    client, span = of_days
    read, raw = (
        client.get("/api/top", params={**span, "by": by, "limit": "1000", "filter": chosen}).json()
        for chosen in (expression, " and ".join(part for part in (expression, "src_port >= 0") if part))
    )
    assert (read["table"], raw["table"]) == (table, "flows")
    assert len(read["rows"]) > 3
    for name in ("rows", "total"):
        assert read[name] == raw[name]


@pytest.mark.parametrize("sort", explore_sql.SIZES)
@pytest.mark.parametrize("by", ["pair", "src_addr,dst_addr", "addr,src_addr", "src_addr,protocol,dst_port,dst_addr"])
@pytest.mark.parametrize("expression", ["", "node = web1 and src_port > 9"])
def test_the_largest_groups_are_found_by_the_buckets_they_fall_into(
    store: Store, by: str, sort: str, expression: str
) -> None:
    span = {name: datetime.fromtimestamp(NOW + second, UTC) for name, second in (("since", -20_000), ("until", 7_000))}
    question = explore_sql.Question(
        by=explore_sql.dimensions(by), flow_filter=parse(expression), **span, oldest_raw=None
    )

    def found(kept: int, limit: int) -> tuple[Any, int]:
        asked, steps = 1, largest.top(question, sort=sort, limit=limit, kept=kept)
        sql, parameters = next(steps)
        try:
            while True:
                sql, parameters = steps.send(store.select(sql, parameters))
                asked += 1
        except StopIteration as end:
            rows, totals = end.value
            return ([{k: v for k, v in row.items() if not k.startswith("total_")} for row in rows], totals), asked

    (everything, totals), asked = found(kept=10_000, limit=200)
    assert asked == 2  # all of them, after few buckets
    assert len(everything) > 5
    for kept in (1, 5, 20):
        (rows, again), _ = found(kept=kept, limit=5)
        assert (rows, again) == (everything[:5], totals)
    assert min(found(kept=kept, limit=1)[1] for kept in (5, 20)) == 3


@pytest.mark.parametrize("name", explore_sql.DIMENSIONS)
def test_each_dimension_can_be_asked_for_in_top_and_series(api: TestClient, name: str) -> None:
    answer = top(api, by=name, limit=3, sort="flows")
    records = [row["records"] for row in answer["rows"]]
    assert records == sorted(records, reverse=True) != []
    series = api.get("/api/series", params={**RANGE, "by": name, "limit": 2, "points": 10})
    assert series.status_code == 200, series.text
    named = [one["name"] for one in series.json()["series"] if one["name"] != "other"]
    assert [set(one) - {"protocol_name"} for one in named] == [{name}] * len(named) != []
    assert all(any(one["values"]) for one in series.json()["series"] if one["name"] != "other")
