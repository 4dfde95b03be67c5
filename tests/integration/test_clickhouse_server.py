"""The embedded ClickHouse over HTTP, as curl and an unmodified clickhouse-connect use it."""

import concurrent.futures
import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tests.faults.place import SmallDisk
from tests.fix_local import refusal, running_clickhouse, temporary_directory

pytestmark = pytest.mark.clickhouse


def connect(url: str, **options: Any) -> Any:
    parts = urllib.parse.urlsplit(url)
    return clickhouse_connect.get_client(host=parts.hostname, port=parts.port, **options)


@pytest.fixture
def client(clickhouse_server: str) -> Iterator[Any]:
    with contextlib.closing(connect(clickhouse_server)) as connection:
        yield connection


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    client.command(
        f"CREATE TABLE {name} (a UInt64, s String) ENGINE = MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    yield name
    client.command(f"DROP TABLE {name} SYNC")


def http(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None, **query: str
) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"{url}/?{urllib.parse.urlencode(query)}", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def rows(count: int) -> pa.Table:
    return pa.table({"a": pa.array(np.arange(count), pa.uint64()), "s": pa.array(["x"] * count)})


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
    assert http(clickhouse_server, b"EXISTS DATABASE oops")[2] == b"0\n"


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


def test_a_session_is_free_as_soon_as_its_answer_is_there(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    for _ in range(100):
        status, _, body = http(clickhouse_server, b"SELECT 1", session_id=session, max_block_size="99")
        assert (status, body) == (200, b"1\n")


@pytest.mark.parametrize(
    "body",
    [
        b'INSERT INTO %b FORMAT CSV\n1,"a"\n2,b\n',
        b"INSERT INTO %b (a, s) VALUES (1, 'a'), (2, 'b')",
        b"INSERT INTO %b SELECT number + 1, char(97 + number) FROM numbers(2)",
        b'insert into %b settings max_threads = 1 format JSONEachRow {"a":1,"s":"a"}{"a":2,"s":"b"}',
    ],
)
def test_rows_are_inserted_from_the_body(clickhouse_server: str, table: str, body: bytes) -> None:
    assert http(clickhouse_server, body % table.encode())[0] == 200
    assert http(clickhouse_server, f"SELECT * FROM {table} ORDER BY a".encode())[2] == b"1\ta\n2\tb\n"


def test_a_query_in_the_url_takes_its_data_from_the_body(clickhouse_server: str, table: str) -> None:
    status, headers, _ = http(clickhouse_server, b"1\ta\n2\tb\n", query=f"INSERT INTO {table} FORMAT TSV")
    assert status == 200
    assert json.loads(headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert http(clickhouse_server, b"(3,'c')", query=f"INSERT INTO {table} VALUES")[0] == 200
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"3\n"


def test_damaged_data_stores_nothing_and_says_so(clickhouse_server: str, table: str) -> None:
    status, headers, body = http(clickhouse_server, f"INSERT INTO {table} FORMAT CSV\n1,a\nx,b\n".encode())
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "27"), body
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"0\n"


def test_rows_that_cannot_be_stored_are_an_error(client: Any, clickhouse_server: str, table: str) -> None:
    """By a constraint, or a view that fails: an answer of 200 means that all is stored."""
    client.command(f"ALTER TABLE {table} ADD CONSTRAINT small CHECK a < 100")
    status, headers, _ = http(clickhouse_server, b"100\ta\n", query=f"INSERT INTO {table} FORMAT TSV")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "469")
    client.command(
        f"CREATE MATERIALIZED VIEW {table}_v ENGINE = MergeTree ORDER BY f AS SELECT throwIf(a = 7) AS f FROM {table}"
    )
    status, headers, _ = http(clickhouse_server, b"7\ta\n", query=f"INSERT INTO {table} FORMAT TSV")
    client.command(f"DROP VIEW {table}_v SYNC")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "395")


@pytest.mark.root
def test_rows_for_which_there_is_no_room_are_an_error_and_may_come_again() -> None:
    if os.geteuid():
        pytest.skip("mounts a small file system: run as root")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        disk = stack.enter_context(contextlib.closing(SmallDisk(directory / "clickhouse", 300)))
        url, _ = stack.enter_context(running_clickhouse(directory))
        assert (
            http(
                url,
                b"CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a "
                b"SETTINGS non_replicated_deduplication_window = 100",
            )[0]
            == 200
        )
        disk.fill()
        insert = {"query": "INSERT INTO t FORMAT TSV", "insert_deduplication_token": "once"}
        status, headers, _ = http(url, b"1\n2\n", **insert)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (507, "243")
        disk.empty()
        for _ in range(2):
            assert http(url, b"1\n2\n", **insert)[0] == 200
        assert http(url, b"SELECT count() FROM t")[2] == b"2\n"


@pytest.mark.parametrize("rows", [1, 400_000])
def test_a_body_that_breaks_off_stores_nothing(clickhouse_server: str, table: str, rows: int) -> None:
    parts = urllib.parse.urlsplit(clickhouse_server)
    data = b"1\tabcdefgh\n" * rows
    target = urllib.parse.urlencode({"query": f"INSERT INTO {table} FORMAT TSV"})
    with socket.create_connection((str(parts.hostname), parts.port or 0)) as raw:
        raw.sendall(f"POST /?{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data) + 11}\r\n\r\n".encode() + data)
        time.sleep(0.5)
    deadline = time.monotonic() + 10
    running = f"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {table}%'".encode()
    while http(clickhouse_server, running)[2] != b"0\n":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"0\n"
    assert http(clickhouse_server, data, query=f"INSERT INTO {table} FORMAT TSV")[0] == 200
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"%d\n" % rows


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


def test_a_large_result_is_streamed(client: Any) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(1000000)") as stream:
        assert sum(len(block) for block in stream) == 1_000_000


def test_an_error_in_the_middle_of_a_stream_is_raised(client: Any) -> None:
    query = "SELECT throwIf(number = 29000000) FROM numbers(30000000)"  # far behind what is sent first
    with pytest.raises(StreamFailureError, match="FUNCTION_THROW_IF"), client.query_row_block_stream(query) as stream:
        for _ in stream:
            pass
    with pytest.raises(DatabaseError, match="395"):
        client.query(query)


def test_the_same_token_is_stored_once_also_in_a_materialized_view(client: Any, table: str) -> None:
    client.command(
        f"CREATE TABLE {table}_sum (k UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY k "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    client.command(
        f"CREATE MATERIALIZED VIEW {table}_mv TO {table}_sum AS "
        f"SELECT a % 10 AS k, count() AS n FROM {table} GROUP BY k"
    )
    try:
        for token in ["one", "one", "two", "one"]:
            client.insert_arrow(
                table,
                rows(100_000),
                settings={"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1},
            )
        client.insert(table, [[1, "x"]], column_names=["a", "s"], settings={"insert_deduplication_token": "three"})
        client.insert(table, [[1, "x"]], column_names=["a", "s"], settings={"insert_deduplication_token": "three"})
        assert client.command(f"SELECT count() FROM {table}") == 200_001
        assert client.command(f"SELECT sum(n) FROM {table}_sum") == 200_001
    finally:
        client.command(f"DROP VIEW {table}_mv SYNC")
        client.command(f"DROP TABLE {table}_sum SYNC")


def test_an_arrow_insert_of_a_large_table_is_one_part(client: Any, table: str) -> None:
    client.insert_arrow(table, rows(1_000_000))
    assert client.command(f"SELECT count() FROM system.parts WHERE active AND table = '{table}'") == 1


def test_readers_do_not_wait_for_a_slow_query(clickhouse_server: str) -> None:
    slow = (
        b"SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 3 "
        b"SETTINGS max_execution_time = 3, max_threads = 1"
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(http, clickhouse_server, slow)
        began = time.monotonic()
        assert http(clickhouse_server, b"SELECT 1")[2] == b"1\n"
        assert not running.done()
        assert time.monotonic() - began < 2
        assert running.result()[1]["X-ClickHouse-Exception-Code"] == "159"


def test_a_client_that_goes_away_stops_its_query(clickhouse_server: str) -> None:
    parts = urllib.parse.urlsplit(clickhouse_server)
    query = b"SELECT count() AS abandoned FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 3"
    with socket.create_connection((parts.hostname, parts.port or 0)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(query), query))
        wait_for_queries(clickhouse_server, 1)
    wait_for_queries(clickhouse_server, 0)


def wait_for_queries(url: str, count: int) -> None:
    ask = b"SELECT count() FROM system.processes WHERE query LIKE '%AS abandoned%' AND query NOT LIKE '%processes%'"
    deadline = time.monotonic() + 20
    while http(url, ask)[2] != b"%d\n" % count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_clients_that_go_away_at_any_moment_do_not_end_the_server() -> None:
    with temporary_directory() as directory, running_clickhouse(directory) as (url, server):
        parts = urllib.parse.urlsplit(url)

        def ask(number: int) -> None:
            random_ = random.Random(number)
            query = b"SELECT number AS abandoned FROM numbers(20000000)"
            path = f"/?session_id={number % 4}-{number // 100}" if number % 3 == 0 else "/"
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(query)}\r\n\r\n"
            with socket.create_connection((parts.hostname, parts.port or 0)) as connection:
                connection.sendall(head.encode() + query)
                time.sleep(random_.uniform(0, 0.02))

        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            list(clients.map(ask, range(400)))
        assert server.poll() is None, f"ended with {server.returncode}"
        wait_for_queries(url, 0)
        # a session that was left in the middle of an answer is of use again
        assert http(url, b"SELECT 1", session_id="0-0")[2] == b"1\n"


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE k (a UInt8) ENGINE = Kafka('localhost:1', 'topic', 'group', 'CSV')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
        "SELECT * FROM executable('id', 'LineAsString', 's String')",
        "CREATE TABLE f (s String) ENGINE = File(LineAsString, '/etc/passwd')",
        "SELECT 1 INTO OUTFILE '/tmp/ayaflow-outfile'",
        "INSERT INTO FUNCTION file('/tmp/ayaflow-outfile', 'CSV', 'a UInt8') VALUES (1)",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
    ],
)
def test_what_would_reach_outside_is_refused_with_a_sentence(clickhouse_server: str, query: str) -> None:
    status, headers, body = http(clickhouse_server, query.encode())
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (501, "48"), body
    assert b"the embedded ClickHouse" in body
    assert not Path("/tmp/ayaflow-outfile").exists()


def test_a_web_page_cannot_ask(clickhouse_server: str) -> None:
    assert http(clickhouse_server, b"SELECT 1", {"Origin": "https://example.org"})[0] == 403
    assert http(clickhouse_server, b"SELECT 1", {"Host": "rebound.example.org"})[0] == 403
    assert http(clickhouse_server, b"SELECT 1", {"Origin": "http://localhost:3000"})[0] == 200


def test_one_statement_a_request(clickhouse_server: str) -> None:
    status, _, body = http(clickhouse_server, b"SELECT 1; SELECT 2")
    assert status == 400
    assert b"one statement" in body
    assert http(clickhouse_server, b"SELECT 1;")[2] == b"1\n"


def test_a_session_serves_one_request_at_a_time(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    slow = b"SELECT sleep(2)"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(http, clickhouse_server, slow, session_id=session)
        time.sleep(0.5)
        assert http(clickhouse_server, b"SELECT 1", session_id=session)[1]["X-ClickHouse-Exception-Code"] == "373"
        assert running.result()[0] == 200


def test_the_default_database_is_ours_as_soon_as_it_exists(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path, clickhouse__password="s3cret") as (url, _):
        assert http(url, b"SELECT 1")[0] == 403
        key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"}
        assert http(url, b"SELECT currentDatabase()", key)[2] == b"default\n"
        assert http(url, b"CREATE DATABASE ayaflow", key)[0] == 200
        assert http(url, b"SELECT currentDatabase()", user="default", password="s3cret")[2] == b"ayaflow\n"
        assert http(url, b"SELECT currentDatabase()", key, database="system")[2] == b"system\n"
        with contextlib.closing(connect(url, username="default", password="s3cret")) as client:
            assert client.command("SELECT currentDatabase()") == "ayaflow"


def test_rows_survive_kill_9_in_the_middle_of_inserts_and_retries_with_their_token_make_them_exact() -> None:
    with temporary_directory() as directory:
        sent = 0
        for attempt in range(4):
            with running_clickhouse(directory) as (url, process), contextlib.closing(connect(url)) as client:
                client.command(
                    "CREATE TABLE IF NOT EXISTS t (a UInt64, s String) ENGINE = MergeTree ORDER BY a "
                    "SETTINGS non_replicated_deduplication_window = 1000"
                )
                killer = threading.Timer(0.4 + 0.1 * attempt, process.kill)
                if attempt < 3:
                    killer.start()
                with contextlib.suppress(Exception):  # the one that is killed under it is sent again by the next
                    while sent < 4000:
                        client.insert_arrow("t", rows(1000), settings={"insert_deduplication_token": f"b{sent}"})
                        sent += 1
                        if attempt == 3:
                            break
                killer.cancel()
                if attempt < 3:
                    process.wait(20)
                else:
                    assert client.command("SELECT count() FROM t") == sent * 1000
        assert sent > 4


def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path) as (_, first):
        code, said = refusal("clickhouse", tmp_path, clickhouse__url="http://127.0.0.1:19")
        assert code == 3
        assert f"already runs on {tmp_path} as process {first.pid}" in said


def test_a_port_in_use_is_a_sentence(clickhouse_server: str, tmp_path: Path) -> None:
    code, said = refusal("clickhouse", tmp_path, clickhouse__url=clickhouse_server)
    assert code == 3
    assert "is in use by python" in said


def test_a_data_directory_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").write_text("not a directory")
    code, said = refusal("clickhouse", tmp_path, clickhouse__url="http://127.0.0.1:19")
    assert code == 3
    assert str(tmp_path) in said
    assert "Traceback" not in said


@pytest.mark.root
def test_a_full_disk_is_a_sentence_and_what_was_stored_can_still_be_read() -> None:
    with temporary_directory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)], check=True)
        try:
            with running_clickhouse(directory) as (url, _):
                http(url, b"CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()")
                answers = [http(url, b"INSERT INTO t SELECT randomString(1000) FROM numbers(10000)") for _ in range(4)]
                status, _, body = answers[-1]
                assert status == 507
                assert b"clickhouse is full: make room" in body
                stored = sum(10_000 for answer in answers if answer[0] == 200)
                assert http(url, b"SELECT count() FROM t")[2] == b"%d\n" % stored
        finally:
            subprocess.run(["umount", str(directory)], check=True)


def test_no_log_table_grows(client: Any) -> None:
    stored = "SELECT count() FROM system.tables WHERE database = 'system' AND engine LIKE '%MergeTree'"
    assert client.command(stored) == 0
