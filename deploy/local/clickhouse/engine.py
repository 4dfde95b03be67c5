"""ClickHouse inside this process (chDB): connections, queries that can be stopped. Blocking; call from threads.

chDB 4.4 serves any number of connections to one directory, each with its own settings, current database and
temporary tables; one takes 0.3 ms to open. So every request has a fresh one, and nothing leaks between requests.
"""

import contextlib
import importlib
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from common import logs
from common.errors import EnvironmentProblem
from deploy.local.clickhouse import access, running, sql
from deploy.local.clickhouse.access import Role
from deploy.local.clickhouse.feed import Feed
from deploy.local.clickhouse.http_query import NOT_ENOUGH_SPACE, UNKNOWN_DATABASE, code_of

log = logs.get("clickhouse")

_EXPLAIN = "EXPLAIN AST "
_LEAST_ROOM = 2 << 20  # bytes: with less than half of it ClickHouse inserts nothing
_POSITION = re.compile(r"(failed at position )(\d+)")


class EngineError(Exception):
    """ClickHouse refused or failed; the message is its own, with its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a finished statement says."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_ns: int = 0


class Engine:
    """A chDB directory. One process may have one, once."""

    def __init__(self, directory: Path, *, memory_bytes: int, default_database: str) -> None:
        directory = directory.resolve()
        # before chdb is loaded: ClickHouse reads its time zone once
        os.environ["TZ"] = "UTC"
        time.tzset()
        with contextlib.chdir("/"):  # it would read a config.xml of the working directory
            import chdb

        engine: Any = importlib.import_module("chdb._chdb")
        engine.set_signal_handlers_enabled(False)  # SIGINT and SIGTERM are ours
        connect: Any = chdb.connect
        self._connect: Callable[[str], Any] = connect
        self._path = f"{directory}?max_server_memory_usage={memory_bytes}"
        self._default_database, self._directory = default_database, directory
        try:
            config = access.write(directory / "ayaflow", default_database)
            self._keeper: Any = self._connect(
                f"{self._path}&config-file={config}"
            )  # of all; the engine lives as long as it
            self._keeper.query(f"CREATE DATABASE IF NOT EXISTS {sql.quote_name(default_database)}", "Null")
            self.version = self._keeper.query("SELECT version()", "TSVRaw").bytes().decode().strip()
        except Exception as error:
            raise EnvironmentProblem(
                f"the embedded ClickHouse cannot open {directory}: {error}. If the disk is full or read-only, help "
                f"that; if its data is damaged, move that directory away to begin anew{_damaged(directory)}"
            ) from error
        cores = os.cpu_count() or 1
        self._defaults = {
            "max_memory_usage": str(memory_bytes // 2),
            "max_bytes_before_external_group_by": str(memory_bytes // 4),
            "max_bytes_before_external_sort": str(memory_bytes // 4),
            "max_threads": str(cores),
            "max_execution_time": "600",
            "max_result_bytes": str(memory_bytes // 4),  # an answer is held in memory unless it can be streamed
        }
        self._lock = threading.Lock()

    def connection(self, role: Role) -> "Connection":
        """A fresh connection in the default database, with the grants of a role."""
        made = Connection(self._connect(self._path), role, self._defaults, self._default_database, self.kill)
        made.room = self._room
        return made

    def _room(self) -> int:
        """Bytes that are free on its disk."""
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def kill(self, mark: str) -> bool:
        """Stop the queries that carry this mark, from another thread than theirs -> whether ClickHouse could."""
        try:
            with self._lock:
                self._keeper.query(
                    f"KILL QUERY WHERE startsWith(Settings['log_comment'], {sql.quote(mark)}) ASYNC", "Null"
                )
        except Exception as error:  # noqa: BLE001  chDB has no type of its own; memory may be short, say
            log.warning("a query could not be stopped, trying again", error=str(error))
            return False
        return True

    def ask(self, query: str) -> list[list[str]]:
        """A small query of our own: rows of text."""
        with self._lock:
            text = self._keeper.query(query, "TSVRaw").bytes().decode()
        return [line.split("\t") for line in text.splitlines()]

    def close(self) -> None:
        """Close the directory."""
        self._keeper.close()


def _damaged(directory: Path) -> str:
    """What of it is known to be: a file that says what a table is, and is empty."""
    empty = [path for path in directory.glob("store/*/*/*.sql") if not path.stat().st_size]
    return f". Empty, as after a change on a full disk: {', '.join(map(str, empty[:5]))}" if empty else ""


class Connection:
    """One connection, for one statement at a time.

    chDB ends the process when a connection is closed before its stream is, or while it is in use; so the lock, and a
    stream that ends with its connection.
    """

    def __init__(
        self, raw: Any, role: Role, defaults: Mapping[str, str], database: str, kill: Callable[[str], bool]
    ) -> None:
        self._raw, self._kill, self._database = raw, kill, database
        self._lock = threading.RLock()
        self._streaming: Any = None  # the answer that is being read in pieces
        self._lent: list[str] = []  # temporary tables of this request alone
        self._before: dict[str, str] = {}  # settings of the session that the request changed; empty: the default
        self.room: Callable[[], int] = lambda: _LEAST_ROOM
        self.mark = running.mark(role)
        """Queries of this connection carry it in their log_comment, at its beginning, so that they can be killed."""
        self._run(f"SET ROLE {role}", "Null", {})
        self._set({**defaults, "log_comment": self.mark})
        try:
            self.use(database)
        except EngineError as error:
            if code_of(str(error)) != UNKNOWN_DATABASE:
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, once it is at rest; its temporary tables go, and an answer that was not read to its end."""
        with self._lock:
            self._end_stream()
            self._raw.close()

    def use(self, database: str) -> None:
        """Make it the current database; `default`, which clients name unasked, is ours. Raises EngineError when there
        is none: chDB's own of that name has the files of this machine in it, and no role may look into it.
        """
        self._run(f"USE {sql.quote_name(self._database if database == 'default' else database)}", "Null", {})

    def classify(self, query: str, params: Mapping[str, str]) -> tuple[str, int]:
        """READ_ONLY, MUTATING, MUTATING_GLOBAL, CONTROL or UNKNOWN, and the number of statements.

        Raises EngineError when it is no statement, and Refusal for one that the engine would run and we do not.
        """
        found = self._raw._conn.classify_query(query)  # noqa: SLF001  chDB has no other way to ask
        count = int(found["statement_count"])
        if count <= 1 and (objection := access.objection(self._tree(query, params))):
            raise sql.Refusal(objection)
        return found["query_class"].name, count

    def _tree(self, query: str, params: Mapping[str, str]) -> str:
        """The statement as the engine parses it, a node a line. Raises EngineError."""
        try:
            return self._run(_EXPLAIN + query, "TSVRaw", params).body.decode("utf-8", "replace")
        except EngineError as error:
            said = _POSITION.sub(lambda found: f"{found[1]}{int(found[2]) - len(_EXPLAIN)}", str(error))
            raise EngineError(said) from error

    def check_room(self) -> None:
        """Raises EngineError where the disk is full: ClickHouse says `ok` then to CREATE and ALTER, and leaves the file
        that says what the table is empty. With one such file it does not start any more.
        """
        if self.room() < _LEAST_ROOM:
            raise EngineError(
                f"Code: {NOT_ENOUGH_SPACE}. DB::Exception: Cannot write what a table is: fewer than "
                f"{_LEAST_ROOM >> 20} MiB are free. (NOT_ENOUGH_SPACE)"
            )

    def set_for_query(self, settings: Mapping[str, str], *, restore: bool) -> None:
        """Apply the settings of a request; with `restore` (a session) `reset` undoes it."""
        if settings and restore:
            names = ", ".join(sql.quote(name) for name in settings)
            changed = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})"  # noqa: S608  quoted
            rows = self._run(changed, "TSVRaw", {}).body.decode().splitlines()
            self._before = {**dict.fromkeys(settings, ""), **dict(row.split("\t", 1) for row in rows)}
        self._set(settings)

    def reset(self) -> None:
        """End what the request left open, and undo set_for_query and lend."""
        self._end_stream()
        while self._lent:
            self._run(f"DROP TEMPORARY TABLE IF EXISTS {self._lent.pop()}", "Null", {})
        before, self._before = self._before, {}
        if before:
            self._run(
                "SET "
                + ", ".join(f"{name} = {sql.quote(value) if value else 'DEFAULT'}" for name, value in before.items()),
                "Null",
                {},
            )

    def query(self, query: str, format_name: str, params: Mapping[str, str]) -> Answer:
        """Run a statement to its end. Raises EngineError."""
        return self._run(query, format_name, params)

    def stream(self, query: str, format_name: str, params: Mapping[str, str]) -> Generator[Answer, None, None]:
        """The answer in pieces of some 65,000 rows; for formats without header and footer. Raises EngineError."""
        stream = self._streaming = self._guard(lambda: self._raw.send_query(query, format_name, params=dict(params)))
        try:
            while (piece := self._guard(stream.fetch)) is not None:
                yield Answer(
                    body=piece.bytes() or b"",
                    read_rows=piece.storage_rows_read(),
                    read_bytes=piece.storage_bytes_read(),
                    elapsed_ns=round(piece.elapsed() * 1e9),
                )
        finally:
            if self._streaming is stream:  # not ended by close or reset
                self._end_stream()

    def insert(self, head: str, format_name: str, pieces: Iterable[bytes], params: Mapping[str, str]) -> Answer:
        """`INSERT INTO …` (without FORMAT) with data in any format. Raises EngineError, or what the pieces raise."""
        self._set({f"param_{name}": value for name, value in params.items()})
        with Feed(iter(pieces), lambda: self._kill(self.mark)) as feed:
            try:
                answer = self._run(sql.from_file(head, feed.path, format_name), "Null", {})
            except EngineError:
                if feed.error is None:
                    raise
        if feed.error is not None:
            raise feed.error
        return replace(answer, body=b"", read_rows=answer.written_rows, read_bytes=answer.written_bytes)

    def lend(self, name: str, structure: str, format_name: str, data: bytes) -> None:
        """A temporary table with this data, until `reset`. Raises EngineError."""
        quoted = sql.quote_name(name)
        self._run(f"CREATE TEMPORARY TABLE {quoted} ({structure}) ENGINE = Memory", "Null", {})
        self._lent.append(quoted)
        self.insert(f"INSERT INTO {quoted}", format_name, [data], {})

    def _set(self, settings: Mapping[str, str]) -> None:
        if settings:
            pairs = ", ".join(f"{name} = {sql.quote(value)}" for name, value in settings.items())
            self._run(f"SET {pairs}", "Null", {})

    def _run(self, query: str, format_name: str, params: Mapping[str, str]) -> Answer:
        result = self._guard(lambda: self._raw.query(query, format_name, params=dict(params)))
        return Answer(
            body=result.bytes() or b"",
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            elapsed_ns=round(result.elapsed() * 1e9),
        )

    def _end_stream(self) -> None:
        with self._lock:
            stream, self._streaming = self._streaming, None
            if stream:
                stream.cancel()

    def _guard(self, call: Any) -> Any:
        try:
            with self._lock:
                return call()
        except Exception as error:
            raise EngineError(str(error)) from error
