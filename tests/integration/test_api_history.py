"""Single flows over the API: pages, formats, and the words there are."""

import csv
import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from ayaflow.consume import read_flows
from common.settings import Settings
from console.query import filters, flow_sql
from console.query.match import matches
from console.query.vocabulary import FIELDS
from schemas.avro.arrow import flow_schema
from tests.fix_local import REPOSITORY
from tests.integration.fix_api import ADDRESSES, DATABASE, FLOWS, RANGE, STORED

pytestmark = pytest.mark.clickhouse


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
    starts = [flow["window_begin"] for flow in seen]
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


def test_the_arrow_form_is_read_by_the_library(api: TestClient, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in api.get("/api/flows", params={**RANGE, "limit": 0}).text.splitlines()]
    path = tmp_path / "flows.arrow"
    path.write_bytes(api.get("/api/flows", params={**RANGE, "limit": 0, "format": "arrow"}).content)
    table = pa.concat_tables(read_flows(path, primary_only=False))
    assert {*table.column_names} == {*flow_sql.COLUMNS}
    assert all(each.equals(flow_schema().field(each.name)) for each in table.schema)
    times = ("window_begin", "first_seen", "last_seen")
    for row, other in zip(table.to_pylist(), rows, strict=True):
        assert row == {**other, **{name: datetime.fromisoformat(other[name]) for name in times}}
    primary = sum(row["packets"] for row in rows if row["primary"])
    assert sum(sum(each["packets"].to_pylist()) for each in read_flows(path)) == primary


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
