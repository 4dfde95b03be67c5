"""`ayaflow query`: SQL of a person's own, read-only."""

import contextlib
import re
from collections.abc import Iterable
from itertools import islice
from typing import TextIO

from cli.standard import say
from common.errors import QueryError
from console.reports.completeness import TABLES
from console.reports.views import REPORTS
from console.show import output, tables
from console.store.client import Store
from schemas.clickhouse.rollups import ROLLUPS, SMALLEST

TABLE_ROWS = 10_000
"""A table is laid out when all its rows are known, so it has an end; json and csv have none."""

_PLAIN = re.compile(
    r"(?:LowCardinality\()?(?:Nullable\()?"
    r"(?:U?Int\d+|Float\d+|String|FixedString\(\d+\)|Date(?:32)?|DateTime(?:64)?(?:\([^()]*\))?|Enum(?:8|16)\(.*\)|UUID)\)*$"
)
ROWS = ("SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS")
"""How a statement begins that gives rows."""

_TOTALS = re.compile(
    rf"\bsum(?:If)?\s*\(.*\bFROM\s+(?:ayaflow\.)?(?:{'|'.join(('flows', *ROLLUPS))})\b", re.IGNORECASE | re.DOTALL
)
_PRIMARY = re.compile(r"\bprimary\b", re.IGNORECASE)
_OTHERS = "SELECT 1 FROM services_1m WHERE NOT primary LIMIT 1"
_BEGIN = re.compile(r"(?:[\s(]|--[^\n]*(?:\n|$)|#[! ][^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL)
_OF_TRAFFIC = re.compile(rf"\b(?:FROM|JOIN)\s+(?:\w+\.)?({'|'.join((*TABLES, 'names', *REPORTS))})\b", re.IGNORECASE)
_OWN_FORMAT = re.compile(r"\bFORMAT\s+[A-Za-z]\w*\s*;?\s*$", re.IGNORECASE)


def run(store: Store, sql: str, *, form: str, out: TextIO) -> None:
    """Run a query and write its result; a FORMAT of its own wins. Raises QueryError."""
    sql = sql.strip().rstrip(";").strip()
    if not sql:
        raise QueryError("the query is empty; for instance: ayaflow query 'SELECT count() FROM flows'")
    _check_statement(sql)
    _warn_of_totals(store, sql)
    if _OWN_FORMAT.search(sql):
        _copy(store.chunks(sql), output.for_programs(out))
        return
    if form != "table":
        out = output.for_programs(out)
        columns = store.columns(sql)
        if columns and all(_PLAIN.match(kind) for kind in columns[1]):
            # ClickHouse writes these as we do, ten times as fast
            if form == "csv":
                output.write_csv(columns[0], (), out)
            _copy(store.chunks(sql, form="CSV" if form == "csv" else "JSONEachRow"), out)
            return
    result = store.stream(sql)
    rows = output.people_rows(result)
    if form != "table":
        output.WRITERS[form](result.names, rows, out)
        out.flush()
        return
    shown = list(islice(rows, TABLE_ROWS))
    numbers = [tables.is_number(kind) for kind in result.types]
    table, lacking = tables.fitting(result.names, shown, numbers=numbers, width=tables.width_of(out))
    tables.show(table, out)
    if lacking:
        say(f"too narrow for {', '.join(lacking)}; --format csv or json has all columns")
    if next(rows, None) is not None:
        say(f"the table ends after {TABLE_ROWS:,} rows; --format csv or json writes all")


def table_of(sql: str) -> str | None:
    """The first table of what was captured that it reads, also by a view; None: it reads none."""
    found = _OF_TRAFFIC.search(sql)
    if found is None:
        return None
    name = found[1].lower()
    return REPORTS[name].table if name in REPORTS else name if name in TABLES else SMALLEST


def _warn_of_totals(store: Store, sql: str) -> None:
    """Say so where a sum counts packets of a router several times."""
    with contextlib.suppress(QueryError):  # it has no such table: the query itself will tell
        if _TOTALS.search(sql) and not _PRIMARY.search(sql) and store.select(_OTHERS):
            say(
                "there are packets that passed several interfaces of a node, and rows for each of these; "
                "sums WHERE primary count every packet once"
            )


def _check_statement(sql: str) -> None:
    """Raise QueryError for what gives no rows: behind it, our FORMAT would be the mistake that ClickHouse names."""
    begin = _BEGIN.match(sql)
    word = begin[1].upper() if begin else ""
    if word not in ROWS:
        raise QueryError(
            f"{word or sql[:20]!r} is no statement that gives rows; this command only reads: {', '.join(ROWS)}. "
            "Settings stand in the query: SELECT … SETTINGS max_threads = 1"
        )


def _copy(chunks: Iterable[bytes], out: TextIO) -> None:
    out.flush()
    out.buffer.writelines(chunks)
    out.buffer.flush()
