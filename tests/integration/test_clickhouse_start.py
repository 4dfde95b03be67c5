"""The embedded ClickHouse as a process: where it may run, and what it says where it cannot."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fix_local import refusal, running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import connect, http

pytestmark = pytest.mark.clickhouse


def test_the_default_database_is_ours_and_a_password_is_asked_for(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path, clickhouse__username="default", clickhouse__password="s3cret") as (url, _):
        assert http(url, b"SELECT 1", user="default")[0] == 403
        key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"}
        assert http(url, b"SELECT currentDatabase()", key)[2] == b"ayaflow\n"
        assert http(url, b"SELECT currentDatabase()", user="default", password="s3cret")[2] == b"ayaflow\n"
        assert http(url, b"SELECT currentDatabase()", key, database="system")[2] == b"system\n"
        with contextlib.closing(connect(url, username="default", password="s3cret")) as client:
            assert client.command("SELECT currentDatabase()") == "ayaflow"


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


def test_a_table_of_which_nothing_says_what_it_is_is_named(tmp_path: Path) -> None:
    """As ClickHouse leaves it that changed one on a full disk."""
    with running_clickhouse(tmp_path) as (url, _):
        http(url, b"CREATE TABLE broken (s String) ENGINE = MergeTree ORDER BY tuple()")
    (file,) = tmp_path.rglob("broken.sql")
    file.write_text("")
    code, said = refusal("clickhouse", tmp_path, clickhouse__url="http://127.0.0.1:19")
    assert code == 3
    assert f"Empty, as after a change on a full disk: {file}" in said


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
