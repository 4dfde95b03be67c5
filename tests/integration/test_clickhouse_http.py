"""The embedded ClickHouse over HTTP, as curl and an unmodified clickhouse-connect use it."""

import contextlib
import json
import subprocess
import uuid
from typing import Any

import pytest

from tests.integration.fix_clickhouse import connect, http

pytestmark = pytest.mark.clickhouse


def test_curl_gets_an_answer(clickhouse_server: str) -> None:
    done = subprocess.run(["curl", "-s", f"{clickhouse_server}/?query=SELECT+1"], capture_output=True, check=True)
    assert done.stdout == b"1\n"


def test_the_answer_has_the_headers_of_clickhouse(clickhouse_server: str) -> None:
    status, headers, body = http(clickhouse_server, b"SELECT 1 AS a FORMAT JSON", query_id="q1")
    assert status == 200
    assert json.loads(body)["data"] == [{"a": 1}]
    assert headers["X-ClickHouse-Query-Id"] == "q1"
    assert headers["X-ClickHouse-Format"] == "JSON"
    assert headers["X-ClickHouse-Timezone"] == "UTC"
    assert headers["Content-Type"].startswith("application/json")


def test_an_error_has_its_code_and_a_status(clickhouse_server: str) -> None:
    status, headers, body = http(clickhouse_server, b"SELECT nope")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "47")
    assert body.startswith(b"Code: 47. DB::Exception: Unknown expression identifier")
    assert http(clickhouse_server, b"SELECT 1 FROM no_such")[0] == 404


def test_get_does_not_change_anything(clickhouse_server: str) -> None:
    status, headers, _ = http(clickhouse_server, query="CREATE DATABASE oops")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    assert http(clickhouse_server, b"SELECT count() FROM system.databases WHERE name = 'oops'")[2] == b"0\n"


def test_a_default_format_and_settings_come_from_the_url(clickhouse_server: str) -> None:
    assert http(clickhouse_server, query="SELECT 1 AS a", default_format="JSONEachRow")[2] == b'{"a":1}\n'
    assert http(clickhouse_server, b"SELECT getSetting('max_threads')", max_threads="7")[2] == b"7\n"
    status, headers, _ = http(clickhouse_server, b"SELECT 1", max_treads="7")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "115")


def test_settings_do_not_leak_into_the_next_request(clickhouse_server: str) -> None:
    http(clickhouse_server, b"SELECT 1", max_block_size="77")
    http(clickhouse_server, b"SET max_block_size = 78")
    assert http(clickhouse_server, b"SELECT getSetting('max_block_size')")[2] not in {b"77\n", b"78\n"}


def test_a_session_keeps_its_settings_and_temporary_tables(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    http(clickhouse_server, b"SET max_block_size = 78", session_id=session)
    http(clickhouse_server, b"CREATE TEMPORARY TABLE mine (a UInt8)", session_id=session)
    ask = b"SELECT getSetting('max_block_size')"
    assert http(clickhouse_server, ask, session_id=session, max_block_size="99")[2] == b"99\n"
    assert http(clickhouse_server, ask, session_id=session)[2] == b"78\n"
    assert http(clickhouse_server, b"SELECT count() FROM mine", session_id=session)[2] == b"0\n"
    assert http(clickhouse_server, b"SELECT count() FROM mine")[0] == 404


def test_parameters_are_bound(client: Any) -> None:
    found = client.query("SELECT {a:String}, {b:UInt8}", parameters={"a": "it's\ta \\ 'test'", "b": 5})
    assert found.result_rows == [("it's\ta \\ 'test'", 5)]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_clickhouse_connect_reads_and_writes_with_each_compression(
    clickhouse_server: str, table: str, compress: Any
) -> None:
    with contextlib.closing(connect(clickhouse_server, compress=compress)) as client:
        client.insert(table, [[number, "s" * 100] for number in range(1000)], column_names=["a", "s"])
        assert len(client.query(f"SELECT * FROM {table}").result_rows) == 1000
        assert client.query_arrow(f"SELECT * FROM {table}").num_rows == 1000


def test_one_statement_a_request(clickhouse_server: str) -> None:
    status, _, body = http(clickhouse_server, b"SELECT 1; SELECT 2")
    assert status == 400
    assert b"one statement" in body
    assert http(clickhouse_server, b"SELECT 1;")[2] == b"1\n"
