"""Read access to ClickHouse over HTTP: parameterised, read-only queries whose results are streamed.

Errors are sentences: ServiceUnavailable when the server or our tables are not there, QueryError with ClickHouse's
own first line and code when it refuses a query.
"""

import json
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from common.clickhouse import Hosts
from common.deadline import within
from common.errors import AyaflowError, QueryError, ServiceUnavailable
from common.settings import ClickHouseSettings
from console.store import formulas
from schemas.clickhouse.rollups import ROLLUPS

TABLES = ("flows", *ROLLUPS, "names", "names_ledger", "ledger", "losses", "dropped", "refused", "schema_migrations")
Parameters = Mapping[str, str | int]
T = TypeVar("T")
Steps = Generator[tuple[str, Parameters], list[dict[str, Any]], T]
"""Questions that follow from one another: yields each, is sent its rows, and returns what they come to."""

# readonly=2: nothing is written, and the settings of a query can be given
_SETTINGS: dict[str, Any] = {"readonly": 2}
# they shape the text of results; sent with each streamed query
_FORMAT_SETTINGS: dict[str, Any] = {
    "date_time_output_format": "iso",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 1,
    "output_format_json_quote_decimals": 1,
    "output_format_json_escape_forward_slashes": 0,
    "format_csv_null_representation": "",
}
_PIECE_BYTES = 1 << 18
_TRAILER_BYTES = 1 << 16  # an error's message at the end of an answer is shorter
_MISSING = re.compile(r"(?:identifier '|[Tt]able )`?(?:(?P<database>\w+)`?\.`?)?(?P<table>\w+)`?")
_CODE = re.compile(r"Code:\s*(\d+)")
_UNKNOWN_TABLE, _UNKNOWN_DATABASE, _READONLY, _AUTHENTICATION = 60, 81, 164, 516
_TOO_MUCH = {
    158: "it would read too many rows",
    159: "it takes too long",
    160: "it would take too long",
    241: "it needs too much memory",
    307: "it would read too much",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A result that is still arriving: read it once, in order."""

    names: tuple[str, ...]
    types: tuple[str, ...]  # ClickHouse's, such as UInt64 or Nullable(IPv6)
    rows: Iterator[list[Any]]  # values as JSON has them; times are ISO 8601 in UTC


class Store:
    """The flow tables of ClickHouse; use it with `with`, or close it. Of several hosts one is asked until it fails."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        *,
        timeout_seconds: float = 600,
        piece_seconds: float = 3600,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """`timeout_seconds`: for the next piece of an answer, and for the whole of a small one.

        `piece_seconds`: for the beginning of a large one, and for each quarter of a MiB of it. `limits`: ClickHouse
        settings such as max_execution_time, for each query.
        """
        from clickhouse_connect.driver.exceptions import ClickHouseError  # 120 ms, and not for every command

        if not logging.getLogger("ayaflow").isEnabledFor(logging.DEBUG):
            # what goes wrong is one sentence of ours; the driver sets its own levels when it is imported
            for library in ("urllib3", "clickhouse_connect"):
                logging.getLogger(library).setLevel(logging.CRITICAL)
        self._errors: type[Exception] = ClickHouseError
        self._settings = settings
        self._query_settings = {**_SETTINGS, **(limits or {})}
        self._hosts, self._timeout_seconds, self._piece_seconds = Hosts(settings), timeout_seconds, piece_seconds
        self._client: Any = self._connect()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        self._hosts.close()

    def select(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """All rows of a small result, each by column name, in Python's types."""

        def work(client: Any) -> list[dict[str, Any]]:
            result = client.query(sql, parameters=dict(parameters or {}), settings=self._query_settings)
            return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

        try:
            with within(self._timeout_seconds):
                return self._from_a_host(work)
        except AyaflowError:
            raise
        except Exception as error:  # of the driver or of urllib3, when an answer breaks off
            raise self._broken(error) from error

    def columns(self, sql: str, parameters: Parameters | None = None) -> tuple[list[str], list[str]] | None:
        """Names and types of a SELECT's result without running it; None for other statements and wrong ones."""
        try:
            rows = self.select(f"DESCRIBE TABLE (\n{sql}\n)", parameters)
        except QueryError:
            return None
        return [row["name"] for row in rows], [row["type"] for row in rows]

    def stream(self, sql: str, parameters: Parameters | None = None) -> Rows:
        """The rows of a result of any size, as they arrive."""
        columns = self.columns(sql, parameters)
        # without a header in the answer, the embedded server can send it piece by piece
        form = "JSONCompactEachRow" if columns else "JSONCompactEachRowWithNamesAndTypes"
        lines = _lines(self.chunks(sql, parameters, form=form))
        names, types = columns or (_parse(next(lines, b"[]")), _parse(next(lines, b"[]")))
        return Rows(names=tuple(names), types=tuple(types), rows=(_parse(line) for line in lines))

    def chunks(self, sql: str, parameters: Parameters | None = None, *, form: str | None = None) -> Iterator[bytes]:
        """The bytes of a result in one of ClickHouse's formats; without `form`, as the query's own FORMAT says.

        The query has been accepted when this returns; an error in the middle of the result is raised on the way.
        Text in CSV is no formula; a FORMAT of the query's own is left as it is.
        """
        settings = {**self._query_settings, **_FORMAT_SETTINGS}
        with within(self._piece_seconds):
            source = self._from_a_host(
                lambda client: client.raw_stream(sql, parameters=dict(parameters or {}), settings=settings, fmt=form)
            )
        tag = source.headers.get("X-ClickHouse-Exception-Tag", "")
        pieces = self._read(
            source,
            re.compile(
                # servers without a tag write the message as it is, on a line of its own
                rb"\r?\n?__exception__\r\n" + re.escape(tag.encode()) if tag else rb"^Code: \d+\. DB::Exception: ",
                re.MULTILINE,
            ),
        )
        return formulas.without(pieces) if form == "CSV" else pieces

    def document(self, sql: str, parameters: Parameters | None = None) -> dict[str, Any]:
        """A small result in ClickHouse's JSONCompact: `meta` and `data` (lists)."""
        with within(self._timeout_seconds):
            text = b"".join(self.chunks(sql, parameters, form="JSONCompact"))
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            raise ServiceUnavailable("ClickHouse's answer breaks off; try again") from None
        return found

    def last(self, steps: Steps[T]) -> T:
        """What questions that follow from one another come to."""
        try:
            sql, parameters = next(steps)
            while True:
                sql, parameters = steps.send(self.select(sql, parameters))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # typeshed knows no type of it

    def _connect(self) -> Any:
        try:
            return self._hosts.connect(database=self._settings.database, timeout_seconds=self._timeout_seconds)
        except (self._errors, OSError) as error:
            raise self._explain(error) from error

    def _from_a_host(self, work: Callable[[Any], T]) -> T:
        """From the host that is asked now; where it does not answer, from the next. Raises what _explain makes."""
        for others in reversed(range(len(self._hosts))):
            client = self._client
            try:
                return work(client)
            except (self._errors, OSError) as error:
                explained = self._explain(error)
                if not others or not isinstance(explained, ServiceUnavailable):
                    raise explained from error
            if client is self._client:  # and no other thread was here before
                self._hosts.leave()
                self._client = self._connect()
        raise AssertionError

    def _read(self, source: Any, trailer: re.Pattern[bytes]) -> Generator[bytes]:
        """Pieces of an answer. Its end is held back until it is known whether it is an error's message."""
        held = b""
        with source:
            while True:
                try:
                    with within(self._piece_seconds):
                        chunk = source.read(_PIECE_BYTES)
                except Exception as error:
                    raise self._broken(error) from error
                if not chunk:
                    break
                held += chunk
                if len(held) > 2 * _TRAILER_BYTES:
                    yield held[:-_TRAILER_BYTES]
                    held = held[-_TRAILER_BYTES:]
        if match := trailer.search(held):
            yield held[: match.start()]
            raise explain(held[match.start() :].decode(errors="replace"), self._settings)
        yield held

    def _broken(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"the connection to ClickHouse at {self._settings.url} broke in the middle of the result"
            f" ({_reason(str(error))}); try again"
        )

    def _explain(self, error: Exception) -> QueryError | ServiceUnavailable:
        return explain(str(error), self._settings)


def explain(text: str, settings: ClickHouseSettings) -> QueryError | ServiceUnavailable:
    """What an error of the driver or server means, and what to do. `text` is the driver's message."""
    match = _CODE.search(text)
    code = int(match[1]) if match else 0
    if code == _UNKNOWN_DATABASE or (code == _UNKNOWN_TABLE and _names_our_table(text, settings.database)):
        return ServiceUnavailable(
            f"ClickHouse at {settings.url} has no ayaflow tables in the database {settings.database!r} yet; they are"
            " made when streams starts: run `ayaflow up` or `ayaflow streams`"
        )
    if code == _AUTHENTICATION:
        return ServiceUnavailable(
            f"ClickHouse at {settings.url} refuses user {settings.username!r};"
            " correct clickhouse.username and clickhouse.password"
        )
    if code == _READONLY:
        return QueryError("this command only reads; write with clickhouse-client or curl where it is meant")
    if code in _TOO_MUCH:
        return QueryError(
            f"ClickHouse stopped the query, because {_TOO_MUCH[code]}; ask for a shorter time range, a narrower"
            " filter or fewer dimensions"
        )
    if match:
        return QueryError(f"ClickHouse: {_first_line(text)}")
    return ServiceUnavailable(
        f"ClickHouse at {settings.url} does not answer ({_reason(text)}); start it with `ayaflow up` or"
        " `ayaflow clickhouse`, or correct clickhouse.url"
    )


def _names_our_table(text: str, database: str) -> bool:
    return any(match["database"] in {None, database} and match["table"] in TABLES for match in _MISSING.finditer(text))


def _first_line(text: str) -> str:
    """ClickHouse's own words: from `Code: …` on, without the version, the stack and the driver's additions."""
    start = text.find("Code:")
    line = text[max(start, 0) :].splitlines()[0]
    line = re.sub(r"\s*\((?:version|for url) .*", "", line)
    line = re.sub(r" In scope .*(?= \([A-Z_]+\)$)", "", line).replace("DB::Exception: ", "", 1)
    return line if len(line) <= 600 else f"{line[:600]} …"


def _reason(text: str) -> str:
    for known in (
        "Connection refused",
        "timed out",
        "Name or service not known",
        "Connection reset",
        "certificate verify failed",
        "No route to host",
    ):
        if known in text:
            return known
    return text.splitlines()[0][:200] if text else "no reason given"


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends; the last one may lack it."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _parse(line: bytes) -> list[Any]:
    try:
        row: list[Any] = json.loads(line)
    except ValueError:
        text = line.decode(errors="replace").strip()
        raise ServiceUnavailable(f"ClickHouse's answer breaks off: {text[:200]!r}; try again") from None
    return row
