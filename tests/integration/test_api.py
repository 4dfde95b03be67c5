"""The API over a real ClickHouse and a real live topic.

Needs the embedded ClickHouse (chdb) and, for the live view, a JRE and Kafka's jars; no root.
"""

import asyncio
import base64
import concurrent.futures
import csv
import io
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import httpx
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from websockets.asyncio.client import connect

from common import settings as settings_module
from common.settings import Settings
from console import app as http
from console.query import explore_sql, filters, flow_sql
from console.query.match import matches
from console.query.vocabulary import FIELDS
from console.store.client import Store
from schemas.avro.codec import Codec
from schemas.clickhouse.ddl import migrations
from schemas.fields import Kind
from tests.fix_local import REPOSITORY, free_port
from tests.integration.fix_console import served

pytestmark = pytest.mark.clickhouse

NOW = int(time.time()) // 3600 * 3600 - 1800  # of the stored windows; in the middle of an hour
DATABASE = "api_tests"
ROWS = 400
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.1.7.9", "192.0.2.55", "2001:db8::1", "2001:db8:1::2", "::1")
NETWORKS = ("10.0.0.0/8", "::/0", "0.0.0.0/0", "2001:db8::/32", "10.0.0.0-10.0.0.1")
COLUMNS = (
    "window_start",
    "window_seconds",
    "node",
    "interface",
    "direction",
    "protocol",
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "vlan_id",
    "icmp_type",
    "icmp_code",
    "packets",
    "bytes",
    "packets_rev",
    "bytes_rev",
    "tcp_flags",
    "tcp_flags_rev",
    "tunnel_type",
    "tunnel_id",
    "outer_src_addr",
    "outer_dst_addr",
    "revision",
    "kafka_partition",
    "kafka_offset_end",
)


def stored_rows() -> list[dict[str, Any]]:
    """Rows of the flows table over three hours.

    Some are further revisions of others, or their like from another partition or another place in Kafka.
    """
    rng = random.Random(7)
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        if number % 10 == 9:
            row = {**rows[-1], **rng.choice([{"revision": 1}, {"kafka_partition": 1}, {"kafka_offset_end": 900}])}
        else:
            protocol = rng.choice([6, 6, 17, 1])
            kind = rng.choice(["none", "none", "vxlan", "gtpu"])
            inside = kind != "none"
            ports = protocol != 1
            row = {
                "window_start": NOW - rng.randrange(1080) * 10,
                "window_seconds": 10,
                "node": rng.choice(["web1", "web2", "db'1", "back\\slash"]),
                "interface": rng.choice(["eth0", "lo"]),
                "direction": rng.choice(["ingress", "egress"]),
                "protocol": protocol,
                "src_addr": rng.choice(ADDRESSES),
                "dst_addr": rng.choice(ADDRESSES),
                "src_port": rng.choice([40_000, 40_001, 53]) if ports else 0,
                "dst_port": rng.choice([53, 80, 443]) if ports else 0,
                "vlan_id": rng.choice([0, 0, 100]),
                "icmp_type": 0 if ports else 8,
                "icmp_code": 0,
                "revision": 0,
                "primary": 1,
                "kafka_partition": 0,
                "kafka_offset_end": 500,
                "tunnel_type": kind,
                "tunnel_id": rng.choice([0, 7, 2**32 - 1]) if inside else 0,
                "outer_src_addr": rng.choice(ADDRESSES) if inside else "",
                "outer_dst_addr": rng.choice(ADDRESSES) if inside else "",
            }
        counts = {
            name: rng.choice([0, 1, 10, 1500]) * rng.randrange(1, 9)
            for name in ("packets", "bytes", "packets_rev", "bytes_rev")
        }
        rows.append({**row, **counts, "tcp_flags": rng.choice([2, 16, 24]), "tcp_flags_rev": rng.choice([0, 18])})
    return rows


def summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Revisions added up, as people see flows."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in flow_sql.KEYS)
        flow = found.setdefault(
            key, {**row, "packets": 0, "bytes": 0, "packets_rev": 0, "bytes_rev": 0, "tcp_flags": 0, "tcp_flags_rev": 0}
        )
        for name in ("packets", "bytes", "packets_rev", "bytes_rev"):
            flow[name] += row[name]
        for name in ("tcp_flags", "tcp_flags_rev"):
            flow[name] |= row[name]
    return list(found.values())


STORED = stored_rows()
FLOWS = summed(STORED)


def mapped(text: str) -> str:
    return text if ":" in text else f"::ffff:{text}" if text else "::"


@pytest.fixture(scope="module")
def stored(clickhouse_server: str) -> Iterator[Settings]:
    """Settings of a ClickHouse with STORED in it; Kafka is away."""
    loaded = settings_module.load(
        flags={
            "clickhouse.url": clickhouse_server,
            "clickhouse.database": DATABASE,
            "kafka.bootstrap_servers": "127.0.0.1:1",
        }
    )
    place = urlsplit(clickhouse_server)
    client = clickhouse_connect.get_client(host=place.hostname, port=place.port, autogenerate_session_id=False)
    client.command(f"CREATE DATABASE {DATABASE}")
    for migration in migrations(loaded.clickhouse):
        for statement in migration.statements:
            client.command(statement)
    client.insert(
        f"{DATABASE}.flows",
        [[mapped(row[name]) if name.endswith("_addr") else row[name] for name in COLUMNS] for row in STORED],
        column_names=COLUMNS,
    )
    yield loaded
    client.command(f"DROP DATABASE {DATABASE}")
    client.close()


@pytest.fixture(scope="module")
def store(stored: Settings) -> Iterator[Store]:
    with Store(stored.clickhouse) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(stored: Settings) -> Iterator[TestClient]:
    with api_client(stored) as opened:
        yield opened


def api_client(loaded: Settings) -> TestClient:
    return TestClient(http.build_app(loaded), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))


SPAN = {"since": datetime.fromtimestamp(NOW - 4 * 3600, UTC), "until": datetime.fromtimestamp(NOW + 3600, UTC)}
RANGE = {name: moment.isoformat() for name, moment in SPAN.items()}


# --- filters ---------------------------------------------------------------------------------------------------


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
        }
        else []
    )
    match field.kind:
        case Kind.ADDRESS:
            return st.sampled_from([*ADDRESSES, *NETWORKS])
        case Kind.CHOICE:
            return st.sampled_from(here)
        case Kind.TEXT:
            return st.sampled_from([*map(quoted, here), "nowhere"])
        case Kind.PROTOCOL:
            return st.sampled_from([*here, "tcp", "sctp"])
    return st.sampled_from([*here, "0", "1"]) | st.integers(0, min(field.largest, 20_000)).map(str)


PATTERNS = ["web", "^web1$", "1|2", "B", "(?i)B", ".", "h0", chr(92) * 2]
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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=EXPRESSIONS)
def test_clickhouse_chooses_the_flows_that_the_evaluator_chooses(store: Store, text: str) -> None:
    chosen = filters.parse(text)
    sql, parameters = flow_sql.flows(chosen, **SPAN, sort="time", limit=0)
    found = store.document(sql, parameters)
    names = [column["name"] for column in found["meta"]]
    rows = [dict(zip(names, row, strict=True)) for row in found["data"]]

    def key(row: dict[str, Any], start: int) -> tuple[Any, ...]:
        return (start, *(row[name] for name in (*list(flow_sql.KEYS)[1:], "packets", "bytes", "tcp_flags")))

    expected = sorted(key(flow, flow["window_start"]) for flow in FLOWS if matches(chosen, flow))
    assert sorted(key(row, int(datetime.fromisoformat(row["window_start"]).timestamp())) for row in rows) == expected
    # and the sums of top are those of the same flows, whatever table they come from
    question = explore_sql.Question(by=("direction",), flow_filter=chosen, **SPAN, oldest_raw=None)
    sql, parameters = explore_sql.top(question, sort="bytes", limit=10)
    answer = store.document(sql, parameters)
    at = [column["name"] for column in answer["meta"]].index("total_bytes")
    expected_bytes = sum(flow["bytes"] for flow in FLOWS if matches(chosen, flow))
    assert (answer["data"][0][at] if answer["data"] else 0) == expected_bytes


# --- sums ------------------------------------------------------------------------------------------------------


def top(api: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = api.get("/api/top", params={**RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(-11_000, 0), size=st.integers(1, 12_000))
def test_sums_from_rollups_are_those_of_the_windows_that_start_in_the_range(
    api: TestClient, first: int, size: int
) -> None:
    span = {
        name: datetime.fromtimestamp(NOW + second, UTC).isoformat()
        for name, second in (("since", first), ("until", first + size))
    }
    inside = [row for row in STORED if NOW + first <= row["window_start"] < NOW + first + size]
    answer = api.get("/api/top", params={**span, "by": "dst_addr"}).json()
    assert answer["total"] == {
        **{name: sum(row[name] for row in inside) for name in ("packets", "bytes", "packets_rev", "bytes_rev")},
        "records": len(inside),
    }
    series = api.get("/api/series", params={**span, "by": "protocol", "points": 7}).json()
    values = [value for one in series["series"] for value in one["values"]]
    assert sum(values) == sum(row["bytes"] + row["bytes_rev"] for row in inside)
    assert series["since"] == answer["since"]


def test_the_coarsest_table_that_has_what_is_asked_is_read(api: TestClient) -> None:
    assert top(api, by="dst_port")["table"] == "flows_1h"
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
    assert short["table"] == "flows_1m"


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


@pytest.mark.parametrize("name", explore_sql.DIMENSIONS)
def test_each_dimension_can_be_asked_for_in_top_and_series(api: TestClient, name: str) -> None:
    answer = top(api, by=name, limit=3, sort="flows")
    records = [row["records"] for row in answer["rows"]]
    assert records == sorted(records, reverse=True)
    series = api.get("/api/series", params={**RANGE, "by": name, "limit": 2, "points": 10})
    assert series.status_code == 200, series.text
    named = [one["name"] for one in series.json()["series"] if one["name"] != "other"]
    assert [set(one) - {"protocol_name"} for one in named] == [{name}] * len(named)
    assert all(any(one["values"]) for one in series.json()["series"] if one["name"] != "other")


# --- history ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["", "protocol = tcp", "bytes > 100", "node ~ back"])
def test_pages_of_history_are_all_flows_once_newest_first(api: TestClient, chosen: str) -> None:
    seen: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/api/history", params={**RANGE, "limit": 17, "cursor": cursor, "filter": chosen}).json()
        seen += page["flows"]
        cursor = page["next"]
    expected = [flow for flow in FLOWS if matches(filters.parse(chosen), flow)]
    assert len(seen) == len(expected) == len({json.dumps(flow) for flow in seen})
    starts = [flow["window_start"] for flow in seen]
    assert starts == sorted(starts, reverse=True)
    assert sum(flow["bytes"] for flow in seen) == sum(flow["bytes"] for flow in expected)


def test_flows_come_in_each_format(api: TestClient) -> None:
    answers = {
        form: api.get("/api/flows", params={**RANGE, "limit": 0, "format": form}) for form in ("json", "csv", "arrow")
    }
    rows = [json.loads(line) for line in answers["json"].text.splitlines()]
    assert len(rows) == len(FLOWS)
    assert {row["src_addr"] for row in rows} == set(ADDRESSES)
    table = list(csv.DictReader(io.StringIO(answers["csv"].text)))
    assert [row["community_id"] for row in table] == [row["community_id"] for row in rows]
    arrow = pa.ipc.open_stream(answers["arrow"].content).read_all()
    assert arrow.column("bytes").to_pylist() == [row["bytes"] for row in rows]
    assert arrow.column("src_addr").to_pylist() == [row["src_addr"] for row in rows]
    assert "attachment" in answers["csv"].headers["content-disposition"]


def test_the_command_line_agrees_with_the_api(api: TestClient, stored: Settings) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cli.main",
            "flows",
            "port = https",
            "--since",
            RANGE["since"],
            "--until",
            RANGE["until"],
            "--limit",
            "0",
            "--format",
            "json",
            "--set",
            f"clickhouse.url={stored.clickhouse.url}",
            "--set",
            f"clickhouse.database={DATABASE}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = api.get("/api/flows", params={**RANGE, "filter": "port = https", "limit": 0})
    assert sorted(done.stdout.splitlines()) == sorted(answer.text.splitlines())


def test_nodes_fields_and_audit(api: TestClient) -> None:
    nodes = {row["node"]: row for row in api.get("/api/nodes", params={**RANGE}).json()["nodes"]}
    assert nodes.keys() == {row["node"] for row in STORED}
    assert nodes["web1"]["bytes"] == sum(row["bytes"] + row["bytes_rev"] for row in STORED if row["node"] == "web1")
    words = {field["name"]: field for field in api.get("/api/fields").json()["fields"]}
    assert words.keys() == {*FIELDS, "ip"}
    assert "https" in words["dst_port"]["values"]
    assert api.get("/api/audit", params=RANGE).json()["exact"] is False  # there is no ledger here


# --- what must not be possible ---------------------------------------------------------------------------------

EVIL = (
    "'",
    "\\",
    "\\'",
    "' OR 1=1 --",
    "1; DROP TABLE flows",
    "{x:String}",
    "{f0:String}",
    "/* */",
    "-- ",
    "`",
    "\n",
    "\t",
    "');",
    "') UNION ALL SELECT 1 --",
    "%27",
    "\x00",
    "\ud7ff\uffff",
    "$$",
    "\\x27",
    "\U0001d4b3",
    "a\\nb",
    "\\N",
    "{since:UInt32}",
)
ROUTES = {
    "/api/live": ("filter", "node", "sort", "limit"),
    "/api/history": ("filter", "node", "since", "until", "limit", "cursor"),
    "/api/flows": ("filter", "node", "since", "until", "sort", "limit", "format"),
    "/api/top": ("by", "filter", "node", "since", "until", "sort", "limit"),
    "/api/series": ("by", "filter", "node", "since", "until", "measure", "limit", "points"),
    "/api/nodes": ("since", "until"),
    "/api/audit": ("since", "until", "node"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_no_parameter_is_more_than_a_value(api: TestClient, route: str) -> None:
    described = api.get("/openapi.json").json()["paths"][route]["get"]["parameters"]
    assert {one["name"] for one in described} == set(ROUTES[route])
    for name in ROUTES[route]:
        for evil in EVIL:
            answer = api.get(route, params={**(RANGE if "since" in ROUTES[route] else {}), name: evil})
            if name == "node" and "\0" not in evil:
                assert answer.status_code == 200, (name, evil, answer.text)
                assert "web1" not in answer.text  # it names no node
            elif answer.status_code != 200 or name not in {"since", "until"}:
                assert (
                    answer.status_code == 400
                    or (name == "by" and not evil.strip())
                    or (name in {"filter", "cursor"} and not evil.strip())
                ), (name, evil, answer.text)
                assert "Code:" not in answer.text  # it is refused before ClickHouse sees it


def test_values_in_filters_are_values(api: TestClient) -> None:
    for node in ("db'1", "back\\slash"):
        for operator in ("=", "in"):
            answer = top(api, by="node", filter=f'node {operator} "{node}"')
            assert [row["node"] for row in answer["rows"]] == [node]
    for evil in EVIL:
        if "\0" in evil or '"' in evil:
            continue
        assert top(api, by="node", filter=f'node = "{evil}" or interface in ("{evil}")')["rows"] == []


def test_a_mistake_is_a_sentence_with_a_status(api: TestClient) -> None:
    cases = {
        "/api/top?by=src": "did you mean",
        "/api/top?filtr=x": "did you mean filter?",
        "/api/top?limit=0": "limit",
        "/api/history?limit=1001": "limit",
        "/api/flows?format=xml": "format",
        "/api/top?since=now&until=1h": "not before",
        "/api/history?cursor=e30": "cursor",
        "/api/live?filter=tcp_flags=1": "no tcp_flags",
        "/api/top?by=node&by=x": "twice",
        "/api/top?by=pair,addr": "pair",
        "/api/top?by=node,node": "once",
        f"/api/history?cursor={base64.urlsafe_b64encode(b'[' * 5000).decode()}": "cursor",
    }
    for path, hint in cases.items():
        answer = api.get(path)
        assert answer.status_code == 400, path
        assert hint in answer.json()["error"], answer.text
    answer = api.get("/api/top", params={"filter": "port = 1 and dst_prt = 3"})
    assert answer.json()["column"] == 14
    assert api.post("/api/top").status_code == 405


# --- limits ----------------------------------------------------------------------------------------------------


def with_console(loaded: Settings, **values: Any) -> Settings:
    return loaded.model_copy(update={"console": loaded.console.model_copy(update=values)})


def test_a_query_that_reads_too_much_is_stopped_and_said_so(stored: Settings) -> None:
    with api_client(with_console(stored, query_rows=20)) as limited:
        answer = limited.get("/api/top", params={**RANGE, "by": "src_port"})
    assert answer.status_code == 400
    assert "too many rows" in answer.json()["error"]


def test_more_queries_than_may_run_wait_and_are_told_to_come_back(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.store.pool.PATIENCE_SECONDS", 0.2)
    begun, end = threading.Event(), threading.Event()
    document = Store.document

    def slow(self: Store, sql: str, parameters: Any = None) -> Any:
        begun.set()
        end.wait(20)
        return document(self, sql, parameters)

    monkeypatch.setattr(Store, "document", slow)
    with api_client(with_console(stored, heavy_queries=1)) as limited, concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(limited.get, "/api/top", params=RANGE)
        try:
            assert begun.wait(20)
            answer = limited.get("/api/top", params={**RANGE, "by": "dst_port"})
        finally:
            end.set()
        assert first.result().status_code == 200
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert limited.get("/api/top", params=RANGE).status_code == 200


def test_questions_that_are_asked_at_once_are_answered_by_one_query(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    begun, end = threading.Event(), threading.Event()
    document = Store.document

    def slow(self: Store, sql: str, parameters: Any = None) -> Any:
        asked.append(sql)
        begun.set()
        end.wait(20)
        return document(self, sql, parameters)

    monkeypatch.setattr(Store, "document", slow)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(api.get, "/api/top", params=RANGE)
        assert begun.wait(20)
        others = [pool.submit(api.get, "/api/top", params={**RANGE, "by": by}) for by in ("src_addr", "dst_port")]
        deadline = time.monotonic() + 20
        while len(asked) < 2 and time.monotonic() < deadline:  # that of dst_port is asked beside it
            time.sleep(0.01)
        end.set()
        assert first.result().json() == others[0].result().json()
    assert len(asked) == 2
    assert api.get("/api/top", params=RANGE).json() == first.result().json()
    assert len(asked) == 3  # nothing is kept


def test_clickhouse_away_is_503() -> None:
    gone = settings_module.load(
        flags={"clickhouse.url": "http://127.0.0.1:1", "kafka.bootstrap_servers": "127.0.0.1:1"}
    )
    with api_client(gone) as opened:
        for path in ("/api/top", "/api/history", "/api/flows", "/api/nodes", "/api/series", "/api/audit"):
            answer = opened.get(path)
            assert answer.status_code == 503, path
            assert answer.headers["retry-after"]
            assert "ayaflow clickhouse" in answer.json()["error"]
        assert opened.get("/api/live").status_code == 200


def test_shipped_queries_read_only_the_granules_they_need(stored: Settings, store: Store) -> None:
    """Rows of many days are added; a question about an hour reads a part of one day's partition."""
    place = urlsplit(stored.clickhouse.url)
    client = clickhouse_connect.get_client(host=place.hostname, port=place.port, autogenerate_session_id=False)
    client.command(
        f"INSERT INTO {DATABASE}.flows (window_start, window_seconds, node, dst_port, packets) SELECT"
        f" {NOW} - 86400 * 20 + intDiv(number, 10) * 10, 10, 'filler', number % 1000, 1 FROM numbers(1500000)"
    )
    try:
        day = datetime.fromtimestamp(NOW - 86_400 * 10, UTC)
        span = {"since": day, "until": day + timedelta(hours=1)}
        question = explore_sql.Question(
            by=("src_port",), flow_filter=filters.parse("dst_port = 443"), **span, oldest_raw=None
        )
        minutes = explore_sql.Question(
            by=("node",),
            flow_filter=filters.parse(""),
            since=day + timedelta(seconds=61),
            until=day + timedelta(minutes=50),
            oldest_raw=None,
        )
        for sql, parameters in (
            flow_sql.flows(filters.parse(""), **span, sort="time", limit=10),
            flow_sql.history(filters.parse(""), **span, limit=10, after=None, oldest=0),
            flow_sql.probe(filters.parse("node = filler"), **span, limit=10, after=None),
            explore_sql.top(question, sort="bytes", limit=10),
            explore_sql.top(minutes, sort="bytes", limit=10),
            explore_sql.series(minutes, [], measure="bytes", step=60),
        ):
            plan = "\n".join(row["explain"] for row in store.select(f"EXPLAIN indexes = 1 {sql}", parameters))
            granules = [tuple(map(int, pair)) for pair in re.findall(r"Granules: (\d+)/(\d+)", plan)]
            parts = [tuple(map(int, pair)) for pair in re.findall(r"Parts: (\d+)/(\d+)", plan)]
            assert granules, plan
            assert parts, plan
            # by the partition, then by the sort key
            assert min(read for read, _ in granules) <= 4, plan
            assert max(total for _, total in granules) >= 20, plan
    finally:
        client.command(f"ALTER TABLE {DATABASE}.flows DELETE WHERE node = 'filler' SETTINGS mutations_sync = 1")
        for table in ("flows_1m", "flows_1h"):
            client.command(f"ALTER TABLE {DATABASE}.{table} DELETE WHERE node = 'filler' SETTINGS mutations_sync = 1")
        client.close()


# --- live ------------------------------------------------------------------------------------------------------


class Node:
    """A node's messages in the live topic, one a call."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._topic = f"{prefix}live"
        self._codec = Codec()
        self._second = 0
        self._start = datetime.now(UTC)

    def send(self, node: str = "n1") -> None:
        self._second += 1
        time = self._start + timedelta(seconds=self._second)
        stats = {
            "node": node,
            "time": time,
            "interval_ms": 1000,
            "active_flows": 2,
            "open_windows": 1,
            "lag_messages": 0,
            "interfaces": [
                {
                    "interface": "eth0",
                    "direction": "ingress",
                    "packets": 10,
                    "bytes": 5000,
                    "non_ip_packets": 0,
                    "malformed_packets": 0,
                    "ring_full_packets": 1,
                }
            ],
            "top": [
                {
                    "interface": "eth0",
                    "direction": "ingress",
                    "protocol": 6,
                    "src_addr": "10.0.0.1",
                    "dst_addr": "2001:db8::1",
                    "src_port": port,
                    "dst_port": 443,
                    "vlan_id": 0,
                    "icmp_type": 0,
                    "icmp_code": 0,
                    "packets": self._second,
                    "bytes": port * self._second,
                    "packets_rev": 0,
                    "bytes_rev": 0,
                    "first_seen": self._start,
                    "last_seen": time,
                }
                for port in (1000, 2000)
            ],
        }
        self._producer.produce(self._topic, self._codec.encode_live_stats(stats), key=node)
        self._producer.produce(self._topic, b"not one of ours")
        self._producer.flush(10)


@pytest.fixture
def live_url(kafka_broker: str, clickhouse_server: str) -> Iterator[str]:
    """A console as it runs, on a free port."""
    port = free_port()
    loaded = settings_module.load(
        flags={
            "kafka.bootstrap_servers": kafka_broker,
            "clickhouse.url": clickhouse_server,
            "console.listen": f"127.0.0.1:{port}",
        }
    )
    app = http.build_app(loaded)
    with served(app, host="127.0.0.1", port=port, ws="websockets-sansio", ws_per_message_deflate=False):
        yield f"http://127.0.0.1:{port}"


def heard(url: str, node: Node) -> dict[str, Any]:
    """Send until the console shows it: it reads from the end of the topic, wherever that was when it looked."""
    for _ in range(60):
        node.send()
        time.sleep(0.3)
        answer: dict[str, Any] = httpx.get(f"{url}/api/live").json()
        if answer["connections"]:
            return answer
    pytest.fail("nothing came in 60 messages")


@pytest.mark.kafka
def test_live_shows_what_is_in_the_topic(live_url: str, kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    heard(live_url, node)
    for _ in range(3):
        node.send()
    time.sleep(1)
    rows = httpx.get(f"{live_url}/api/live").json()["connections"]
    assert [row["src_port"] for row in rows] == [2000, 1000]
    assert rows[0]["dst_addr"] == "2001:db8::1"
    assert rows[0]["protocol_name"] == "tcp"
    assert rows[0]["bytes_per_second"] == pytest.approx(2000, rel=0.5)
    only = httpx.get(f"{live_url}/api/live", params={"filter": "src_port = 1000 and addr in 10.0.0.0/8"}).json()
    assert [row["src_port"] for row in only["connections"]] == [1000]
    stats = httpx.get(f"{live_url}/api/stats").json()
    assert (stats["nodes"], stats["active_connections"], stats["bytes_per_second"]) == (1, 2, 5000)
    assert stats["packets_total"] == 10 * stats["dropped_packets_total"]
    metrics = httpx.get(f"{live_url}/metrics").text
    place = '{direction="ingress",interface="eth0",node="n1"}'
    assert f"ayaflow_packets_total{place} {stats['packets_total']}" in metrics
    for name in (
        "ayaflow_bytes_total",
        "ayaflow_active_connections",
        "ayaflow_domains_resolved_total",
        "ayaflow_deep_inspect_packets_total",
        "ayaflow_console_request_seconds_bucket",
    ):
        assert name in metrics


@pytest.mark.kafka
async def test_a_slow_client_of_the_stream_holds_nobody_up(live_url: str, kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    await asyncio.to_thread(heard, live_url, node)
    url = f"{live_url.replace('http', 'ws')}/api/stream"
    slow_socket = socket.socket()
    slow_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    place = urlsplit(live_url)
    slow_socket.connect((place.hostname, place.port))
    async with connect(url, sock=slow_socket, max_queue=1), connect(url) as quick:  # the slow one reads nothing
        moments = []
        while not json.loads(await asyncio.wait_for(quick.recv(), 5))["connections"]:
            await asyncio.to_thread(node.send)
        for _ in range(4):
            await asyncio.to_thread(node.send)
            message = json.loads(await asyncio.wait_for(quick.recv(), 5))
            moments.append(message["time"])
            assert message["connections"][0]["src_port"] == 2000
            assert message["nodes"][0]["interfaces"][0]["bytes_per_second"] == 5000
        assert len(set(moments)) == 4


@pytest.mark.kafka
def test_top_prints_once_what_the_api_says(kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "top",
            "src_port = 2000",
            "--once",
            "--format",
            "json",
            "--set",
            f"kafka.bootstrap_servers={kafka_broker}",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + 40
            while process.poll() is None and time.monotonic() < deadline:
                node.send()
                time.sleep(0.4)
            (row,) = json.loads(process.stdout.read())["connections"]
        finally:
            process.kill()
    assert process.returncode == 0
    assert (row["src_port"], row["dst_port"], row["node"]) == (2000, 443, "n1")
