"""The queries that run now, by the ids that their clients gave them. Pure.

chDB gives each query an id of its own, which queryID() and system.processes show, and has no way to be given one. So
KILL QUERY is told what a client means: a query that was started here carries a mark, and the mark stands for its id.
To the engine all queries are one user's: the mark says whose they are, and who only reads stops what only reads.
"""

import contextlib
import uuid
from collections.abc import Iterator
from itertools import islice

from deploy.local.clickhouse import sql
from deploy.local.clickhouse.access import Role


class SameId(Exception):
    """A query with this id runs already."""


def mark(role: Role) -> str:
    """Of a connection; the log_comment of its queries begins with it."""
    return f"{_OF[role]}{uuid.uuid4()}"


_OF = {role: f"ayaflow-{role}-" for role in Role}
_BEHIND = {"sync", "async", "test", "format", "settings", "into"}
"""What may follow the condition of a KILL QUERY."""


class Running:
    """Ids and marks. The methods may be called from several threads."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}  # query id -> mark

    @contextlib.contextmanager
    def named(self, query_id: str, mark: str) -> Iterator[None]:
        """While a query runs. Raises SameId."""
        if self._marks.setdefault(query_id, mark) != mark:
            raise SameId(f"Query with id = {query_id} is already running: wait for it, or give another id")
        try:
            yield
        finally:
            del self._marks[query_id]

    def in_words_of_the_engine(self, query: str, role: Role) -> str:
        """A KILL QUERY that names the id of a query that runs, with that query's mark for it; all else as it is.

        Of a reader it is for the queries of readers. Raises Refusal when that cannot be told to the engine.
        """
        text = query.encode()
        if [token.name for token in islice(sql.tokens(text), 2)] != ["kill", "query"]:
            return query
        if role is Role.READER:
            text = _of_readers(text)
        tokens = list(sql.tokens(text))
        marks = dict(self._marks)
        named = [token for token in tokens if token.kind == "string" and _plain(token) in marks]
        if not named:
            return text.decode()  # by an id of the engine's, a user, a text …
        pairs = [(_plain(token), marks[_plain(token)]) for token in named]
        ids = ", ".join(sql.quote(name) for name, _ in pairs)
        known = ", ".join(sql.quote(mark) for _, mark in pairs)
        # the mark stands first in log_comment; what the client wrote there follows
        theirs = f"transform(splitByChar(' ', Settings['log_comment'])[1], [{known}], [{ids}], query_id)".encode()
        for token in reversed(tokens):
            if token.name == "query_id":
                text = text[: token.end - len(token.text)] + theirs + text[token.end :]
        return text.decode()


def _of_readers(text: bytes) -> bytes:
    tokens = list(sql.tokens(text))
    where = next((token for token in tokens if token.name == "where"), None)
    if where is None or min(token.depth for token in tokens) < 0:
        raise sql.Refusal("who only reads stops queries by KILL QUERY WHERE, and a condition")
    words = (token for token in tokens if token.end > where.end and token.kind == "word" and token.depth == 0)
    end = next((token.end - len(token.text) for token in words if token.name in _BEHIND), len(text.rstrip(b"; \t\r\n")))
    only = f" startsWith(Settings['log_comment'], '{_OF[Role.READER]}') AND (".encode()
    return text[: where.end] + only + text[where.end : end] + b"\n) " + text[end:]  # there may be a comment before


def _plain(token: sql.Token) -> str:
    return token.text[1:-1].decode("utf-8", "replace").replace("\\'", "'").replace("''", "'").replace("\\\\", "\\")
