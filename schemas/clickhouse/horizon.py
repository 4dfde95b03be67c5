"""How far back the server must know the names of inserts, and how far it does. Pure.

A table knows the names (deduplication tokens) of its newest inserts only, up to a count and, when it is replicated, an
age. What streams may read again from Kafka, it may insert again: the horizon is at least the retention of the packets.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.settings import KafkaSettings, StreamsSettings
from schemas.clickhouse.rollups import ROLLUPS

TABLES = ("flows", *ROLLUPS, "names", "names_ledger")
"""Those whose inserts have names, and the rollups, which inherit them."""
DEFAULTS_SQL = """
SELECT name, value FROM system.merge_tree_settings WHERE name LIKE 'non_replicated_deduplication_window%'
UNION ALL
SELECT name, value FROM system.replicated_merge_tree_settings WHERE name LIKE 'replicated_deduplication_window%'
"""
TABLES_SQL = """
SELECT name, engine, engine_full FROM system.tables
WHERE database = {database:String} AND match(name, '^(flows|services|hosts|names)')
"""
"""Those of which the user may see it."""
_FEWEST_INSERTS = 100_000
_SETTING = re.compile(r"\b(\w+) = '?(\d+)'?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The newest inserts of a table, of which it knows the names."""

    inserts: int
    seconds: int

    @classmethod
    def of(cls, kafka: KafkaSettings, streams: StreamsSettings) -> "Horizon":
        """Within the retention of the packets each window of each partition, and once more for what comes late.

        There are fewer inserts of names: one in streams.names.partition.INSERT_SECONDS, of each partition.
        """
        seconds = math.ceil(kafka.packets_retention_hours * 3600)
        windows = math.ceil(seconds / streams.window_seconds) * kafka.partitions
        return cls(inserts=max(_FEWEST_INSERTS, 2 * windows), seconds=seconds)

    @property
    def settings(self) -> dict[str, int]:
        """By all names that ClickHouse has for it."""
        return {
            "non_replicated_deduplication_window": self.inserts,
            "replicated_deduplication_window": self.inserts,
            "replicated_deduplication_window_seconds": self.seconds,
            "replicated_deduplication_window_for_async_inserts": self.inserts,
            "replicated_deduplication_window_seconds_for_async_inserts": self.seconds,
        }


def stored_tables(cluster: str | None) -> tuple[str, ...]:
    """The names of the tables that hold the rows."""
    return tuple(f"{table}_local" if cluster else table for table in TABLES)


def shorter(
    wanted: Horizon, tables: Iterable[tuple[str, str, str]], defaults: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """The tables that know less far back than is wanted, with their settings that are too small.

    `tables`: rows of TABLES_SQL; `defaults`: of DEFAULTS_SQL, for what a table does not set itself.
    """
    found = {}
    for table, engine, engine_full in tables:
        own = {name: int(value) for name, value in _SETTING.findall(engine_full.rpartition("SETTINGS")[2])}
        plain = not engine.startswith(("Replicated", "Shared"))
        effective = {
            name: own.get(name, defaults[name])
            for name in wanted.settings
            if name in defaults and name.startswith("non_replicated") == plain
        }
        if small := {name: value for name, value in effective.items() if value < wanted.settings[name]}:
            found[table] = small
    return found
