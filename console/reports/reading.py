"""What ClickHouse says of how complete a range is: what the API and the commands show beside their figures."""

import math
import time
from datetime import datetime
from typing import Any

from common.errors import QueryError
from console.audit import names, read
from console.audit import sql as audit_sql
from console.audit.read import Range
from console.query import packets_sql
from console.query.times import LATEST
from console.reports import completeness
from console.reports.completeness import Completeness
from console.store.client import Store
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS, SMALLEST

_HOUR = 3_600
_GRACE_SECONDS = 120  # what ended so long ago is in all tables, if nothing comes late


def complete(
    store: Store,
    since: datetime,
    until: datetime,
    *,
    node: str = "",
    table: str = SMALLEST,
    window_seconds: int,
    node_timeout_seconds: float,
) -> Completeness:
    """Of all traffic of a range, of one node or all. `table`: what was read, of completeness.TABLES.

    Raises ServiceUnavailable or QueryError.
    """
    if table not in completeness.TABLES:
        raise QueryError(f"table: there is no {table!r}; the tables are {', '.join(completeness.TABLES)}")
    if node and table in ROLLUPS and "node" not in ROLLUPS[table].keys:
        raise QueryError(f"table: {table} does not know nodes; leave node out, or ask for {SMALLEST}")
    period = max(_HOUR, ROLLUPS[table].seconds) if table in ROLLUPS else window_seconds
    first, last = since.timestamp(), until.timestamp()
    values: dict[str, str | int] = {
        "since_us": int(first * 1e6),
        "until_us": int(last * 1e6),
        "node": node,
        "from": -(-int(first) // period) * period,
        "to": int(min(last, time.time() - _GRACE_SECONDS)) // period * period,
    }

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.select(sql, read.used(sql, values))

    settled = read.settled_until(
        store, Range(since=since, until=until, node=node), node_timeout_seconds=node_timeout_seconds
    )
    lacking: dict[str, Any] = {}
    if int(values["from"]) < int(values["to"]):
        if table in ROLLUPS:
            lacking = ask(completeness.rollup(table))[0]
        elif table == "packets" and ask(packets_sql.THERE)[0]["there"]:
            lacking = ask(completeness.PACKETS)[0]
    if table != "packets":
        lacking |= _unkept(store, table, node, period, (first, last if settled is None else min(last, settled)))
    (ledger,) = ask(completeness.totals(min(last, time.time()) - first))
    if settled is None and int(ledger["seen_packets"]):
        settled = last  # no node of then is left
    return completeness.of(
        ledger,
        ask(audit_sql.LOSSES) + ask(audit_sql.REFUSED),
        ask(names.READ),
        table=table,
        **{name: int(count) for name, count in lacking.items()},
        settled_until=settled,
    )


def _unkept(store: Store, table: str, node: str, period: int, settled: tuple[float, float]) -> dict[str, Any]:
    """What was consumed and is not in flows, or a rollup, of whole periods of a range that is settled."""
    since, until = settled
    margin = audit_sql.MARGIN_SECONDS
    values: dict[str, str | int] = {
        "node": node,
        "oldest": max(0, int(since) - margin),
        "newest": min(int(until) + margin, int(LATEST.timestamp())),
    }
    made_anew = store.select(audit_sql.REWINDOWED, read.used(audit_sql.REWINDOWED, values))
    whole = math.lcm(period, *(int(row["bucket_seconds"]) for row in made_anew))
    values["from"] = -(-int(since) // whole) * whole
    values["to"] = int(min(until, time.time() - _GRACE_SECONDS)) // whole * whole
    if int(values["from"]) >= int(values["to"]):
        return {}
    gone = [str(row["day"]) for row in store.select(dropped.COUNTED, read.used(dropped.COUNTED, values))]
    sql = completeness.unkept(table, min(until, time.time()) - since, gone)
    return store.select(sql, read.used(sql, values))[0]
