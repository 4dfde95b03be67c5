"""`ayaflow query`: SQL of a person's own, read-only."""

import re
import sys
from itertools import islice
from typing import BinaryIO, TextIO

from common.errors import QueryError
from console import output, tables
from console.store import Store

TABLE_ROWS = 10_000
"""A table is laid out when all its rows are known, so it has an end; json and csv have none."""

_OWN_FORMAT = re.compile(r"\bFORMAT\s+[A-Za-z]\w*\s*;?\s*$", re.IGNORECASE)


def run(store: Store, sql: str, *, form: str, out: TextIO, binary: BinaryIO) -> int:
    """Run a query and write its result; a FORMAT of its own wins and goes to `binary` untouched.

    Returns the number of rows written (0 for a FORMAT of its own). Raises QueryError.
    """
    sql = sql.strip().rstrip(";").strip()
    if not sql:
        raise QueryError("the query is empty; for instance: ayaflow query 'SELECT count() FROM flows'")
    if _OWN_FORMAT.search(sql):
        with store.raw(sql) as source:
            while chunk := source.read(1 << 18):
                binary.write(chunk)
        binary.flush()
        return 0
    result = store.stream(sql)
    rows = output.people_rows(result)
    if form != "table":
        return output.WRITERS[form](result.names, rows, out)
    shown = list(islice(rows, TABLE_ROWS))
    table = tables.build(result.names, shown, numbers=[tables.is_number(kind) for kind in result.types])
    tables.show(table, out)
    if next(rows, None) is not None:
        sys.stderr.write(f"the table ends after {TABLE_ROWS:,} rows; --format csv or json writes all\n")
    return len(shown)
