"""A statement of a request: read from the URL and the body, and run up to the first piece of its answer."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from common.errors import QueryError
from deploy.local.clickhouse import http_query, sql
from deploy.local.clickhouse.body import PIECE_BYTES, Body
from deploy.local.clickhouse.engine import Answer, Connection, EngineError
from deploy.local.clickhouse.http_query import Query
from deploy.local.clickhouse.wire import native

QUERY_BYTES = 16 << 20  # largest statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the first step of a statement gave: all of the answer, or its beginning and the rest."""

    answer: Answer
    format: str | None  # None: the statement has no result
    rest: Generator[Answer, None, None] | None  # more pieces after answer.body


async def read(query: Query, body: Body) -> tuple[Query, sql.Insert | None]:
    """The statement from the URL and the body, as ClickHouse puts them together. Raises QueryError."""
    beginning = query.text or await body.read(PIECE_BYTES)
    insert = await asyncio.to_thread(sql.split_insert, beginning)
    if insert:
        return replace(query, text=beginning), insert
    more = await body.read(QUERY_BYTES + 1 - len(beginning))
    text = beginning + b"\n" + more if query.text and more else beginning + more
    if not text.strip():
        raise QueryError("Empty query: send one as ?query= or in the body")
    if len(text) > QUERY_BYTES:
        raise QueryError(f"a query may have {QUERY_BYTES >> 20} MB")
    return replace(query, text=text), None


def execute(
    connection: Connection,
    query: Query,
    insert: sql.Insert | None,
    pieces: Iterator[bytes],
    translate: Callable[[str], str],
) -> Outcome:
    """Run a statement up to its first piece; in a worker thread. Raises EngineError or QueryError."""
    try:
        text = query.text.decode() if insert is None else insert.head
    except UnicodeDecodeError as error:
        raise QueryError(f"a query must be UTF-8 text: {error}. Write other octets as unhex('…')") from error
    sql.refuse(query.text if insert is None else text.encode())
    if query.database:
        connection.use(query.database)
    kind = "MUTATING"
    if insert is None:
        kind = _checked(connection, query, text)
    first = next((token.name for token in sql.tokens(query.text)), "")
    if query.read_only and kind not in {"READ_ONLY", "UNKNOWN"} and first not in {"set", "use"}:
        raise EngineError(
            "Code: 164. DB::Exception: Cannot execute query in readonly mode. For queries over HTTP, "
            "method GET implies readonly. You should use method POST for modifying queries. (READONLY)"
        )
    settings = query.settings
    if "log_comment" in settings:
        settings = {**settings, "log_comment": f"{connection.mark} {settings['log_comment']}"}
    for table in query.tables:
        connection.lend(table.name, table.structure, table.format, table.data)
    connection.set_for_query(settings, restore=query.session_id is not None)
    if insert:
        return Outcome(
            answer=connection.insert(insert.head, insert.format, pieces, query.params), format=None, rest=None
        )
    format_name = sql.answer_format(query.text) or query.default_format
    versioned = format_name == "Native" and query.native_version >= native.CUSTOM_SERIALIZATION
    if kind == "READ_ONLY" and format_name in http_query.STREAMABLE and first in {"select", "with"}:
        rest = connection.stream(text, format_name, query.params)
        if versioned:
            rest = _with_info(rest)
        return Outcome(answer=next(rest, Answer(body=b"")), format=format_name, rest=rest)
    answer = connection.query(translate(text), format_name, query.params)
    if versioned:
        answer = replace(answer, body=native.with_info(answer.body))
    return Outcome(answer=answer, format=format_name if kind == "READ_ONLY" or answer.body else None, rest=None)


def _checked(connection: Connection, query: Query, text: str) -> str:
    """What kind of statement it is. Raises QueryError and EngineError for what is not run."""
    kind, count = connection.classify(text, query.params)
    if count > 1:
        raise QueryError("Multi-statements are not allowed: send one statement a request")
    if sql.describes(query.text):
        connection.check_room()
    return kind


def _with_info(pieces: Generator[Answer, None, None]) -> Generator[Answer, None, None]:
    with contextlib.closing(pieces):
        for piece in pieces:
            yield replace(piece, body=native.with_info(piece.body))
