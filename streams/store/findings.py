"""The tables of operators: operator_NAME, made when it is first used, and given the columns that it lacks."""

from typing import Any

import pyarrow as pa

from common.settings import ClickHouseSettings
from streams.operators.findings import Found
from streams.operators.operator import Operator
from streams.store.connection import Connection

_IDENTITY = {
    "record_id": "String",
    "window_begin": "DateTime('UTC') CODEC(Delta, ZSTD(1))",
    "window_seconds": "UInt16",
    "topic_id": "UInt64",
    "kafka_partition": "Int32",
    "revision": "UInt32",
    "number": "UInt32",
}
_TYPES: dict[pa.DataType, str] = {
    pa.string(): "String",
    pa.bool_(): "Bool",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.timestamp("us"): "DateTime64(6, 'UTC')",
    **{getattr(pa, f"{sign}int{bits}")(): f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_NAMED = (
    "window_begin = toDateTime({start:UInt32}, 'UTC') AND window_seconds = {seconds:UInt16}"
    " AND topic_id = {topic:UInt64} AND kafka_partition = {partition:Int32} AND revision = {revision:UInt32}"
)


class FindingsStore:
    """One operator's table. Blocking; used from its thread."""

    def __init__(self, settings: ClickHouseSettings, operator: Operator) -> None:
        """Raises TypeError when a column is of a type that the table cannot have."""
        self._settings, self._table = settings, f"operator_{operator.name}"
        self._columns = {field.name: clickhouse_type(field.type) for field in operator.schema}
        self._connection = Connection(settings, None)
        self._is_made = False

    def insert(self, found: Found) -> None:
        """Store what was found, unless it is there: a name is used once. Raises ServiceUnavailable or Refused."""
        if not self._is_made:
            for statement in self._ddl():
                self._connection.command(statement)
            self._is_made = True
        partition = found.partition
        stored = self._connection.number(
            f"SELECT count() FROM {self._table} WHERE {_NAMED}",  # noqa: S608  a checked name
            start=found.window_begin,
            seconds=found.window_seconds,
            topic=partition.topic_id,
            partition=partition.number,
            revision=found.revision,
        )
        if stored:
            return
        name = f"{partition.topic_id:x}/{partition.number}/{found.window_begin}/{found.window_seconds}/{found.revision}"
        self._connection.insert(self._table, found.rows, {"insert_deduplication_token": name})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ddl(self) -> list[str]:
        settings, cluster = self._settings, self._settings.cluster
        stored, on_cluster = settings.stored(self._table), settings.on_cluster
        local = f"{settings.database}.{stored}"
        columns = ", ".join(f"`{name}` {kind}" for name, kind in (_IDENTITY | self._columns).items())
        window = f"{'' if cluster else 'non_'}replicated_deduplication_window"
        statements = [
            (
                f"CREATE TABLE IF NOT EXISTS {local}{on_cluster} ({columns}) "
                f"ENGINE = {'Replicated' if cluster else ''}MergeTree PARTITION BY toDate(window_begin) "
                "ORDER BY (window_begin, topic_id, kafka_partition, revision, number) "
                f"TTL window_begin + INTERVAL {settings.rollup_retention_days} DAY "
                f"SETTINGS ttl_only_drop_parts = 1, {window} = 100000"
            )
        ]
        if cluster:
            statements.append(
                f"CREATE TABLE IF NOT EXISTS {settings.database}.{self._table}{on_cluster} AS {local} "
                f"ENGINE = Distributed('{cluster}', '{settings.database}', '{stored}', kafka_partition)"
            )
        tables = [local, *([f"{settings.database}.{self._table}"] if cluster else [])]
        more = ", ".join(f"ADD COLUMN IF NOT EXISTS `{name}` {kind}" for name, kind in self._columns.items())
        return statements + [f"ALTER TABLE {table}{on_cluster} {more}" for table in tables]


def clickhouse_type(kind: Any) -> str:
    """Of a column of Arrow's. Raises TypeError for one that there is not."""
    if pa.types.is_list(kind):
        return f"Array({clickhouse_type(kind.value_type)})"
    if kind not in _TYPES:
        raise TypeError(f"a column of an operator cannot be {kind}: strings, booleans, numbers, timestamp[us], lists")
    return _TYPES[kind]
