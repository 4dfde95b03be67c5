"""How complete the range is that a command has shown: a line below its table, else on standard error."""

import json
from datetime import datetime
from typing import TextIO

from cli.standard import say
from common.errors import AyaflowError
from common.plain import plain
from common.settings import Settings
from common.times import iso, local
from console.reports import reading
from console.reports.sentence import sentence
from console.store.client import Store
from schemas.clickhouse.rollups import SMALLEST


def tell(
    store: Store,
    settings: Settings,
    since: datetime,
    until: datetime,
    *,
    form: str,
    out: TextIO,
    utc: bool,
    named: bool = False,
    table: str = SMALLEST,
) -> None:
    """Ask what /api/completeness asks. With `json` it is `{"completeness": …}` on standard error, as that answers.

    `named`: say the range, too. `table`: what the rows were read from. Rows that are shown stand also where this cannot
    be asked: then that is said.
    """
    try:
        found = reading.complete(
            store,
            since,
            until,
            table=table,
            window_seconds=settings.streams.window_seconds,
            node_timeout_seconds=settings.streams.node_timeout_seconds,
        )
    except AyaflowError as error:
        say(f"how complete this is could not be asked: {error}")
        return
    if form == "json":
        say(json.dumps({"completeness": found.as_json(since, until)}))
        return
    said = f"from {iso(since)} to {iso(until)}: {sentence(found, until)}" if named else sentence(found, until)
    if form == "table":
        out.write(plain(said if utc else local(said)) + "\n")
    else:
        say(said)
