"""Flow records and ledger rows to and from Arrow tables, as ClickHouse's Arrow reader takes them. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.community_id import TCP
from schemas.fields import STORED, Field, Kind, Role, names
from schemas.flows import LOSS_KINDS, FlowColumns, LedgerRow, Loss
from schemas.packets import COUNTS
from streams.partition.storing import KafkaPartition, WindowId
from streams.windowing.initiators import StoredConnections

_ROWS = tuple(field for field in STORED if field.role is not Role.WINDOW)
_NUMPY = {"Int16": np.int16, "UInt8": np.uint8, "UInt16": np.uint16, "UInt32": np.uint32, "UInt64": np.uint64}
"""Types of the table's numbers."""

COLUMNS = names(_ROWS)
"""What flow_columns needs of a SELECT."""
_TELLING = 8  # rows of an insert, or all where there are fewer
CONNECTION = ("node", "src_addr", "dst_addr", "src_port", "dst_port")
"""What tells connections apart."""


def flow_table(flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> pa.Table:
    """The rows as ClickHouse's Arrow reader takes them: IPv6 as 16 octets, Enum8 by number, names as dictionaries."""
    n = len(flows)

    def same(value: int, kind: Any) -> pa.Array:
        return pa.array(np.full(n, value, kind))

    columns: dict[str, Any] = {
        "window_begin": same(flows.window_begin, np.uint32),
        "window_seconds": same(flows.window_seconds, np.uint16),
        **{name: _stored(flows, field, name) for field in _ROWS for name in field.names},
        "topic_id": same(partition.topic_id, np.uint64),
        "kafka_partition": same(partition.number, np.int32),
        "kafka_offset_end": _some(n, offset_end),
        "revision": same(revision, np.uint32),
    }
    return pa.table(columns)


def _some(n: int, offset_end: int) -> pa.Array:
    """It is one of the whole insert, and compresses where few rows have it; several do, so that one may be deleted."""
    values = np.zeros(n, np.int64)
    values[:: max(1, n // _TELLING)] = offset_end
    return pa.array(values)


def flow_columns(table: pa.Table, window: WindowId) -> FlowColumns:
    """The rows of a SELECT, back as columns."""

    columns: dict[str, Any] = {}
    for field in _ROWS:
        for name in field.names:
            column = table.column(name)
            if field.listed:
                columns[f"{name}_names"], columns[name] = _names(column)
            elif field.kind is Kind.ADDRESS:
                columns[name] = _addresses(column)
            else:
                columns[name] = column.to_numpy().astype(field.type.numpy)
    return FlowColumns(window_begin=window.start, window_seconds=window.seconds, **columns)


def connections(table: pa.Table) -> StoredConnections:
    """The rows of a SELECT with the columns of CONNECTION and `newest`, a window's start, all of TCP."""
    node_names, node = _names(table.column("node"))
    return StoredConnections(
        node_names=node_names,
        node=node,
        protocol=np.full(len(table), TCP, np.uint8),
        src_addr=_addresses(table.column("src_addr")),
        dst_addr=_addresses(table.column("dst_addr")),
        src_port=table.column("src_port").to_numpy().astype(np.uint16),
        dst_port=table.column("dst_port").to_numpy().astype(np.uint16),
        window_begin=table.column("newest").to_numpy().astype(np.uint32),
    )


def _addresses(column: pa.ChunkedArray) -> Any:
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, 16)


def _stored(flows: FlowColumns, field: Field, name: str) -> pa.Array:
    values = getattr(flows, name)
    if field.listed:
        texts = pa.array(getattr(flows, f"{name}_names"), pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(values), texts)
    match field.kind:
        case Kind.CHOICE:
            return pa.array(values.astype(np.int8))
        case Kind.FLAG:
            return pa.array(values.astype(np.bool_))
        case Kind.ADDRESS:
            return _octets(values)
    return pa.array(values.astype(_NUMPY[field.type.clickhouse], copy=False))


def _names(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Any]:
    values = column.combine_chunks()
    values = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
    encoded = values.dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)


def _octets(values: Any) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def loss_table(losses: Sequence[Loss], partition: KafkaPartition) -> pa.Table:
    """Losses of a partition as an Arrow table."""
    return pa.table(
        {
            "time": pa.array([loss.time_ns // 1000 for loss in losses], pa.timestamp("us", "UTC")),
            "kind": pa.array([LOSS_KINDS.index(loss.kind) for loss in losses], pa.int8()),
            "topic_id": pa.array([partition.topic_id] * len(losses), pa.uint64()),
            "kafka_partition": pa.array([partition.number] * len(losses), pa.int32()),
            "node": pa.array([loss.node for loss in losses], pa.string()),
            "ring_id": pa.array([loss.ring_id for loss in losses], pa.int64()),
            "gap_start": pa.array([loss.start for loss in losses], pa.int64()),
            "gap_end": pa.array([loss.end for loss in losses], pa.int64()),
            "lost": pa.array([loss.lost for loss in losses], pa.uint64()),
        }
    )


def ledger_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """Ledger rows as an Arrow table."""

    def time_us(values: list[int]) -> pa.Array:
        return pa.array(values, pa.timestamp("us", "UTC"))

    counters = [row.counters for row in rows]
    return pa.table(
        {
            "node": pa.array([row.node for row in rows]),
            "ring_id": pa.array([row.ring_id for row in rows], pa.int64()),
            "epoch": pa.array([c.epoch for c in counters], pa.int64()),
            "interface": pa.array([c.interface for c in counters]),
            "direction": pa.array([c.direction for c in counters], pa.int8()),
            "primary": pa.array([c.primary for c in counters], pa.bool_()),
            "start_time": time_us([c.start_ns // 1000 for c in counters]),
            "end_time": time_us([c.end_ns // 1000 for c in counters]),
            **{name: pa.array([getattr(c, name) for c in counters], pa.uint64()) for name in COUNTS},
            "ended": pa.array([c.ended for c in counters], pa.bool_()),
            "closed": pa.array([row.closed for row in rows], pa.bool_()),
            "window_seconds": pa.array([row.window_seconds for row in rows], pa.uint16()),
            "consumed_windows": pa.array([row.consumed_windows for row in rows], pa.list_(pa.uint32())),
            "consumed_packets": _sums([row.consumed_packets for row in rows]),
            "consumed_bytes": _sums([row.consumed_bytes for row in rows]),
            "kafka_offset_start": pa.array([row.kafka_offset_start for row in rows], pa.int64()),
            "version": pa.array([row.kafka_offset_end for row in rows], pa.uint64()),
        }
    )


def _sums(rows: Sequence[Sequence[int]]) -> pa.Array:
    """Beyond 64 bits, as the table's own sums are."""
    return pa.array([[value & 2**64 - 1 for value in row] for row in rows], pa.list_(pa.uint64()))
