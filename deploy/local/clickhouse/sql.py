"""Just enough of ClickHouse's grammar to route a statement: is it an INSERT with data, in what format does it
answer, and does it ask for something that the embedded server must not do. Pure; works on bytes, since the data
of an INSERT need not be text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from common.errors import QueryError

_TOKEN = re.compile(
    rb"""
    (?P<space>   \s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/ )
  | (?P<string>  '(?:[^'\\]|\\.|'')*' )
  | (?P<quoted>  `(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*" )
  | (?P<word>    [A-Za-z_][A-Za-z0-9_]* )
  | (?P<number>  [0-9][0-9A-Za-z_.]* )
  | (?P<mark>    . )
    """,
    re.VERBOSE | re.DOTALL,
)


_OF_PARTITIONS = frozenset({"drop", "move", "replace", "detach", "attach", "freeze", "fetch"})


class Refusal(QueryError):
    """A statement that this server must not run."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, name, string, number or mark of a statement."""

    kind: str  # word, quoted, string, number, mark
    text: bytes  # as written
    end: int  # offset after it, bytes
    depth: int  # of parentheses around it

    @property
    def name(self) -> str:
        """A word or quoted name, in lower case and without its quotes; else nothing."""
        if self.kind == "word":
            return self.text.decode().lower()
        return self.text[1:-1].decode("utf-8", "replace").lower() if self.kind == "quoted" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """`INSERT INTO … FORMAT X` with data after it, or to come in the body of the request."""

    head: str  # the statement without FORMAT or VALUES
    format: str  # of the data; `Values` for VALUES
    data: bytes  # what follows it in the statement


def tokens(query: bytes) -> Iterator[Token]:
    """The tokens of a statement, without spaces and comments; lazily, since data may follow."""
    depth = 0
    for match in _TOKEN.finditer(query):
        kind = match.lastgroup or ""
        if kind == "space":
            continue
        text = match[0]
        if text == b")":
            depth -= 1
        yield Token(kind, text, match.end(), depth)
        if text == b"(":
            depth += 1


def split_insert(query: bytes) -> Insert | None:
    """An INSERT that takes data; None for all else (`INSERT … SELECT` too)."""
    stream = tokens(query)
    first = next(stream, None)
    if first is None or first.name != "insert":
        return None
    for token in stream:
        word = token.text.decode().lower() if token.kind == "word" and token.depth == 0 else ""
        if word in {"select", "with", "from", "watch"}:
            return None
        if token.depth == 0 and token.text == b"(":
            inside = next(stream, None)
            if inside is None or (inside.kind == "word" and inside.name in {"select", "with"}):
                return None
        if word in {"values", "format"}:
            head = query[: token.end - len(token.text)]
            name = next(stream, None) if word == "format" else token
            if name is None or name.kind != "word":
                raise QueryError("INSERT: the name of a format is missing after FORMAT")
            text = "Values" if word == "values" else name.text.decode()
            data = query[name.end :]
            # as ClickHouse does: blanks and one end of line belong to the statement, the rest is data
            return Insert(head=_text(head).strip(), format=text, data=re.sub(rb"\A[ \t]*\r?\n?", b"", data, count=1))
    return None


def from_file(head: str, path: str, format_name: str) -> str:
    """The statement of an Insert that reads its data from a file; that stands before SETTINGS."""
    octets = head.encode()
    parts = list(tokens(octets))
    end = len(octets)
    for index, token in enumerate(parts[:-2]):
        if token.depth == 0 and token.name == "settings" and parts[index + 2].text == b"=":
            end = token.end - len(token.text)
            break
    before, settings = octets[:end].decode().strip(), octets[end:].decode()
    # each on a line of its own: what is before may end with a comment
    return f"{before}\nFROM INFILE {quote(path)} COMPRESSION 'none'\n{settings}\nFORMAT {format_name}"


def answer_format(query: bytes) -> str | None:
    """The format that a query asks for at its end (`… FORMAT JSON`), or None."""
    found: str | None = None
    parts = list(tokens(query))
    while parts and parts[-1].text == b";":
        parts.pop()
    for index, token in enumerate(parts[:-1]):
        if token.kind != "word" or token.depth or token.name != "format" or parts[index + 1].kind != "word":
            continue
        rest = parts[index + 2 :]
        if not rest or rest[0].name == "settings":
            found = parts[index + 1].text.decode()
    return found


def describes(query: bytes) -> bool:
    """Whether the file that says what a table is may be written for it: CREATE, and ALTER but of partitions."""
    names = [token.name for token in tokens(query)]
    if names[:1] == ["create"]:
        return names[1:2] != ["temporary"]
    if names[:1] != ["alter"]:
        return False
    return not any(what in _OF_PARTITIONS and of in {"partition", "part"} for what, of in pairwise(names))


def refuse(query: bytes) -> None:
    """Raise Refusal for files that ClickHouse takes for its caller's: no grant covers them. Of an INSERT the head."""
    for before, name in pairwise(token.name for token in tokens(query)):
        if (before, name) in {("into", "outfile"), ("from", "infile")}:
            raise Refusal(
                f"the embedded ClickHouse does not open files of this machine ({before} {name}). "
                "Send or take the data with the request"
            )


def quote(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """A quoted identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(query: bytes) -> str:
    try:
        return query.decode()
    except UnicodeDecodeError as error:
        raise QueryError(f"the query is not UTF-8 text: {error}") from error
