"""What an operator found in one revision of a window: its rows with their identity, as a table's and as messages."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from streams.operators.operator import Operator
from streams.operators.shown import Shown
from streams.partition.storing import KafkaPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one revision has. `rows`: the columns of IDENTITY and of the operator."""

    operator: str
    partition: KafkaPartition
    window_begin: int  # seconds since the Unix epoch
    window_seconds: int
    revision: int
    rows: pa.Table


class Store(Protocol):
    """The tables of operators."""

    def insert(self, found: Found) -> None:
        """Store it, unless it is there. Raises ServiceUnavailable, or Refused when the table does not take it."""


Publish = Callable[[str, int, list[tuple[bytes, bytes]]], None]
"""Sends messages: the operator's name, the window's begin, keys and values. Raises ServiceUnavailable."""


class Runner:
    """Runs one operator. Blocking; used from its thread."""

    def __init__(self, operator: Operator, store: Store, publish: Publish) -> None:
        self.name = operator.name
        self._operator, self._store, self._publish = operator, store, publish

    def run(self, shown: Shown) -> int:
        """Look at rows that were stored under this name -> how much was found, which is stored and sent.

        Raises ServiceUnavailable when that does not work now, and whatever the operator raises.
        """
        found = find(self._operator, shown)
        if found is None:
            return 0
        self._store.insert(found)
        self._publish(self.name, found.window_begin, messages(found))
        return len(found.rows)


def find(operator: Operator, shown: Shown) -> Found | None:
    """Ask the operator. Raises what it raises, and TypeError when it has not the columns that it said."""
    flows, partition, revision = shown.flows, shown.partition, shown.revision
    rows = operator.window(shown.table()) if len(flows) else None
    if rows is None or not len(rows):
        return None
    if not isinstance(rows, pa.Table) or not rows.schema.equals(operator.schema, check_metadata=False):
        raise TypeError(f"the operator {operator.name} returned other columns than its schema says")
    name = f"{partition.topic_id:x}-{partition.number}-{flows.window_begin}-{flows.window_seconds}-{revision}"
    n = len(rows)
    identity = {
        "record_id": pa.array([f"{name}-{number}" for number in range(n)]),
        "window_begin": pa.array(np.full(n, flows.window_begin, np.uint32)),
        "window_seconds": pa.array(np.full(n, flows.window_seconds, np.uint16)),
        "topic_id": pa.array(np.full(n, partition.topic_id, np.uint64)),
        "kafka_partition": pa.array(np.full(n, partition.number, np.int32)),
        "revision": pa.array(np.full(n, revision, np.uint32)),
        "number": pa.array(np.arange(n, dtype=np.uint32)),
    }
    return Found(
        operator=operator.name,
        partition=partition,
        window_begin=flows.window_begin,
        window_seconds=flows.window_seconds,
        revision=revision,
        rows=pa.table({**identity, **{column: rows[column] for column in rows.column_names}}),
    )


def messages(found: Found) -> list[tuple[bytes, bytes]]:
    """Keys and values of its topic: the record_id, and an object of JSON with all but Kafka's own names."""
    hidden = {"topic_id", "kafka_partition", "number"}
    values = found.rows.select([name for name in found.rows.column_names if name not in hidden]).to_pylist()
    begin = datetime.fromtimestamp(found.window_begin, UTC)
    return [
        (row["record_id"].encode(), json.dumps({**row, "window_begin": begin}, default=_text).encode())
        for row in values
    ]


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat().replace("+00:00", "Z")
    return str(value)
