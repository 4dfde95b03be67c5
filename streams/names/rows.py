"""Rows of NameBatch to rows of the table names, equal ones of a window added up. Pure; Arrow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DecodeError
from schemas.names import NameBatch

_KEYS = {
    "window_begin": pa.uint32(),
    "window_seconds": pa.uint16(),
    "node": pa.string(),
    "kind": pa.int8(),
    "status": pa.int8(),
    "protocol": pa.uint8(),
    "client": pa.binary(16),
    "server": pa.binary(16),
    "server_port": pa.uint16(),
    "name": pa.string(),
    "qtype": pa.uint16(),
    "rcode": pa.int16(),
    "ja4": pa.string(),
    "alpn": pa.string(),
    "ech": pa.int8(),
}
"""What tells rows of the table apart."""
_SCHEMA = pa.schema(
    _KEYS
    | {
        "count": pa.uint64(),
        "latency_count": pa.uint64(),
        "latency_us_sum": pa.uint64(),
        "latency_us_max": pa.uint32(),
        "ttl": pa.uint32(),
        "answers": pa.string(),
        "copies": pa.uint64(),
    }
)
"""Rows of one message."""
_SUMS = ("count", "latency_count", "latency_us_sum", "copies")
_LAST = ("ttl", "answers")  # of the last answer
_LATEST_NS = (2**32 - 3600) * 1_000_000_000  # ClickHouse's DateTime ends in 2106, and a window takes up to an hour


def check_times(batch: NameBatch) -> None:
    """Raises DecodeError when something was at a time that cannot be stored; what can be is taken as it is."""
    times = [batch.clock_ns, batch.base_ns]
    if len(batch):
        times += [batch.base_ns + int(each) for each in (batch.time_offset_ns.min(), batch.time_offset_ns.max())]
    if min(times) < 0 or max(times) >= _LATEST_NS:
        raise DecodeError("a NameBatch has a time before 1970 or after 2106")


def rows(batch: NameBatch, chosen: npt.NDArray[np.intp], window_seconds: int) -> pa.Table:
    """Some of the rows of a batch, one for each of `chosen`."""
    windows = (batch.base_ns + batch.time_offset_ns[chosen]) // (window_seconds * 1_000_000_000) * window_seconds
    seen = batch.latency_us[chosen] >= 0
    columns: dict[str, Any] = {
        "window_begin": windows,
        "window_seconds": np.full(len(chosen), window_seconds),
        "node": pa.repeat(pa.scalar(batch.node), len(chosen)),
        "client": _addresses(batch.clients[batch.client[chosen]]),
        "server": _addresses(batch.servers[batch.server[chosen]]),
        "name": _texts(batch.names, batch.name[chosen]),
        "ja4": _texts(batch.ja4s, batch.ja4[chosen]),
        "alpn": _texts(batch.alpns, batch.alpn[chosen]),
        "count": batch.row_count[chosen].astype(np.uint64),
        "latency_count": np.where(seen, batch.row_count[chosen], 0).astype(np.uint64),
        "latency_us_sum": np.where(seen, batch.latency_us[chosen] * batch.row_count[chosen], 0).astype(np.uint64),
        "latency_us_max": np.where(seen, batch.latency_us[chosen], 0).astype(np.uint32),
        "ttl": batch.ttl[chosen],
        "answers": _texts(batch.answer_sets, batch.answers[chosen]),
        "copies": batch.row_copies[chosen].astype(np.uint64),
    }
    columns |= {name: getattr(batch, name)[chosen] for name in _KEYS if name not in columns}
    return pa.table({field.name: _cast(columns[field.name], field.type) for field in _SCHEMA}, _SCHEMA)


def packed(table: pa.Table) -> pa.Buffer:
    """Rows of `rows`, of which there are some, to be kept: a table of a few takes ten times as much."""
    (batch,) = table.combine_chunks().to_batches()
    return batch.serialize()


def unpacked(octets: pa.Buffer) -> pa.Table:
    """What was packed."""
    return pa.Table.from_batches([pa.ipc.read_record_batch(octets, _SCHEMA)])


def added_up(parts: Sequence[pa.Table]) -> pa.Table:
    """The rows of parts, in their order, as the table names has them: each once."""
    whole = pa.concat_tables(parts)
    wanted = [*((name, "sum") for name in _SUMS), ("latency_us_max", "max"), *((name, "last") for name in _LAST)]
    found = whole.group_by(list(_KEYS), use_threads=False).aggregate(wanted)
    found = found.rename_columns([name if name in _KEYS else name.rpartition("_")[0] for name in found.column_names])
    answers = found.column("answers").combine_chunks().dictionary_encode()
    lists = pa.array(
        [text.split(" ") if text else [] for text in answers.dictionary.to_pylist()], pa.list_(pa.string())
    )
    place = found.column_names.index("answers")
    return found.set_column(place, "answers", lists.take(answers.indices))


def _addresses(octets: npt.NDArray[np.uint8]) -> pa.Array:
    values = pa.py_buffer(np.ascontiguousarray(octets))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(octets), [None, values])


def _texts(texts: tuple[str, ...], places: npt.NDArray[np.int32]) -> pa.Array:
    """Empty where there is none."""
    return pa.array(("", *texts), pa.string()).take(pa.array(places + 1))


def _cast(values: Any, kind: pa.DataType) -> Any:
    return pc.cast(values if isinstance(values, pa.Array) else pa.array(values), kind)
