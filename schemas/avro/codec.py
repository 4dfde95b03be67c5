"""Our records to and from what stands in Kafka: Avro with Confluent framing (magic 0, 4-byte schema id).

A message may have been written with an older or newer version of its schema: it is decoded with the version that
its id names, columns that it lacks take their default, columns that we do not know are left out.
"""

import json
from functools import cache
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DecodeError
from schemas import addresses
from schemas.avro import arrow
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import HEADER, newest, open_registry
from schemas.community_id import encoded_ids
from schemas.defaults import entry_values
from schemas.fields import DIRECTIONS, KEYS, MEASURES, PACKET_COLUMNS, Field, Kind, names
from schemas.flows import FlowColumns
from schemas.packets import U8, EpochCounters, FlowKeys, PacketBatch, PacketEvents
from schemas.topics import TopicNames

_EACH = tuple(column.name for column in PACKET_COLUMNS if not column.may_be_empty)
_OR_EMPTY = tuple(column.name for column in PACKET_COLUMNS if column.may_be_empty)
_FLOWS = 8192  # are encoded at a time: their columns stay in the CPU's cache
_NOT_NUMBERS = {"interface", "direction", "primary", "ended"}
_COUNTER_NUMBERS = tuple(name for name in EpochCounters.__dataclass_fields__ if name not in _NOT_NUMBERS)


class Codec:
    """Encodes and decodes; holds the schema ids. Safe to share between threads once an id has been looked up."""

    def __init__(self, schema_registry_url: str | None = None, topics: TopicNames | None = None) -> None:
        self._registry = open_registry(schema_registry_url, topics or TopicNames.of("ayaflow."))
        self._batches = BatchEncoder(self._registry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the registry, if there are any."""
        self._registry.close()

    def encode_packet_batch(self, batch: PacketBatch) -> bytes:
        """One message of the packets topic."""
        return self._batches.encode(batch)

    def at_hand(self, message: bytes) -> bool:
        """Whether a message can be decoded, or refused, without asking the registry."""
        return len(message) < HEADER.size or message[0] != 0 or self._registry.at_hand(HEADER.unpack_from(message)[1])

    def decode_packet_batch(self, message: bytes) -> PacketBatch:
        """A message of the packets topic. Raises DecodeError when it is not one, or its columns do not fit together."""
        row = self._decode("PacketBatch", message)
        flow_rows = row.struct_list("flows", "FlowKey")
        names, interface = _dictionary(flow_rows.get("interface", pa.string()))
        flows = FlowKeys(interface=interface, epoch=flow_rows.numbers("epoch", np.int64), **_keys(flow_rows))
        flow = row.array("flow", np.int32)
        batch = PacketBatch(
            node=row.text("node"),
            ring_id=row.number("ring_id"),
            ring_start=row.number("ring_start"),
            ring_end=row.number("ring_end"),
            coalesced_start=row.number("coalesced_start"),
            coalesced_end=row.number("coalesced_end"),
            sequence=row.number("sequence"),
            clock_ns=row.number("clock_ns"),
            idle_start_ns=row.number("idle_start_ns"),
            idle_end_ns=row.number("idle_end_ns"),
            base_ns=row.number("base_ns"),
            interface_names=names,
            flows=flows,
            flow=flow,
            time_offset_ns=row.array("time_offset_ns", np.int64),
            **{
                column.name: row.array(column.name, np.dtype(column.numpy), 0 if column.may_be_empty else len(flow))
                for column in PACKET_COLUMNS
            },
            counters=_counters(row.struct_list("counters", "EpochCounters")),
        )
        _check(batch)
        return batch

    def encode_packet_events(self, events: PacketEvents) -> list[bytes]:
        """Messages of the packet-events topic, one an entry of the batch."""
        batch, schema = events.batch, newest("PacketEvent")
        index, n = pa.array(batch.flow), len(batch)
        columns = {
            "node": pa.repeat(pa.scalar(batch.node), n),
            "ring_id": pa.array(np.full(n, batch.ring_id, np.int64)),
            "ring_position": pa.array(events.ring_position),
            "coalesced": pa.array(np.full(n, batch.coalesced)),
            "time_ns": pa.array(batch.base_ns + batch.time_offset_ns),
            "epoch": pa.array(batch.flows.epoch).take(index),
            **{
                field.name: _texts(batch.flows, field, batch.interface_names).take(index)
                for field in KEYS
                if field.name != "node"
            },
            **{name: pa.array(values) for name, values in entry_values(batch).items()},
        }
        return self._framed("PacketEvent", arrow.encode(_rows(columns, schema), schema))

    def encode_flow_records(self, flows: FlowColumns, revision: int) -> tuple[list[bytes], list[bytes]]:
        """Keys (Community ID) and values of the messages of the flows topic, one a row."""
        keys: list[bytes] = []
        values: list[bytes] = []
        for begin in range(0, len(flows), _FLOWS):
            part = flows.part(slice(begin, begin + _FLOWS))
            ids = _ids(part)
            rows = _flow_rows(part, revision, ids)
            keys += ids.tolist()
            values += self._framed("FlowRecord", arrow.encode(rows, newest("FlowRecord")))
        return keys, values

    @staticmethod
    def flow_rows(flows: FlowColumns, revision: int) -> pa.RecordBatch:
        """The same rows as Arrow columns, named and typed as FlowRecord's fields."""
        return _flow_rows(flows, revision, _ids(flows))

    def encode_live_stats(self, stats: dict[str, Any]) -> bytes:
        """One message of the live topic; `stats` has the fields of LiveStats.avsc (times as datetime)."""
        return self._header("LiveStats") + arrow.encode_record(stats, newest("LiveStats"))

    def decode_live_stats(self, message: bytes) -> dict[str, Any]:
        """A message of the live topic. Raises DecodeError."""
        schema, record = self._unframe("LiveStats", message)
        return arrow.decode_record(record, schema, newest("LiveStats"))

    def _header(self, name: str) -> bytes:
        return HEADER.pack(0, self._registry.schema_id(name))

    def _framed(self, name: str, records: pa.Array) -> list[bytes]:
        header = self._header(name)
        return [header + record for record in records.to_pylist()]

    def _unframe(self, name: str, message: bytes) -> tuple[str, bytes]:
        if len(message) < HEADER.size or message[0] != 0:
            raise DecodeError("no Confluent framing: the message does not begin with 0 and a schema id")
        schema = self._registry.schema(HEADER.unpack_from(message)[1])
        if _record_name(schema) != name:
            raise DecodeError(f"a {_record_name(schema)} where a {name} is expected")
        return schema, message[HEADER.size :]

    def _decode(self, name: str, message: bytes) -> "_Columns":
        schema, record = self._unframe(name, message)
        return _Columns(arrow.decode(record, schema), name, schema)


class _Columns:
    """Columns of a decoded record by name; a column that the writer did not have gives its default."""

    def __init__(self, rows: Any, name: str, schema: str) -> None:
        self._rows, self._name, self._schema = rows, name, schema
        self._known = arrow.names(schema, name)

    def get(self, name: str, kind: pa.DataType) -> pa.Array:
        if name in self._known:
            return self._rows.column(name) if isinstance(self._rows, pa.RecordBatch) else self._rows.field(name)
        default = "" if pa.types.is_string(kind) else 0 if pa.types.is_integer(kind) else None
        return pa.array([default] * len(self._rows), kind)

    def number(self, name: str) -> int:
        return int(self.get(name, pa.int64())[0].as_py())

    def text(self, name: str) -> str:
        return str(self.get(name, pa.string())[0].as_py())

    def numbers(self, name: str, kind: Any, limits: tuple[int, int] | None = None) -> Any:
        """`limits`: the smallest and the largest that there may be; None: what `kind` holds."""
        return self._fitting(name, kind, self.get(name, pa.int64()).to_numpy(zero_copy_only=False), limits)

    def _fitting(self, name: str, kind: Any, values: Any, limits: tuple[int, int] | None = None) -> Any:
        if values.dtype == kind and not limits:
            return values
        lowest, highest = limits or _limits(kind)
        if len(values) and not lowest <= int(values.min()) <= int(values.max()) <= highest:
            raise DecodeError(f"{self._name}.{name} is out of range")
        return values.astype(kind)

    def choices(self, name: str, enum: str, ours: tuple[str, ...], unknown: int | None = None) -> Any:
        """An enum as places among our symbols; `unknown`: for those that we do not have (None: a DecodeError)."""
        if name not in self._known:
            return np.zeros(len(self._rows), np.uint8)
        places = self.get(name, pa.int32()).to_numpy(zero_copy_only=False)
        theirs = arrow.symbols(self._schema, enum)
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(theirs):
            raise DecodeError(f"{self._name}.{name} is none of {', '.join(theirs)}")
        if theirs == ours:
            return places.astype(np.uint8)
        if unknown is None and not {theirs[place] for place in np.unique(places)} <= {*ours}:
            raise DecodeError(f"{self._name}.{name} is none of {', '.join(ours)}")
        table = np.array([ours.index(each) if each in ours else unknown or 0 for each in theirs], np.uint8)
        return table[places]

    def flags(self, name: str, *, unknown: bool = True) -> Any:
        """Booleans as 0 and 1; all `unknown` when the writer did not know them."""
        if name not in self._known:
            return np.full(len(self._rows), unknown, np.uint8)
        return self.get(name, pa.bool_()).to_numpy(zero_copy_only=False).astype(np.uint8)

    def array(self, name: str, kind: Any, length: int = 0) -> Any:
        """`length`: of the zeros in its place when the writer did not know the column."""
        if name not in self._known:
            return np.zeros(length, kind)
        return self._fitting(name, kind, self.get(name, pa.null()).values.to_numpy(zero_copy_only=False))

    def struct_list(self, name: str, record: str) -> "_Columns":
        if name not in self._known:
            return _Columns(pa.array([], pa.struct([])), "none", self._schema)
        return _Columns(self.get(name, pa.null()).values, record, self._schema)

    def __len__(self) -> int:
        return len(self._rows)


@cache
def _limits(kind: Any) -> tuple[int, int]:
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def _counters(rows: _Columns) -> tuple[EpochCounters, ...]:
    if not len(rows):
        return ()
    numbers = {name: rows.get(name, pa.int64()).to_pylist() for name in _COUNTER_NUMBERS}
    interfaces = rows.get("interface", pa.string()).to_pylist()
    directions = rows.choices("direction", "Direction", DIRECTIONS).tolist()
    primary, ended = rows.flags("primary"), rows.flags("ended", unknown=False)
    return tuple(
        EpochCounters(
            interface=interfaces[i],
            direction=directions[i],
            primary=bool(primary[i]),
            ended=bool(ended[i]),
            **{name: values[i] for name, values in numbers.items()},
        )
        for i in range(len(rows))
    )


def _check(batch: PacketBatch) -> None:
    n = len(batch.flow)
    if any(len(getattr(batch, name)) != n for name in ("time_offset_ns", *_EACH)):
        raise DecodeError("the columns of a PacketBatch differ in length")
    if any(len(getattr(batch, name)) not in {0, n} for name in _OR_EMPTY):
        raise DecodeError("the columns of a PacketBatch differ in length")
    if not 0 <= batch.coalesced_start <= batch.coalesced_end:
        raise DecodeError("the numbers of the coalesced entries of a PacketBatch go backwards")
    if batch.coalesced and (batch.coalesced_end - batch.coalesced_start != n or batch.ring_start != batch.ring_end):
        raise DecodeError("a coalesced PacketBatch holds something else than the entries that it numbers")
    if len(batch.duration_ns) and int(batch.duration_ns.min()) < 0:
        raise DecodeError("an entry of a PacketBatch ends before it begins")
    if n and (int(batch.flow.min()) < 0 or int(batch.flow.max()) >= len(batch.flows)):
        raise DecodeError("a packet of a PacketBatch names a flow that is not in its dictionary")
    if n and min(int(column.min()) for column in (batch.packets, batch.bytes, batch.segment_bytes)) < 0:
        raise DecodeError("a packet of a PacketBatch has a negative count")
    if not 0 <= batch.idle_start_ns <= batch.idle_end_ns:
        raise DecodeError("the idle time of a PacketBatch ends before it begins")
    if not batch.node:
        raise DecodeError("a PacketBatch without a node")


def _keys(rows: _Columns) -> dict[str, Any]:
    """The columns of FlowKeys but `interface` and `epoch`."""
    found: dict[str, Any] = {}
    for field in KEYS:
        match field.kind:
            case Kind.NAME:
                continue
            case Kind.CHOICE:
                unknown = 0 if field.name == "tunnel_type" else None
                found[field.name] = rows.choices(field.name, field.type.avro, field.choices, unknown=unknown)
            case Kind.FLAG:
                found[field.name] = rows.flags(field.name)
            case Kind.ADDRESS:
                found[field.name] = rows.get(field.name, pa.string())
            case _:
                limits = field.smallest, field.largest
                found[field.name] = rows.numbers(field.name, np.dtype(field.type.numpy), limits)
    both = addresses.from_arrow(pa.concat_arrays([found["src_addr"], found["dst_addr"]]))
    found["src_addr"], found["dst_addr"] = both[: len(rows)], both[len(rows) :]
    for field in KEYS:
        if field.kind is Kind.ADDRESS and field.tunnel:
            found[field.name] = _outer(found[field.name], found["tunnel_type"])
    return found


def _texts(flows: FlowKeys | FlowColumns, field: Field, interface_names: tuple[str, ...]) -> pa.Array:
    """A key as the Avro records of single packets and flows have it."""
    values = getattr(flows, field.name)
    match field.kind:
        case Kind.NAME:
            return pa.array(interface_names, pa.string()).take(pa.array(values))
        case Kind.CHOICE:
            return pa.array(field.choices).take(pa.array(values))
        case Kind.FLAG:
            return pa.array(values.astype(np.bool_))
        case Kind.ADDRESS:
            return _outer_text(values, flows.tunnel_type) if field.tunnel else addresses.to_arrow(values)
    return pa.array(values)


def _ids(flows: FlowColumns) -> Any:
    return encoded_ids(
        protocol=flows.protocol,
        src_addr=flows.src_addr,
        dst_addr=flows.dst_addr,
        src_port=flows.src_port,
        dst_port=flows.dst_port,
        icmp_type=flows.icmp_type,
        icmp_code=flows.icmp_code,
    )


def _fixed_text(texts: Any) -> pa.Array:
    """ASCII of dtype S…, each as long as the dtype, as an Arrow string array."""
    ends = np.arange(len(texts) + 1, dtype=np.int32) * np.int32(texts.dtype.itemsize)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(texts)))


def _flow_rows(flows: FlowColumns, revision: int, ids: Any) -> pa.RecordBatch:
    schema, n = newest("FlowRecord"), len(flows)
    start_us = flows.window_start * 1_000_000
    columns = {
        field.name: _texts(flows, field, flows.node_names if field.name == "node" else flows.interface_names)
        for field in KEYS
    }
    columns |= {name: pa.array(getattr(flows, name)) for name in names(MEASURES)}
    columns |= {
        "window_start": pa.array(np.full(n, start_us, np.int64)),
        "window_seconds": pa.array(np.full(n, flows.window_seconds, np.int32)),
        "first_seen": pa.array(start_us + flows.first_offset_us),
        "last_seen": pa.array(start_us + flows.last_offset_us),
        "community_id": _fixed_text(ids),
        "revision": pa.array(np.full(n, revision, np.int32)),
    }
    return _rows(columns, schema)


def _outer(texts: pa.Array, tunnel_type: U8) -> U8:
    """Addresses of shape (n, 16), zeros without a tunnel."""
    octets = np.zeros((len(tunnel_type), 16), np.uint8)
    inside = tunnel_type > 0
    if inside.any():
        octets[inside] = addresses.from_arrow(texts.filter(pa.array(inside)))
    return octets


def _outer_text(octets: U8, tunnel_type: U8) -> pa.Array:
    """Addresses as text, empty without a tunnel."""
    if not tunnel_type.any():
        return pa.repeat(pa.scalar(""), len(tunnel_type))
    return pc.if_else(pa.array(tunnel_type > 0), addresses.to_arrow(octets), "")


def _dictionary(texts: pa.Array) -> tuple[tuple[str, ...], Any]:
    encoded = texts.dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)


@cache
def _arrow_fields(schema: str) -> pa.Schema:
    return arrow.arrow_schema(schema)


@cache
def _record_name(schema: str) -> str:
    try:
        return str(json.loads(schema).get("name", "?"))
    except (ValueError, AttributeError):
        return "?"


def _rows(columns: dict[str, pa.Array], schema: str) -> pa.RecordBatch:
    fields = _arrow_fields(schema)
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in fields], schema=fields)
