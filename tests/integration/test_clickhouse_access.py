"""What the embedded ClickHouse can be made to do by a reader and by a writer: reach our own tables, and nothing else.

Every table function, engine, database engine and function that the engine lists is tried, so that what a new chDB
brings is refused, or comes up here.
"""

import os
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.clickhouse.access import CONSTANT, ENGINES, PASSWORD_FILE
from tests import waiting
from tests.fix_local import REPOSITORY, WRITER, clickhouse_answers, free_port, start, stop, until
from tests.integration.fix_clickhouse import http
from tests.integration.fix_host import OUTSIDE, READER, SECRET, Host

pytestmark = pytest.mark.clickhouse

ONCE: dict[str, Any] = {}

TABLE_FUNCTIONS = {
    "SQLStandardValues",
    *("numbers", "numbers_mt", "generate_series", "generateSeries", "generateRandom", "primes"),
    *(
        "zeros",
        "zeros_mt",
        "one",
        "null",
        "values",
        "view",
        "viewExplain",
        "viewIfPermitted",
        "format",
        "merge",
        "loop",
    ),
}
"""They compute, or read what their caller may read."""


def names(url: str, query: str) -> list[str]:
    return http(url, query.encode())[2].decode().split()


def arguments(host: Host) -> list[str]:
    """Such as would make something of them reach the host."""
    file, place, web = host.file, f"127.0.0.1:{host.port}", f"http://127.0.0.1:{host.port}/x"
    return [
        f"'{file}'",
        f"'{file}', 'TSV'",
        f"'{file}', 'TSV', 'a String'",
        f"'{web}'",
        f"'{web}', 'TSV'",
        f"'{web}', 'TSV', 'a String'",
        f"'{web}', 'key', 'secret', 'TSV'",
        f"'file://{file}', 'TSV', 'a String'",
        f"'{place}', 'system', 'one'",
        f"'{place}', 'system', 'one', 'user', 'password'",
        f"'{place}', 'db', 'table', 'user', 'password', 'schema'",
        f"'jdbc:{web}', 'a', 'b'",
        "",
    ]


@pytest.mark.wide
@pytest.mark.parametrize("who", ["reader", "writer"])
def test_no_table_function_reaches_outside(clickhouse_server: str, host: Host, who: str) -> None:
    user = READER if who == "reader" else {}
    usable = set()
    for name in names(clickhouse_server, "SELECT name FROM system.table_functions"):
        for given in arguments(host):
            status, _, body = http(clickhouse_server, f"SELECT * FROM {name}({given}) LIMIT 1".encode(), **user)
            assert SECRET.encode() not in body, (name, given)
            if status == 200:
                usable.add(name)
            if name not in TABLE_FUNCTIONS and who == "writer":
                given_rows = f"INSERT INTO FUNCTION {name}({given}) SELECT 'x'"
                assert http(clickhouse_server, given_rows.encode())[0] != 200, given_rows
    assert usable <= TABLE_FUNCTIONS
    assert host.unharmed()
    assert SECRET in host.file.read_text()


@pytest.mark.wide
@pytest.mark.parametrize("who", ["reader", "writer"])
def test_no_table_engine_reaches_outside(clickhouse_server: str, host: Host, who: str) -> None:
    user = READER if who == "reader" else {}
    usable = set()
    for engine in names(clickhouse_server, "SELECT name FROM system.table_engines"):
        for given in arguments(host):
            for kind in ("TABLE ayaflow.tried", "TEMPORARY TABLE tried"):
                made = f"CREATE {kind} (a String) ENGINE = {engine}({given})"
                status, _, body = http(clickhouse_server, made.encode(), **user)
                assert SECRET.encode() not in body, made
                if status == 200:
                    usable.add(engine)
                    http(clickhouse_server, b"DROP TABLE IF EXISTS ayaflow.tried SYNC")
    assert usable <= ENGINES | {name for name in usable if name.endswith("MergeTree")}
    assert not (who == "reader" and usable - {"Memory"}), "of a reader's temporary tables"
    assert host.unharmed()


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_no_database_engine_reaches_outside(clickhouse_server: str, host: Host, who: str) -> None:
    user = READER if who == "reader" else {}
    usable = set()
    for engine in [*names(clickhouse_server, "SELECT name FROM system.database_engines"), "Overlay", "Backup"]:
        for given in arguments(host):
            for kind in ("CREATE DATABASE", "ATTACH DATABASE", "CREATE DATABASE IF NOT EXISTS"):
                made = f"{kind} ayaflow_tried ENGINE = {engine}({given})".replace("()", "")
                if http(clickhouse_server, made.encode(), **user)[0] == 200:
                    usable.add(engine)
                    http(clickhouse_server, b"DROP DATABASE IF EXISTS ayaflow_tried SYNC")
    assert usable <= ({"Atomic", "Memory"} if who == "writer" else set())
    assert host.unharmed()


@pytest.mark.parametrize(
    "source",
    [
        "FILE(PATH '{file}' FORMAT 'TSV')",
        "EXECUTABLE(COMMAND 'cat {file}' FORMAT 'TSV')",
        "HTTP(URL 'http://127.0.0.1:{port}/' FORMAT 'TSV')",
        "CLICKHOUSE(HOST '127.0.0.1' PORT {port} TABLE 'one' DB 'system')",
        "MYSQL(PORT {port} USER 'a' PASSWORD '' REPLICA(HOST '127.0.0.1' PRIORITY 1) DB 'a' TABLE 'b')",
        "POSTGRESQL(PORT {port} HOST '127.0.0.1' USER 'a' PASSWORD '' DB 'a' TABLE 'b')",
        "MONGODB(HOST '127.0.0.1' PORT {port} USER '' PASSWORD '' DB 'a' COLLECTION 'b')",
        "REDIS(HOST '127.0.0.1' PORT {port} STORAGE_TYPE 'simple' DB_INDEX 0)",
        "CASSANDRA(HOST '127.0.0.1' PORT {port} KEYSPACE 'a' COLUMN_FAMILY 'b')",
        "ODBC(TABLE 'a' CONNECTION_STRING 'DSN=x')",
        "YTSAURUS(HTTP_PROXY_URLS 'http://127.0.0.1:{port}' CYPRESS_PATH '//a')",
        "NULL()",
    ],
)
def test_no_dictionary_is_made(clickhouse_server: str, host: Host, source: str) -> None:
    of = source.format(file=host.file, port=host.port)
    made = f"CREATE DICTIONARY ayaflow.d (a UInt64, b String) PRIMARY KEY a SOURCE({of}) LIFETIME(0) LAYOUT(FLAT())"
    for user in (READER, {}):
        assert http(clickhouse_server, made.encode(), **user)[0] == 403
    assert http(clickhouse_server, b"EXISTS DICTIONARY ayaflow.d")[2] == b"0\n"
    assert host.unharmed()


@pytest.mark.wide
def test_no_function_opens_a_file_or_calls_a_server(clickhouse_server: str, host: Host) -> None:
    for name in names(clickhouse_server, "SELECT name FROM system.functions WHERE NOT is_aggregate"):
        if name.lower().startswith("sleep"):
            continue
        for given in (f"'{host.file}'", f"'http://127.0.0.1:{host.port}/'", f"'{host.file}', 'x'"):
            body = http(clickhouse_server, f"SELECT {name}({given})".encode(), **READER)[2]
            assert SECRET.encode() not in body, (name, given)
    assert host.unharmed()


WRITES = [
    "DETACH TABLE ayaflow.kept",
    "DROP TABLE ayaflow.kept",
    "TRUNCATE TABLE ayaflow.kept",
    "INSERT INTO ayaflow.kept VALUES ('y')",
    "INSERT INTO ayaflow.kept SELECT 'y'",
    "ALTER TABLE ayaflow.kept ADD COLUMN b String",
    "RENAME TABLE ayaflow.kept TO ayaflow.gone",
    "OPTIMIZE TABLE ayaflow.kept",
    "CREATE TABLE ayaflow.other (a String) ENGINE = MergeTree ORDER BY a",
    "CREATE DATABASE ayaflow_other",
    "DROP DATABASE ayaflow",
]


@pytest.fixture(scope="module")
def kept(clickhouse_server: str) -> Iterator[None]:
    http(clickhouse_server, b"CREATE TABLE ayaflow.kept (a String) ENGINE = MergeTree ORDER BY a AS SELECT 'x' AS a")
    yield
    http(clickhouse_server, b"DROP TABLE ayaflow.kept SYNC")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("query", OUTSIDE)
def test_what_would_reach_outside_is_refused_to_all(clickhouse_server: str, host: Host, query: str) -> None:
    asked = query.format(file=host.file, written=host.untouched, port=host.port).encode()
    session = uuid.uuid4().hex
    for user in (READER, {}):
        for more in ONCE, {"session_id": session}:
            status, _, body = http(clickhouse_server, asked, **user, **more)
            assert status != 200, body
            assert b"DB::Exception" in body
            assert SECRET.encode() not in body
            # nothing of it is left in the session
            roles = http(clickhouse_server, b"SELECT currentRoles()", **user, **more)[2]
            assert roles == (b"['reader']\n" if user else b"['writer']\n")
        status, _, body = http(clickhouse_server, query=asked.decode(), **user)
        assert status != 200
    assert host.unharmed()
    assert http(clickhouse_server, b"SELECT * FROM ayaflow.kept", **READER)[2] == b"x\n"


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("query", WRITES)
def test_a_reader_changes_nothing(clickhouse_server: str, query: str) -> None:
    status, headers, body = http(clickhouse_server, query.encode(), **READER)
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "497"), body
    assert f"{WRITER['username']} writes to them".encode() in body
    assert http(clickhouse_server, b"SELECT * FROM ayaflow.kept", **READER)[2] == b"x\n"


@pytest.mark.usefixtures("kept")
def test_merges_go_on_whatever_a_reader_says(clickhouse_server: str) -> None:
    for query in (b"SYSTEM STOP MERGES", b"SYSTEM STOP TTL MERGES", b"SYSTEM STOP MOVES"):
        http(clickhouse_server, query, **READER)
        http(clickhouse_server, query)
    http(clickhouse_server, b"CREATE TABLE ayaflow.merged (a UInt8) ENGINE = MergeTree ORDER BY a")
    for _ in range(2):
        http(clickhouse_server, b"INSERT INTO ayaflow.merged VALUES (1)")
    try:
        for name in (b"kept", b"merged"):
            status, _, body = http(clickhouse_server, b"OPTIMIZE TABLE ayaflow.%b FINAL" % name)
            assert status == 200, body
        parts = b"SELECT count() FROM system.parts WHERE table = 'merged' AND active"
        assert http(clickhouse_server, parts, **READER)[2] == b"1\n"
    finally:
        http(clickhouse_server, b"DROP TABLE ayaflow.merged SYNC")


@pytest.mark.parametrize("name", CONSTANT)
def test_settings_that_name_files_and_servers_cannot_be_set(clickhouse_server: str, name: str) -> None:
    plain = name.removeprefix("merge_tree_")
    if plain != name:
        made = f"CREATE TABLE ayaflow.x (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS {plain} = 'x'"
        assert http(clickhouse_server, made.encode())[0] != 200
        return
    value: Any = "{'a': 'b'}" if name.endswith("filters") else "x"
    setting: dict[str, Any] = {name: value}
    for user in (READER, {}):
        assert http(clickhouse_server, b"SELECT 1", **user, **setting)[1]["X-ClickHouse-Exception-Code"] == "452"
        quoted = value if value != "x" else "'x'"
        assert http(clickhouse_server, f"SET {name} = {quoted}".encode(), **user)[0] != 200


def test_who_reads_who_writes_and_who_does_not_exist(clickhouse_server: str) -> None:
    role = b"SELECT currentRoles()"
    assert http(clickhouse_server, role, user="default")[2] == b"['reader']\n"
    assert http(clickhouse_server, role, user=WRITER["username"], password=WRITER["password"])[2] == b"['writer']\n"
    for user, password in (("default", "x"), (WRITER["username"], ""), (WRITER["username"], "x"), ("root", "")):
        assert http(clickhouse_server, role, user=user, password=password)[0] == 403


def test_a_session_is_its_users(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    assert http(clickhouse_server, b"CREATE TEMPORARY TABLE mine (a UInt8)", session_id=session)[0] == 200
    assert http(clickhouse_server, b"SELECT * FROM mine", session_id=session, **READER)[0] == 404
    assert http(clickhouse_server, b"SELECT currentRoles()", session_id=session, **READER)[2] == b"['reader']\n"


def test_a_password_is_made_once(tmp_path: Path) -> None:
    listen, role = free_port(), b"SELECT currentRoles()"
    found = []
    for _ in range(2):
        process = start("clickhouse", tmp_path, clickhouse__url=f"http://127.0.0.1:{listen}")
        url = f"http://127.0.0.1:{listen}"
        try:
            until(lambda: clickhouse_answers(url), process, tmp_path / "clickhouse.out")  # noqa: B023  ends here
            kept = tmp_path / PASSWORD_FILE
            assert stat.S_IMODE(kept.stat().st_mode) == 0o600
            found.append(kept.read_text().strip())
            assert http(url, role, user="ayaflow", password=found[-1])[2] == b"['writer']\n"
            assert http(url, role, user="default")[2] == b"['reader']\n"
            # the kernel's fence stands: no rights are gained, not by root either
            assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text()
        finally:
            stop(process)
    assert found[0] == found[1]
    assert len(found[0]) >= 32
    assert not (tmp_path / "clickhouse/ayaflow/users.xml").stat().st_mode & 0o077


def test_a_config_of_the_working_directory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text("no XML")
    (tmp_path / "db").mkdir()
    opened = """
from pathlib import Path
from deploy.local.clickhouse.engine import Engine
Engine(Path("db"), memory_bytes=1 << 29, default_database="ayaflow").close()
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", opened], cwd=tmp_path, env=environment, check=True)


def test_a_reader_does_not_stop_what_a_writer_does(clickhouse_server: str) -> None:
    answer: list[bytes] = []
    slow = b"SELECT count() FROM numbers(100000000000) WHERE 'of_a_writer' != ''"
    thread = threading.Thread(target=lambda: answer.append(http(clickhouse_server, slow, query_id="w")[2]))
    thread.start()
    shown = b"SELECT sum(1) FROM system.processes WHERE query LIKE 'SELECT count%of_a_writer%'"
    waiting.until(lambda: http(clickhouse_server, shown)[2] == b"1\n")
    for condition in ("1", "query_id = 'w'", "1) OR (1", "user = 'default'"):
        http(clickhouse_server, f"KILL QUERY WHERE {condition} SYNC".encode(), **READER)
        assert http(clickhouse_server, shown)[2] == b"1\n", condition
    http(clickhouse_server, b"KILL QUERY WHERE query_id = 'w' SYNC")
    thread.join(60)
    assert b"cancelled" in answer[0] or b"QUERY_WAS_CANCELLED" in answer[0]
