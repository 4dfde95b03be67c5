"""`ayaflow names`: what flows are called, DNS transactions, and how much of the traffic has a name."""

from datetime import datetime
from typing import Any, TextIO

from cli.standard import say
from console.query import names_sql
from console.query.explore_sql import Question
from console.query.filters import Filter
from console.show import names as shown
from console.show import output, tables
from console.store.client import Store


def run(
    store: Store,
    flow_filter: Filter,
    *,
    view: str,
    since: datetime,
    until: datetime,
    limit: int,
    form: str,
    out: TextIO,
    utc: bool,
) -> None:
    """Ask and write; the share of bytes with a name stands below a table, else on standard error."""
    question = Question(by=names_sql.BY, flow_filter=flow_filter, since=since, until=until, oldest_raw=None)
    sql, parameters = names_sql.VIEWS[view](question)
    found = _rows(store, sql, {**parameters, "limit": limit})
    (summed,) = _rows(store, *names_sql.share(question))
    rows = [output.address(row) for row in names_sql.rows_of(found)]
    share = names_sql.named(found[0] if view == "domains" and found else summed)
    if form == "table":
        tables.show(shown.table(view, rows, share["total"], tables.width_of(out), utc=utc), out) if rows else None
        out.write(f"{shown.sentence(share)}\n")
    else:
        out = output.for_programs(out)
        output.WRITERS[form](rows[0] if rows else (), ([*row.values()] for row in rows), out)
        out.flush()
        say(shown.sentence(share))
    if not summed["read"]:
        say("no DNS and no handshake was read in this time: see capture.inspect (--deep-inspect) in docs/names.md")
    elif not rows:
        say(_NOTHING[view])
    elif len(rows) == limit:
        say(f"the first {limit} are shown; --limit shows more")


_NOTHING = {
    "domains": "no flow has a name",
    "queries": "no DNS transaction matches",
    "failures": "no DNS transaction failed",
    "latency": "no DNS server was asked",
    "unseen": "the DNS of all clients was seen",
}


def _rows(store: Store, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    found = store.document(sql, parameters)
    names = [column["name"] for column in found["meta"]]
    return [dict(zip(names, row, strict=True)) for row in found["data"]]
