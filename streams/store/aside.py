"""Rows that are set aside: one row of the table `refused`, whose column `flows` has them as an Arrow stream. Pure."""

import pyarrow as pa

from schemas.flows import FlowColumns
from streams.partition.storing import Aside, WindowId
from streams.store.arrow import flow_columns, flow_table


def aside_table(aside: Aside, flows: FlowColumns, error: str, now: float) -> pa.Table:
    """The row of a window's revision. `now`: seconds since the Unix epoch."""
    rows = flow_table(flows, aside.partition, aside.revision, aside.offset_end)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    one = {
        "time": (round(now * 1e6), pa.timestamp("us", "UTC")),
        "topic_id": (aside.partition.topic_id, pa.uint64()),
        "kafka_partition": (aside.partition.number, pa.int32()),
        "window_begin": (aside.window.start, pa.uint32()),
        "window_seconds": (aside.window.seconds, pa.uint16()),
        "revision": (aside.revision, pa.uint32()),
        "kafka_offset_end": (aside.offset_end, pa.int64()),
        "nodes": (sorted({flows.node_names[each] for each in flows.node.tolist()}), pa.list_(pa.string())),
        "records": (len(flows), pa.uint64()),
        "packets": (int(flows.packets.sum() + flows.packets_rev.sum()), pa.uint64()),
        "bytes": (int(flows.bytes.sum() + flows.bytes_rev.sum()), pa.uint64()),
        "error": (error, pa.string()),
        "flows": (stream.getvalue().to_pybytes(), pa.binary()),
        "brought_in": (0, pa.uint8()),
    }
    return pa.table({name: pa.array([value], kind) for name, (value, kind) in one.items()})


def rows_of(stream: bytes, window: WindowId) -> FlowColumns:
    """The rows again."""
    return flow_columns(pa.ipc.open_stream(stream).read_all(), window)
