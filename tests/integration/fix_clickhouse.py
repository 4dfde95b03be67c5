"""Connections to the embedded ClickHouse, and a table of a test's own."""

import contextlib
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import numpy as np
import pyarrow as pa
import pytest

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations
from tests.fix_local import WRITER
from tests.waiting import HANG_SECONDS


def connect(url: str, **options: Any) -> Any:
    parts = urllib.parse.urlsplit(url)
    return clickhouse_connect.get_client(host=parts.hostname, port=parts.port, **{**WRITER, **options})


@contextlib.contextmanager
def our_tables(settings: ClickHouseSettings) -> Iterator[Any]:
    """A client of who may write, once our tables are in the database of these settings; it is gone afterwards."""
    with contextlib.closing(connect(settings.url, autogenerate_session_id=False)) as connection:
        connection.command(f"CREATE DATABASE {settings.database}")
        try:
            for migration in migrations(settings):
                for statement in migration.statements:
                    connection.command(statement)
            yield connection
        finally:
            connection.command(f"DROP DATABASE {settings.database}")


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
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None, **query: Any
) -> tuple[int, Any, bytes]:
    """As the user who may write, unless a header or the query names one -> status, headers, body."""
    headers = headers or {}
    if "user" not in query and not any(name in headers for name in ("X-ClickHouse-User", "Authorization")):
        headers = {**headers, "X-ClickHouse-User": WRITER["username"], "X-ClickHouse-Key": WRITER["password"]}
    request = urllib.request.Request(f"{url}/?{urllib.parse.urlencode(query)}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def rows(count: int) -> pa.Table:
    return pa.table({"a": pa.array(np.arange(count), pa.uint64()), "s": pa.array(["x"] * count)})
