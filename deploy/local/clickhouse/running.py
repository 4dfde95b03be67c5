"""The queries that run now, by the ids that their clients gave them. Pure.

chDB gives each query an id of its own, which queryID() and system.processes show, and has no way to be given one. So
KILL QUERY is told what a client means: a query that was started here carries a mark, and the mark stands for its id.
"""

import contextlib
from collections.abc import Iterator
from itertools import islice

from deploy.local.clickhouse import sql


class SameId(Exception):
    """A query with this id runs already."""


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

    def in_words_of_the_engine(self, query: str) -> str:
        """A KILL QUERY that names the id of a query that runs, with that query's mark for it; all else as it is."""
        text = query.encode()
        if [token.name for token in islice(sql.tokens(text), 2)] != ["kill", "query"]:
            return query
        tokens = list(sql.tokens(text))
        marks = dict(self._marks)
        named = [token for token in tokens if token.kind == "string" and _plain(token) in marks]
        if not named:
            return query  # by an id of the engine's, a user, a text …
        pairs = [(_plain(token), marks[_plain(token)]) for token in named]
        ids = ", ".join(sql.quote(name) for name, _ in pairs)
        known = ", ".join(sql.quote(mark) for _, mark in pairs)
        # the mark stands first in log_comment; what the client wrote there follows
        theirs = f"transform(splitByChar(' ', Settings['log_comment'])[1], [{known}], [{ids}], query_id)".encode()
        for token in reversed(tokens):
            if token.name == "query_id":
                text = text[: token.end - len(token.text)] + theirs + text[token.end :]
        return text.decode()


def _plain(token: sql.Token) -> str:
    return token.text[1:-1].decode("utf-8", "replace").replace("\\'", "'").replace("''", "'").replace("\\\\", "\\")
