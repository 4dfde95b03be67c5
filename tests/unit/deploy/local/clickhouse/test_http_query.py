"""Requests and answers of ClickHouse's HTTP interface, without a server."""

import base64
import json

import pytest

from common.errors import QueryError
from deploy.local.clickhouse import http_query


def test_settings_parameters_and_transport_are_told_apart() -> None:
    url = {
        "query": "SELECT 1",
        "param_a": "x",
        "max_threads": "2",
        "database": "d",
        "query_id": "q",
        "session_id": "s",
        "wait_end_of_query": "1",
        "session_timeout": "5",
    }
    query = http_query.parse(method="POST", url=url, headers={})
    assert (query.text, query.params, query.settings) == (b"SELECT 1", {"a": "x"}, {"max_threads": "2"})
    assert (query.database, query.query_id, query.session_id, query.session_seconds) == ("d", "q", "s", 5)
    assert query.wait
    assert not query.read_only


def test_get_is_read_only_and_headers_name_database_and_format() -> None:
    headers = {"X-ClickHouse-Database": "d", "X-ClickHouse-Format": "CSV"}
    query = http_query.parse(method="GET", url={}, headers=headers)
    assert (query.read_only, query.database, query.default_format) == (True, "d", "CSV")


@pytest.mark.parametrize("url", [{"network_compression_method": "LZMA"}, {"a b": "1"}, {"session_timeout": "soon"}])
def test_what_is_not_understood_is_a_sentence(url: dict[str, str]) -> None:
    with pytest.raises(QueryError):
        http_query.parse(method="POST", url=url, headers={})


def test_credentials_come_from_headers_basic_authentication_or_the_url() -> None:
    basic = "Basic " + base64.b64encode(b"u:p:w").decode()
    assert http_query.credentials({}, {"X-ClickHouse-User": "u", "X-ClickHouse-Key": "p"}) == ("u", "p")
    assert http_query.credentials({}, {"Authorization": basic}) == ("u", "p:w")
    assert http_query.credentials({"user": "u", "password": "p"}, {}) == ("u", "p")
    assert http_query.credentials({}, {"Authorization": "Basic %%%"}) == ("", "")
    assert http_query.credentials({}, {}) == ("default", "")


def test_an_error_message_gives_its_code_and_loses_what_stands_before_it() -> None:
    said = "Streaming query failed: Code: 47. DB::Exception: Unknown"
    assert http_query.code_of(said) == 47
    assert http_query.clean(said) == "Code: 47. DB::Exception: Unknown"
    assert http_query.code_of("something else") == http_query.UNKNOWN


@pytest.mark.parametrize(("code", "status"), [(62, 400), (60, 404), (81, 404), (516, 403), (159, 408), (9999, 500)])
def test_a_code_has_a_status(code: int, status: int) -> None:
    assert http_query.status_of(code) == status


def test_the_summary_has_numbers_as_texts() -> None:
    assert json.loads(http_query.summary(written_rows=3))["written_rows"] == "3"
    assert json.loads(http_query.summary())["read_rows"] == "0"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("JSON", "application/json"),
        ("JSONCompact", "application/json"),
        ("CSVWithNames", "text/csv"),
        ("TabSeparated", "text/tab-separated-values"),
        ("Native", "application/octet-stream"),
        ("Pretty", "text/plain"),
        ("JSONEachRow", "application/x-ndjson"),
    ],
)
def test_a_format_has_a_content_type(name: str, kind: str) -> None:
    assert http_query.content_type(name).startswith(kind)


def test_what_follows_the_rows_of_a_failed_query_is_found_from_its_end() -> None:
    trailer = http_query.exception_trailer("Code: 395. DB::Exception: boom", "0123456789abcdef")
    before, _, last = trailer.removesuffix(b"\r\n__exception__\r\n").rpartition(b"\n")
    length, tag = last.split()
    assert (tag, before[-int(length) + 1 :]) == (b"0123456789abcdef", b"Code: 395. DB::Exception: boom")
