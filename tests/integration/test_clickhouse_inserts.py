"""Rows into the embedded ClickHouse: each is stored once or the answer is an error."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from typing import Any

import pytest

from tests.faults.place import SmallDisk
from tests.fix_local import running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import connect, http, rows
from tests.lacking import cannot_run
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse


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
        cannot_run("mounts a small file system: run as root")
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
        insert = partial(http, url, b"1\n2\n", query="INSERT INTO t FORMAT TSV", insert_deduplication_token="once")
        status, headers, _ = insert()
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (507, "243")
        disk.empty()
        for _ in range(2):
            assert insert()[0] == 200
        assert http(url, b"SELECT count() FROM t")[2] == b"2\n"


@pytest.mark.parametrize("rows", [1, 400_000])
def test_a_body_that_breaks_off_stores_nothing(clickhouse_server: str, table: str, rows: int) -> None:
    parts = urllib.parse.urlsplit(clickhouse_server)
    data = b"1\tabcdefgh\n" * rows
    target = urllib.parse.urlencode({"query": f"INSERT INTO {table} FORMAT TSV"})
    with socket.create_connection((str(parts.hostname), parts.port or 0)) as raw:
        raw.sendall(f"POST /?{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data) + 11}\r\n\r\n".encode() + data)
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(HANG_SECONDS)
        with contextlib.suppress(ConnectionError):
            while raw.recv(65_536):  # until the server has given it up
                pass
    running = f"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {table}%'".encode()
    until(lambda: http(clickhouse_server, running)[2] == b"0\n")
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"0\n"
    assert http(clickhouse_server, data, query=f"INSERT INTO {table} FORMAT TSV")[0] == 200
    assert http(clickhouse_server, f"SELECT count() FROM {table}".encode())[2] == b"%d\n" % rows


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


def test_rows_survive_kill_9_in_the_middle_of_inserts_and_retries_with_their_token_make_them_exact() -> None:
    with temporary_directory() as directory:
        sent = 0

        def kill_after(count: int, process: subprocess.Popen[str]) -> None:
            until(lambda: sent >= count)
            process.kill()

        for attempt in range(4):
            with running_clickhouse(directory) as (url, process), contextlib.closing(connect(url)) as client:
                client.command(
                    "CREATE TABLE IF NOT EXISTS t (a UInt64, s String) ENGINE = MergeTree ORDER BY a "
                    "SETTINGS non_replicated_deduplication_window = 1000"
                )
                killer = threading.Thread(target=kill_after, args=(sent + 3 + attempt, process))
                if attempt < 3:
                    killer.start()
                with contextlib.suppress(Exception):  # the one that is killed under it is sent again by the next
                    while sent < 4000:
                        client.insert_arrow("t", rows(1000), settings={"insert_deduplication_token": f"b{sent}"})
                        sent += 1
                        if attempt == 3:
                            break
                if attempt < 3:
                    killer.join()
                    process.wait(HANG_SECONDS)
                else:
                    assert client.command("SELECT count() FROM t") == sent * 1000
        assert sent > 9
