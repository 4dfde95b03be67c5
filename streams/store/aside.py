"""Rows that are set aside: one row of the table `refused`, whose column `flows` has them as an Arrow stream. Pure."""

from typing import Any

import pyarrow as pa

from schemas.flows import FlowColumns
from streams.names.partition import Block
from streams.partition.storing import Aside, WindowId
from streams.store.arrow import flow_columns, flow_table

_COLUMNS = {
    "time": pa.timestamp("us", "UTC"),
    "refused_by": pa.string(),
    "topic_id": pa.uint64(),
    "kafka_partition": pa.int32(),
    "window_begin": pa.uint32(),
    "window_seconds": pa.uint16(),
    "revision": pa.uint32(),
    "kafka_offset_start": pa.int64(),
    "kafka_offset_end": pa.int64(),
    "nodes": pa.list_(pa.string()),
    "records": pa.uint64(),
    "packets": pa.uint64(),
    "bytes": pa.uint64(),
    "error": pa.string(),
    "flows": pa.binary(),
    "brought_in": pa.uint8(),
}


def aside_table(aside: Aside, flows: FlowColumns, error: str, now: float) -> pa.Table:
    """The row of a window's revision. `now`: seconds since the Unix epoch."""
    return _one(
        now,
        flow_table(flows, aside.partition, aside.revision, aside.offset_end),
        refused_by="flows",
        topic_id=aside.partition.topic_id,
        kafka_partition=aside.partition.number,
        window_begin=aside.window.start,
        window_seconds=aside.window.seconds,
        revision=aside.revision,
        kafka_offset_end=aside.offset_end,
        nodes=sorted({flows.node_names[each] for each in flows.node.tolist()}),
        packets=int(flows.packets.sum() + flows.packets_rev.sum()),
        bytes=int(flows.bytes.sum() + flows.bytes_rev.sum()),
        error=error,
    )


def names_aside_table(block: Block, error: str, now: float) -> pa.Table:
    """The row of a block of names."""
    assert block.rows is not None
    return _one(
        now,
        block.rows,
        refused_by="names",
        topic_id=block.partition.topic_id,
        kafka_partition=block.partition.number,
        window_begin=block.received_s,
        kafka_offset_start=block.messages.start,
        kafka_offset_end=block.messages.end,
        nodes=sorted(set(block.rows.column("node").to_pylist())),
        error=error,
    )


def _one(now: float, rows: pa.Table, **values: Any) -> pa.Table:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    values |= {"time": round(now * 1e6), "records": len(rows), "flows": stream.getvalue().to_pybytes()}
    return pa.table({name: pa.array([values.get(name, 0)], kind) for name, kind in _COLUMNS.items()})


def rows_of(stream: bytes, window: WindowId) -> FlowColumns:
    """The rows of a window again."""
    return flow_columns(name_rows_of(stream), window)


def name_rows_of(stream: bytes) -> pa.Table:
    """Those of a block of names again."""
    return pa.ipc.open_stream(stream).read_all()
