"""Flow records to messages of the flows topic, and to Arrow columns of the same names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import addresses
from schemas.avro.arrow import arrow_schema
from schemas.avro.columns import Column, choices, longs, same, string, texts
from schemas.avro.columns import long as one_long
from schemas.avro.packet_encoder import Writer, fastest, field_names, key_column, records
from schemas.avro.registry import HEADER, Registry, newest
from schemas.community_id import encoded_ids
from schemas.fields import KEYS, MEASURES, NAMED, Field, Kind, names
from schemas.flows import FlowColumns
from schemas.record_id import record_ids

_ROWS = 8192  # are encoded at a time: their columns stay in the CPU's cache


class FlowEncoder:
    """Encodes the rows of windows with the schema id that the registry gives."""

    def __init__(self, registry: Registry, writer: Writer | None = None) -> None:
        """`writer`: None is the compiled one where there is one."""
        self._registry, self._writer = registry, writer or fastest()

    def encode(
        self, flows: FlowColumns, *, topic_id: int, kafka_partition: int, revision: int
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys (Community ID) and values of messages, one a row. topic_id, …: of the rows, as in the table flows.

        Raises ServiceUnavailable when the registry is away the first time.
        """
        header = HEADER.pack(0, self._registry.schema_id("FlowRecord"))
        keys: list[bytes] = []
        values: list[bytes] = []
        for begin in range(0, len(flows), _ROWS):
            part = flows.part(slice(begin, begin + _ROWS))
            ids = _community_ids(part)
            columns = _columns(part, revision)
            columns["community_id"] = texts(ids)
            columns["record_id"] = texts(
                record_ids(part, topic_id=topic_id, kafka_partition=kafka_partition, revision=revision)
            )
            keys += ids.tolist()
            values += records(header, [columns[name] for name in field_names("FlowRecord")], len(part), self._writer)
        return keys, values


def _columns(flows: FlowColumns, revision: int) -> dict[str, Column]:
    begin_ms = flows.window_begin * 1000
    return {
        **{field.name: key_column(flows, field, _names(flows, field)) for field in KEYS},
        **{name: longs(getattr(flows, name)) for name in names(MEASURES)},
        **{field.name: _named(flows, field) for field in NAMED},
        "window_begin": same(one_long(begin_ms)),
        "window_seconds": same(one_long(flows.window_seconds)),
        "first_seen": longs(begin_ms + flows.first_offset_us // 1000),
        "last_seen": longs(begin_ms + flows.last_offset_us // 1000),
        "first_offset_us": longs(flows.first_offset_us),
        "last_offset_us": longs(flows.last_offset_us),
        "revision": same(one_long(revision)),
    }


def arrow_rows(flows: FlowColumns, *, topic_id: int = 0, kafka_partition: int = 0, revision: int = 0) -> pa.RecordBatch:
    """The same rows as Arrow columns, named as FlowRecord's fields; times are timestamps of whole microseconds."""
    n, begin_us = len(flows), flows.window_begin * 1_000_000
    ids = record_ids(flows, topic_id=topic_id, kafka_partition=kafka_partition, revision=revision)
    columns = {field.name: arrow_column(flows, field) for field in KEYS}
    columns |= {name: pa.array(getattr(flows, name)) for name in names(MEASURES)}
    columns |= {field.name: arrow_column(flows, field) for field in NAMED}
    columns |= {
        "record_id": _fixed_text(ids),
        "window_begin": pa.array(np.full(n, begin_us, np.int64)),
        "window_seconds": pa.array(np.full(n, flows.window_seconds, np.int32)),
        "first_seen": pa.array(begin_us + flows.first_offset_us),
        "last_seen": pa.array(begin_us + flows.last_offset_us),
        "first_offset_us": pa.array(flows.first_offset_us),
        "last_offset_us": pa.array(flows.last_offset_us),
        "community_id": _fixed_text(_community_ids(flows)),
        "revision": pa.array(np.full(n, revision, np.int32)),
    }
    schema = arrow_schema(newest("FlowRecord"))
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in schema], schema=schema)


def _named(flows: FlowColumns, field: Field) -> Column:
    values = getattr(flows, field.name)
    if field.listed:
        names = _names(flows, field)
        if len(names) > 1:  # of all names of a window those of these rows
            used, values = np.unique(values, return_inverse=True)
            names = tuple(names[number] for number in used.tolist())
        return choices(names, values)
    if field.choices and values.any():
        return choices(field.choices, values)
    return same(string(field.choices[0])) if field.choices else longs(values)


def _names(flows: Any, field: Field) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(flows, f"{field.name}_names") if field.listed else ()
    return names


def arrow_column(flows: Any, field: Field) -> pa.Array:
    """A field of flows as an Arrow column: of FlowColumns, or of what has columns of the same names."""
    values = getattr(flows, field.name)
    if field.listed:
        return pa.array(_names(flows, field), pa.string()).take(pa.array(values))
    match field.kind:
        case Kind.CHOICE:
            return pa.array(field.choices).take(pa.array(values))
        case Kind.FLAG:
            return pa.array(values.astype(np.bool_))
        case Kind.ADDRESS:
            return _arrow_addresses(values, flows.tunnel_type > 0 if field.tunnel else None)
    return pa.array(values)


def _arrow_addresses(octets: Any, present: Any) -> pa.Array:
    """`present`: which of them there are, the others are empty texts; None: all."""
    if present is None:
        return addresses.to_arrow(octets)
    return (
        pc.if_else(pa.array(present), addresses.to_arrow(octets), "") if present.any() else pa.repeat("", len(octets))
    )


def _community_ids(flows: FlowColumns) -> Any:
    return encoded_ids(
        protocol=flows.protocol,
        src_addr=flows.src_addr,
        dst_addr=flows.dst_addr,
        src_port=flows.src_port,
        dst_port=flows.dst_port,
        icmp_type=flows.icmp_type,
        icmp_code=flows.icmp_code,
    )


def _fixed_text(values: Any) -> pa.Array:
    """ASCII of dtype S…, each as long as the dtype, as an Arrow string array."""
    ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.dtype.itemsize)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(values)))
