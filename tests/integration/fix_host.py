"""What no query may reach: a file and a port of this machine, and what is tried for it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "5ecret-0f-the-h0st"
READER: dict[str, Any] = {"user": "default"}

OUTSIDE = [
    "SELECT * FROM url('file://{file}', 'LineAsString') LIMIT 1",
    "SELECT * FROM default.`{file}` LIMIT 1",
    "SELECT * FROM `{file}` LIMIT 1",
    "SELECT file('{file}')",
    "SELECT `file`('{file}')",
    "SELECT FILE /* */ ('{file}')",
    "EXPLAIN SELECT file('{file}')",
    "CREATE TEMPORARY TABLE t AS SELECT file('{file}')",
    "SELECT * FROM view(SELECT file('{file}'))",
    "SELECT * FROM url('file:///proc/self/environ', 'LineAsString') LIMIT 1",
    "SELECT 1 INTO OUTFILE '{written}'",
    "INSERT INTO FUNCTION url('file://{written}', 'TSV', 'a String') SELECT 'x'",
    "INSERT INTO FUNCTION file('{written}', 'TSV', 'a String') SELECT 'x'",
    "INSERT INTO FUNCTION file('{written}', 'TSV', 'a String') VALUES ('x')",
    "INSERT INTO t FROM INFILE '{file}' FORMAT LineAsString",
    "SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{file}'",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{file}:A'",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS output_format_schema = '{written}'",
    """SELECT * FROM format('AvroConfluent', 'a Int32', unhex('0000000001'))
    SETTINGS format_avro_schema_registry_url = 'http://127.0.0.1:{port}/'""",
    "SELECT 1 SETTINGS additional_result_filter = 'throwIf(1, file(\\'{file}\\'))'",
    "SELECT * FROM system.one SETTINGS additional_table_filters = {{'system.one': 'throwIf(1, file(\\'{file}\\'))'}}",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM remote('127.0.0.1:{port}', 'system', 'one')",
    "CREATE TABLE ayaflow.f5 (a String) ENGINE = URL('file://{file}', LineAsString)",
    "CREATE TABLE ayaflow.f6 (a String) ENGINE = Kafka('127.0.0.1:{port}', 'topic', 'group', 'CSV')",
    """CREATE TABLE ayaflow.f7 (a String) ENGINE = MergeTree ORDER BY a
    SETTINGS disk = disk(type = 'web', endpoint = 'http://127.0.0.1:{port}/')""",
    "ALTER TABLE ayaflow.kept MODIFY SETTING disk = disk(type = 'web', endpoint = 'http://127.0.0.1:{port}/')",
    "CREATE TABLE ayaflow.f8 (a String DEFAULT file('{file}')) ENGINE = Memory",
    "CREATE VIEW ayaflow.f9 AS SELECT file('{file}')",
    "CREATE DATABASE ayaflow_fs ENGINE = Filesystem",
    "CREATE DATABASE ayaflow_fs ENGINE = Backup('a', File('{file}'))",
    "CREATE DATABASE other",
    "BACKUP DATABASE ayaflow TO File('{written}')",
    "SYSTEM SHUTDOWN",
    "SYSTEM KILL",
    "SYSTEM FLUSH LOGS",
    "SYSTEM RELOAD CONFIG",
    "SYSTEM STOP MERGES ayaflow.kept",
    "CREATE FUNCTION f AS (x) -> x",
    "CREATE NAMED COLLECTION n AS a = 1",
    "CREATE USER u",
    "CREATE ROLE r",
    "GRANT writer TO default",
    "GRANT READ ON FILE TO default",
    "SET ROLE writer",
    "SET ROLE ALL",
    "SET /* */ ROLE keeper",
    "SET DEFAULT ROLE writer TO default",
    "EXECUTE AS default SELECT 1",
    "ATTACH TABLE ayaflow.f10 FROM '/tmp' (a String) ENGINE = MergeTree ORDER BY a",
    "CREATE MATERIALIZED VIEW ayaflow.f11 ENGINE = Executable('cat {file}', 'TSV') AS SELECT 'x' AS a",
    "CREATE TABLE default.f12 (a String) ENGINE = Memory",
    "SELECT * FROM system.users",
    "DROP TABLE system.one",
]


class Host:
    """A file and a port that no query may reach."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "secret.tsv"
        self.file.write_text(f"{SECRET}\n")
        self.untouched = directory / "written"
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.calls += 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def unharmed(self) -> bool:
        return not self.calls and not self.untouched.exists()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with contextlib.closing(Host(tmp_path_factory.mktemp("host"))) as made:
        yield made
