"""What an HTTP request asks of ClickHouse, and what the answer says about itself. Pure; no server, no engine.

The interface is ClickHouse's own: https://clickhouse.com/docs/interfaces/http
"""

import base64
import binascii
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import QueryError
from deploy.local.clickhouse.wire import blocks

HONOURED = frozenset(
    {
        "query",
        "database",
        "user",
        "password",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "compress",
        "decompress",
        "network_compression_method",
        "default_format",
        "wait_end_of_query",
        "http_wait_end_of_query",
        "client_protocol_version",
        "send_progress_in_http_headers",
        "enable_http_compression",
        "readonly",
    }
)
"""Parameters that steer the transport: what they ask for is done here. All others are settings of the query."""

WITHOUT_EFFECT = {
    "buffer_size": "what is held before an answer begins is bounded here, and wait_end_of_query holds all of it",
    "http_headers_progress_interval_ms": "headers go out once, with the last progress",
    "http_zlib_compression_level": "answers are packed at the fastest level",
    "http_native_compression_disable_checksumming_on_decompress": "checksums are always looked at",
    "network_zstd_compression_level": "answers are packed at the fastest level",
    "cancel_http_readonly_queries_on_client_close": "each query ends with its client",
    "output_format_parallel_formatting": "the order of rows and the octets are the same",
    "quota_key": "there are no quotas, as in a server that nobody gave any",
}
"""Parameters that change neither the octets nor the meaning of an answer, and why they are taken and not used."""

REFUSED = {
    "role": "a request has the role of its user: leave it out",
    "add_http_cors_header": "no page of another origin may read answers: leave it out",
    "stacktrace": "errors never carry a stack trace: leave it out",
    "http_write_exception_in_output_format": "errors are text, whatever the format: leave it out",
}
"""Parameters that ask for what is not to be had; empty, 0 and false ask for nothing."""

STREAMABLE = frozenset(
    {
        "Native",
        "TabSeparated",
        "TSV",
        "TabSeparatedRaw",
        "TSVRaw",
        "CSV",
        "JSONEachRow",
        "JSONLines",
        "NDJSON",
        "RowBinary",
        "LineAsString",
        "RawBLOB",
        "JSONCompactEachRow",
    }
)
"""Formats whose answer may be sent piece by piece: no header, no footer."""

_CONTENT_TYPES = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsoncompacteachrow": "application/x-ndjson; charset=UTF-8",
    "json": "application/json; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "arrow": "application/octet-stream",
    "parquet": "application/octet-stream",
}

_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STATUS = {
    81: 404,
    60: 404,
    46: 404,
    158: 500,
    159: 408,
    209: 408,
    164: 403,
    192: 403,
    193: 403,
    194: 403,
    516: 403,
    497: 403,
    241: 500,
    243: 507,
    216: 409,
    372: 404,
    373: 409,
    374: 400,
    394: 499,
    48: 501,
    344: 501,
}
_BAD_REQUEST = frozenset(
    {
        6,
        26,
        27,
        36,
        38,
        41,
        42,
        43,
        44,
        47,
        53,
        62,
        63,
        69,
        70,
        72,
        73,
        115,
        117,
        125,
        168,
        184,
        215,
        386,
        395,
        456,
        457,
        636,
    }
)
BAD_ARGUMENTS, NOT_IMPLEMENTED, SYNTAX_ERROR, UNKNOWN_DATABASE, SOCKET_TIMEOUT = 36, 48, 62, 81, 209
SAME_ID, NOT_ENOUGH_SPACE, SESSION_NOT_FOUND, SESSION_IS_LOCKED, INVALID_SESSION_TIMEOUT = 216, 243, 372, 373, 374
ACCESS_DENIED, AUTHENTICATION_FAILED, UNKNOWN = 497, 516, 1002


MOST_SESSION_SECONDS = 3600


class Unsupported(QueryError):
    """A parameter that asks for what this server does not do."""


class BadSessionTimeout(QueryError):
    """Longer than a session may be idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request."""

    text: bytes  # the statement, from the URL, the body or both; data of an INSERT may follow
    settings: dict[str, str]  # of this query
    params: dict[str, str]  # {name:Type} -> value
    database: str | None  # None: the default
    query_id: str
    session_id: str | None
    session_seconds: float  # an idle session ends after it
    default_format: str  # when the query names none
    read_only: bool  # GET
    wait: bool  # answer when all is there, so that an error is never in the middle
    compress: str | None  # the answer, in blocks of ClickHouse's own: LZ4, ZSTD or NONE
    decompress: bool  # the body is made of such blocks
    accepts_encoding: bool  # Accept-Encoding counts
    session_check: bool  # the session must be there
    close_session: bool  # it ends after this request
    native_version: int  # the client_protocol_version in which it reads Native
    progress: bool  # it looks for X-ClickHouse-Progress
    tables: tuple["Table", ...]  # external data


def parse(*, method: str, url: Mapping[str, str], headers: Mapping[str, str], tables: Sequence["Table"] = ()) -> Query:
    """Read all but the body. Raises QueryError."""
    if method == "HEAD" and url.get("query"):
        raise QueryError("HEAD runs no query: send it with GET or POST")
    method_of_blocks = url.get("network_compression_method", "LZ4").upper()
    if method_of_blocks not in blocks.METHODS:
        raise QueryError(f"network_compression_method may be {', '.join(blocks.METHODS)}")
    for name, why in REFUSED.items():
        if _is_on(url, name):
            raise Unsupported(f"{name}: {why}")
    settings = {
        name: value
        for name, value in url.items()
        if name not in HONOURED and name not in WITHOUT_EFFECT and name not in REFUSED and not name.startswith("param_")
    }
    for name in settings:
        if not _NAME.fullmatch(name):
            raise QueryError(f"{name!r} in the URL is not the name of a setting")
    session_seconds = _number(url, "session_timeout", "60", "of seconds")
    if not 0 < session_seconds <= MOST_SESSION_SECONDS:
        raise BadSessionTimeout(
            f"session_timeout may be from 1 to {MOST_SESSION_SECONDS} s (it is {session_seconds:g})"
        )
    return Query(
        text=url.get("query", "").encode(),
        settings=settings,
        params={name.removeprefix("param_"): value for name, value in url.items() if name.startswith("param_")},
        database=url.get("database") or headers.get("X-ClickHouse-Database") or None,
        query_id=url.get("query_id") or str(uuid.uuid4()),
        session_id=url.get("session_id") or None,
        session_seconds=session_seconds,
        default_format=url.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
        read_only=method != "POST" or _is_on(url, "readonly"),
        wait=_is_on(url, "wait_end_of_query") or _is_on(url, "http_wait_end_of_query"),
        compress=method_of_blocks if _is_on(url, "compress") else None,
        decompress=_is_on(url, "decompress"),
        accepts_encoding=_is_on(url, "enable_http_compression"),
        session_check=_is_on(url, "session_check"),
        close_session=_is_on(url, "close_session"),
        native_version=round(_number(url, "client_protocol_version", "0", "")),
        progress=_is_on(url, "send_progress_in_http_headers"),
        tables=tuple(tables),
    )


def _number(url: Mapping[str, str], name: str, default: str, unit: str) -> float:
    try:
        number = float(url.get(name) or default)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise QueryError(f"{name} in the URL must be a number {unit}".rstrip())
    return number


def _is_on(url: Mapping[str, str], name: str) -> bool:
    return url.get(name, "0").lower() not in {"", "0", "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """External data: a table that is there for one query alone."""

    name: str
    format: str
    structure: str  # name Type, …
    data: bytes


def external(files: Mapping[str, bytes], url: Mapping[str, str]) -> tuple[list[Table], dict[str, str]]:
    """The tables of a form, and the parameters that do not describe them. Raises QueryError."""
    rest = dict(url)
    tables = []
    for name, data in files.items():
        form = rest.pop(f"{name}_format", "TabSeparated")
        structure, types = rest.pop(f"{name}_structure", ""), rest.pop(f"{name}_types", "")
        if not _NAME.fullmatch(name) or not _NAME.fullmatch(form) or bool(structure) == bool(types):
            raise QueryError(f"external data {name!r} needs a name, and {name}_structure or {name}_types in the URL")
        if types:
            structure = ", ".join(f"_{number} {kind}" for number, kind in enumerate(types.split(","), 1))
        tables.append(Table(name=name, format=form, structure=structure, data=data))
    return tables, rest


def credentials(url: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str]:
    """User and password: from the headers of ClickHouse, Basic authentication or the URL, in this order."""
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    kind, _, encoded = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password
    return url.get("user", "default"), url.get("password", "")


def code_of(message: str) -> int:
    """ClickHouse's error code in its message; UNKNOWN when there is none."""
    found = _CODE.search(message)
    return int(found[1]) if found else UNKNOWN


def clean(message: str) -> str:
    """The message from `Code:` on, as a server would say it."""
    found = _CODE.search(message)
    return message[found.start() :] if found else message


def status_of(code: int) -> int:
    """HTTP status for an error code."""
    return 400 if code in _BAD_REQUEST else _STATUS.get(code, 500)


def content_type(format_name: str) -> str:
    """Content-Type of an answer."""
    lower = format_name.lower()
    for name, kind in _CONTENT_TYPES.items():
        if lower == name or lower.startswith(name + "with"):
            return kind
    return "application/json; charset=UTF-8" if lower.startswith("json") else "text/plain; charset=UTF-8"


def summary(**numbers: int) -> str:
    """The X-ClickHouse-Summary header: numbers as strings, as ClickHouse writes them."""
    names = (
        "read_rows",
        "read_bytes",
        "written_rows",
        "written_bytes",
        "total_rows_to_read",
        "result_rows",
        "result_bytes",
        "elapsed_ns",
    )
    return json.dumps({name: str(numbers.get(name, 0)) for name in names}, separators=(",", ":"))


def exception_trailer(message: str, tag: str) -> bytes:
    """What follows the rows already sent when a query fails after its start (ClickHouse 25.11 and later).

    The length counts the message with its end of line.
    """
    text, mark = message.strip().encode() + b"\n", tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (mark, text, len(text), mark)
