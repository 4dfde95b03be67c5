"""What ClickHouse says of how complete a range is: what the API and the commands show beside their figures."""

import time
from datetime import datetime
from typing import Any

from console.audit import names, read
from console.audit import sql as audit_sql
from console.audit.read import Range
from console.reports import completeness
from console.reports.completeness import Completeness
from console.store.client import Store

_HOUR = 3_600
_GRACE_SECONDS = 120  # an hour that ended so long ago is in flows and in the rollups, if nothing comes late


def complete(
    store: Store, since: datetime, until: datetime, *, node: str = "", node_timeout_seconds: float
) -> Completeness:
    """Of all traffic of a range, of one node or all. Raises ServiceUnavailable or QueryError."""
    first, last = since.timestamp(), until.timestamp()
    values: dict[str, str | int] = {
        "since_us": int(first * 1e6),
        "until_us": int(last * 1e6),
        "node": node,
        "from": -(-int(first) // _HOUR) * _HOUR,
        "to": int(min(last, time.time() - _GRACE_SECONDS)) // _HOUR * _HOUR,
    }

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.select(sql, read.used(sql, values))

    missing = 0
    if int(values["from"]) < int(values["to"]):
        missing = int(ask(completeness.ROLLUPS)[0]["rollup_missing_records"])
    settled = read.settled_until(
        store, Range(since=since, until=until, node=node), node_timeout_seconds=node_timeout_seconds
    )
    (ledger,) = ask(completeness.totals(min(last, time.time()) - first))
    if settled is None and int(ledger["seen_packets"]):
        settled = last  # no node of then is left
    return completeness.of(
        ledger,
        ask(audit_sql.LOSSES) + ask(audit_sql.REFUSED),
        ask(names.READ),
        rollup_missing_records=missing,
        settled_until=settled,
    )
