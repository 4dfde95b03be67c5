"""Flow records and ledger rows to and from Arrow tables, as ClickHouse's Arrow reader takes them. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.flows import LOSS_KINDS, FlowColumns, LedgerRow, Loss
from schemas.packets import EpochCounters
from streams.partition.storing import KafkaPartition, WindowId

NAMES = ("node", "interface")
ADDRESSES = ("src_addr", "dst_addr", "outer_src_addr", "outer_dst_addr")
NUMBERS = {
    "protocol": np.uint8,
    "src_port": np.uint16,
    "dst_port": np.uint16,
    "vlan_id": np.uint16,
    "icmp_type": np.uint8,
    "icmp_code": np.uint8,
    "tunnel_id": np.uint32,
    "packets": np.uint64,
    "bytes": np.uint64,
    "packets_rev": np.uint64,
    "bytes_rev": np.uint64,
    "tcp_flags": np.uint16,
    "tcp_flags_rev": np.uint16,
    "min_ttl": np.uint8,
    "max_ttl": np.uint8,
    "min_ttl_rev": np.uint8,
    "max_ttl_rev": np.uint8,
    "dscp": np.uint8,
    "dscp_rev": np.uint8,
    "min_packet_bytes": np.uint32,
    "max_packet_bytes": np.uint32,
    "min_packet_bytes_rev": np.uint32,
    "max_packet_bytes_rev": np.uint32,
    "first_offset_us": np.uint32,
    "last_offset_us": np.uint32,
}
_COUNTERS = tuple(name for name in EpochCounters.__dataclass_fields__ if name.endswith(("_packets", "_bytes")))

COLUMNS = (*NAMES, "direction", "primary", "tunnel_type", *ADDRESSES, *NUMBERS)
"""What flow_columns needs of a SELECT."""


def flow_table(flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> pa.Table:
    """The rows as ClickHouse's Arrow reader takes them: IPv6 as 16 octets, Enum8 by number, names as dictionaries."""
    n = len(flows)

    def same(value: int, kind: Any) -> pa.Array:
        return pa.array(np.full(n, value, kind))

    columns: dict[str, Any] = {
        "window_start": same(flows.window_start, np.uint32),
        "window_seconds": same(flows.window_seconds, np.uint16),
        "node": pa.DictionaryArray.from_arrays(pa.array(flows.node), pa.array(flows.node_names, pa.string())),
        "interface": pa.DictionaryArray.from_arrays(
            pa.array(flows.interface), pa.array(flows.interface_names, pa.string())
        ),
        "direction": pa.array(flows.direction.astype(np.int8)),
        "primary": pa.array(flows.primary.astype(np.bool_)),
        "tunnel_type": pa.array(flows.tunnel_type.astype(np.int8)),
        **{name: _octets(getattr(flows, name)) for name in ADDRESSES},
        **{name: pa.array(getattr(flows, name).astype(kind, copy=False)) for name, kind in NUMBERS.items()},
        "topic_id": same(partition.topic_id, np.uint64),
        "kafka_partition": same(partition.number, np.int32),
        "kafka_offset_end": same(offset_end, np.int64),
        "revision": same(revision, np.uint16),
    }
    return pa.table(columns)


def flow_columns(table: pa.Table, window: WindowId) -> FlowColumns:
    """The rows of a SELECT, back as columns."""

    def texts(name: str) -> tuple[tuple[str, ...], Any]:
        values = table.column(name).combine_chunks()
        values = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
        encoded = values.dictionary_encode()
        return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)

    def numbers(name: str, kind: Any) -> Any:
        return table.column(name).to_numpy().astype(kind)

    def octets(name: str) -> Any:
        joined = b"".join(table.column(name).to_pylist())
        return np.frombuffer(joined, np.uint8).reshape(-1, 16)

    node_names, node = texts("node")
    interface_names, interface = texts("interface")
    own = {
        "packets": np.int64,
        "bytes": np.int64,
        "packets_rev": np.int64,
        "bytes_rev": np.int64,
        "first_offset_us": np.int64,
        "last_offset_us": np.int64,
    }
    return FlowColumns(
        window_start=window.start,
        window_seconds=window.seconds,
        node_names=node_names,
        interface_names=interface_names,
        node=node,
        interface=interface,
        direction=numbers("direction", np.uint8),
        primary=numbers("primary", np.uint8),
        tunnel_type=numbers("tunnel_type", np.uint8),
        **{name: octets(name) for name in ADDRESSES},
        **{name: numbers(name, own.get(name, kind)) for name, kind in NUMBERS.items()},
    )


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
            **{name: pa.array([getattr(c, name) for c in counters], pa.uint64()) for name in _COUNTERS},
            "closed": pa.array([row.closed for row in rows], pa.bool_()),
            "window_seconds": pa.array([row.window_seconds for row in rows], pa.uint16()),
            "consumed_windows": pa.array([row.consumed_windows for row in rows], pa.list_(pa.uint32())),
            "consumed_packets": pa.array([row.consumed_packets for row in rows], pa.list_(pa.uint64())),
            "consumed_bytes": pa.array([row.consumed_bytes for row in rows], pa.list_(pa.uint64())),
        }
    )
