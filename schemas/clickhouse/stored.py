"""The tables that grow with traffic: what a partition of each is, for whoever drops or replaces one. Pure.

Each has a partition a day (UTC).
"""

from dataclasses import dataclass

from schemas.clickhouse.rollups import ROLLUPS

OPERATOR_PREFIX = "operator_"
"""Tables of operators (streams.store.findings) are named so, and have days as the others have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A table whose days can go."""

    name: str
    time: str  # the column of whose day a partition is
    retention: str  # the setting of clickhouse that says how many days are kept
    packets: str = "0"  # SQL: packets that a row is of
    bytes: str = "0"  # SQL: bytes of these packets


_FLOWS = {"packets": "packets + packets_rev", "bytes": "bytes + bytes_rev"}
STORED = (
    Stored(name="flows", time="window_begin", retention="flows_retention_days", **_FLOWS),
    Stored(name="names", time="received", retention="names_retention_days"),
    *(Stored(name=name, time="time", retention="rollup_retention_days", **_FLOWS) for name in ROLLUPS),
    Stored(name="names_ledger", time="received", retention="rollup_retention_days"),
    Stored(name="ledger", time="end_time", retention="rollup_retention_days"),
)
"""Of two days that are equally due, that of the first goes first: the accounts last."""


def stored(table: str) -> Stored | None:
    """Of a table by its name; None: it has no days that may go."""
    if table.startswith(OPERATOR_PREFIX):
        return Stored(name=table, time="window_begin", retention="rollup_retention_days")
    return next((each for each in STORED if each.name == table), None)
