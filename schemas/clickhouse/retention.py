"""For how long tables keep their rows, by their TTL: what it takes to make that what the settings say. Pure.

A table has the TTL that it was made with. Only the number of days in it is changed: what somebody made of it otherwise
(TTL … TO VOLUME, none at all) is theirs.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.clickhouse.ddl import Layout, made
from schemas.clickhouse.stored import stored

TABLES_SQL = "SELECT name, engine_full FROM system.tables WHERE database = {database:String}"
OTHERS = "rollup_retention_days"
"""The setting by which tables of ours go that have no days: losses and so on."""
_TTL = re.compile(r" TTL ([\w()]+) \+ toIntervalDay\((\d+)\)(?: SETTINGS |$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A table that keeps its rows for another time than is wanted."""

    table: str  # that has the rows
    setting: str  # of clickhouse
    before: int  # days
    days: int
    time: str  # SQL of what they are counted from

    def statements(self, database: str, on_cluster: str) -> tuple[str, ...]:
        """What changes it."""
        return altered(f"{database}.{self.table}{on_cluster}", f"{self.time} + INTERVAL {self.days} DAY")


def altered(table: str, ttl: str) -> tuple[str, ...]:
    """Statements that give a table another TTL, which holds for the rows that it has, too: no part is written again."""
    return (
        f"ALTER TABLE {table} MODIFY SETTING materialize_ttl_recalculate_only = 1",
        f"ALTER TABLE {table} MODIFY TTL {ttl}",
    )


def changes(layout: Layout, tables: Iterable[tuple[str, str]], retention: Mapping[str, int]) -> list[Change]:
    """What differs from the settings. `tables`: rows of TABLES_SQL; `retention`: days by setting."""
    local = "_local" if layout.cluster else ""
    ours = made(layout)
    found = []
    for table, engine_full in tables:
        plain, ttl = table.removesuffix(local), _TTL.search(engine_full)
        known = stored(plain)
        if ttl is None or not (table in ours or known):
            continue
        setting = known.retention if known else OTHERS
        if int(ttl[2]) != retention[setting]:
            found.append(Change(table=table, setting=setting, before=int(ttl[2]), days=retention[setting], time=ttl[1]))
    return found
