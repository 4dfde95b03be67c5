"""Queries of the embedded ClickHouse that are slow, many or abandoned."""

import concurrent.futures
import contextlib
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tests.fix_local import running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import http
from tests.waiting import until

pytestmark = pytest.mark.clickhouse


def test_a_session_is_free_as_soon_as_its_answer_is_there(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    for _ in range(100):
        status, _, body = http(clickhouse_server, b"SELECT 1", session_id=session, max_block_size="99")
        assert (status, body) == (200, b"1\n")


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


ENDLESS = b"SELECT count() AS abandoned FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 3"


@contextlib.contextmanager
def asked(url: str, query: bytes, path: str = "/") -> Iterator[None]:
    """A query that runs until the end of the block, at which its client goes away."""
    parts = urllib.parse.urlsplit(url)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(query)}\r\n\r\n"
    with socket.create_connection((str(parts.hostname), parts.port or 0)) as connection:
        connection.sendall(head.encode() + query)
        yield


def abandoned(url: str) -> int:
    """How many queries of ours run."""
    ask = b"SELECT count() FROM system.processes WHERE query LIKE '%AS abandoned%' AND query NOT LIKE '%processes%'"
    return int(http(url, ask)[2])


def test_readers_do_not_wait_for_a_slow_query(clickhouse_server: str) -> None:
    with asked(clickhouse_server, ENDLESS + b" SETTINGS max_threads = 1"):
        until(lambda: abandoned(clickhouse_server) == 1)
        assert http(clickhouse_server, b"SELECT 1")[2] == b"1\n"
        assert abandoned(clickhouse_server) == 1
    until(lambda: abandoned(clickhouse_server) == 0)


def test_a_query_that_takes_too_long_is_ended(clickhouse_server: str) -> None:
    _, headers, _ = http(clickhouse_server, ENDLESS, max_execution_time="1")
    assert headers["X-ClickHouse-Exception-Code"] == "159"


def test_a_client_that_goes_away_stops_its_query(clickhouse_server: str) -> None:
    with asked(clickhouse_server, ENDLESS):
        until(lambda: abandoned(clickhouse_server) == 1)
    until(lambda: abandoned(clickhouse_server) == 0)


def test_clients_that_go_away_at_any_moment_do_not_end_the_server() -> None:
    with temporary_directory() as directory, running_clickhouse(directory) as (url, server):

        def ask(number: int) -> None:
            path = f"/?session_id={number % 4}-{number // 100}" if number % 3 == 0 else "/"
            with asked(url, b"SELECT number AS abandoned FROM numbers(20000000)", path):
                time.sleep(random.Random(number).uniform(0, 0.02))  # any moment

        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            list(clients.map(ask, range(400)))
        assert server.poll() is None, f"ended with {server.returncode}"
        until(lambda: abandoned(url) == 0)
        # a session that was left in the middle of an answer is of use again
        assert http(url, b"SELECT 1", session_id="0-0")[2] == b"1\n"


def test_a_session_serves_one_request_at_a_time(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    with asked(clickhouse_server, ENDLESS, f"/?session_id={session}"):
        until(lambda: abandoned(clickhouse_server) == 1)
        _, headers, _ = http(clickhouse_server, b"SELECT 1", session_id=session, user="default")
        assert headers["X-ClickHouse-Exception-Code"] == "373"
    until(lambda: http(clickhouse_server, b"SELECT 1", session_id=session, user="default")[0] == 200)
