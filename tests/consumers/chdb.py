"""Runs the files of docs/consumers/clickhouse.md in chDB: all but the last once, the last again and again.

chDB has the engine Kafka and its readers, but none of the server's background work for it, by which a materialized view
is fed: a CREATE of such a table is done and then says `Shutdown was called`, and the SELECT of each view is run here.

Run: python -m tests.consumers.chdb FILE … LAST
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

from chdb.session import Session

_NO_BACKGROUND = "Shutdown was called"
_VIEW = re.compile(r"\s*CREATE MATERIALIZED VIEW \S+ TO (\S+) AS\s+(SELECT.*)", re.DOTALL)


def main(files: list[str]) -> None:
    """Until it is ended."""
    *once, last = ([text for text in Path(file).read_text().split(";") if text.strip()] for file in files)
    session: Any = Session()  # type: ignore[no-untyped-call]
    views = []
    for statement in (statement for statements in once for statement in statements):
        if view := _VIEW.fullmatch(statement):
            target, select = view.groups()
            views.append(f"INSERT INTO {target} {select} SETTINGS stream_like_engine_allow_direct_select = 1")
            continue
        try:
            session.query(statement)
        except RuntimeError as error:
            if _NO_BACKGROUND not in str(error) or "ENGINE = Kafka" not in statement:
                raise
    while True:
        for statement in views:
            session.query(statement)
        for statement in last:
            print(str(session.query(statement, "TSVRaw")).strip(), flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
