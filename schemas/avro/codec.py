"""Our records to and from what stands in Kafka: Avro with Confluent framing (magic 0, 4-byte schema id).

A message may have been written with an older or newer version of its schema: it is decoded with the version that
its id names, columns that it lacks take their default, columns that we do not know are left out.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from common.errors import DecodeError
from schemas.avro import live
from schemas.avro.flow_decoder import DecodedFlows, decode_flows
from schemas.avro.flow_encoder import FlowEncoder
from schemas.avro.names import ADDRESS_LISTS, EPOCHS, MOST_US, SCALARS, TEXT_LISTS, TIMES, NameEncoder, batch_of
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.reader import Kind, Table, Wanted, reader
from schemas.avro.registry import HEADER, UNFRAMED, Registry, open_registry, schema_of
from schemas.fields import DIRECTIONS, KEYS, NAMED, PACKET_COLUMNS, Field
from schemas.fields import Kind as FieldKind
from schemas.flows import FlowColumns
from schemas.names import NAME_COLUMNS, NameBatch
from schemas.packets import EpochCounters, FlowKeys, PacketBatch
from schemas.topics import TopicNames

_EACH = tuple(column.name for column in PACKET_COLUMNS if not column.may_be_empty)
_OR_EMPTY = tuple(column.name for column in PACKET_COLUMNS if column.may_be_empty)
_KEYS = tuple(field for field in KEYS if field.name != "node")
_NOT_NUMBERS = {"interface", "direction", "primary", "ended", "start_ns", "end_ns"}
_COUNTER_NUMBERS = tuple(name for name in EpochCounters.__dataclass_fields__ if name not in _NOT_NUMBERS)
_SCALARS = ("ring_id", "ring_start", "ring_end", "coalesced_start", "coalesced_end", "sequence")
_TIMES = ("clock", "idle_start", "idle_end", "base")
_NAMED = tuple(f"flow_{field.name}" for field in NAMED)
_LISTS = ("domains", "ja4s", "alpns")  # of flow_domain, flow_ja4, flow_alpn


def _numbers(dtype: str, lowest: int | None = None, highest: int | None = None) -> Wanted:
    limits = np.iinfo(dtype)
    return Wanted(
        kind=Kind.LONGS,
        dtype=dtype,
        lowest=int(limits.min) if lowest is None else lowest,
        highest=int(limits.max) if highest is None else highest,
    )


def _of_key(field: Field) -> Wanted:
    match field.kind:
        case FieldKind.NAME:
            return Wanted(kind=Kind.STRINGS)
        case FieldKind.CHOICE:  # a tunnel of a kind that we do not know is none
            otherwise = 0 if field.name == "tunnel_type" else -1
            return Wanted(kind=Kind.CHOICES, texts=field.choices, otherwise=otherwise)
        case FieldKind.FLAG:
            return Wanted(kind=Kind.BOOLEANS)
        case FieldKind.ADDRESS:
            return Wanted(kind=Kind.ADDRESSES, otherwise=0 if field.tunnel else -1)
    return _numbers(field.type.numpy, field.smallest, field.largest)


def _of_name(field: Field) -> Wanted:
    if field.listed:
        return _numbers("<i4", -1, 2**31 - 1)
    if field.kind is FieldKind.CHOICE:  # a source that we do not know is none that we can rank
        return Wanted(kind=Kind.CHOICES, texts=field.choices, otherwise=0)
    return _numbers(field.type.numpy, 0, field.largest)


_TIME = Wanted(kind=Kind.LONG, lowest=-MOST_US, highest=MOST_US)
_BATCH = Table(
    {
        "node": Wanted(kind=Kind.STRING),
        **dict.fromkeys(_SCALARS, Wanted(kind=Kind.LONG)),
        **{f"{name}_us": _TIME for name in _TIMES},
        **{f"flow_{field.name}": _of_key(field) for field in _KEYS},
        "flow_epoch": _numbers("<i8"),
        **{f"flow_{field.name}": _of_name(field) for field in NAMED},
        **dict.fromkeys(_LISTS, Wanted(kind=Kind.STRINGS)),
        "flow": _numbers("<i4"),
        "time_offset_ns": _numbers("<i8"),
        **{column.name: _numbers(column.numpy) for column in PACKET_COLUMNS},
        **{f"counter_{name}": _numbers("<i8") for name in _COUNTER_NUMBERS},
        "counter_start_us": _numbers("<i8", -MOST_US, MOST_US),
        "counter_end_us": _numbers("<i8", -MOST_US, MOST_US),
        "counter_interface": Wanted(kind=Kind.STRINGS),
        "counter_direction": Wanted(kind=Kind.CHOICES, texts=DIRECTIONS),
        "counter_primary": Wanted(kind=Kind.BOOLEANS),
        "counter_ended": Wanted(kind=Kind.BOOLEANS),
    }
)
"""What is read of a PacketBatch."""
_NAMES = Table(
    {
        "node": Wanted(kind=Kind.STRING),
        **dict.fromkeys(SCALARS, Wanted(kind=Kind.LONG)),
        **{f"{name}_us": _TIME for name in TIMES},
        **dict.fromkeys(EPOCHS, _numbers("<i8")),
        **dict.fromkeys(TEXT_LISTS, Wanted(kind=Kind.STRINGS)),
        **dict.fromkeys(ADDRESS_LISTS, Wanted(kind=Kind.ADDRESSES)),
        **{
            column.name: Wanted(kind=Kind.CHOICES, texts=column.texts)
            if column.texts
            else _numbers(column.numpy, column.lowest, column.highest)
            for column in NAME_COLUMNS
        },
        "interface": Wanted(kind=Kind.STRINGS),
    }
)
"""What is read of a NameBatch."""


class Codec:
    """Encodes and decodes; holds the schema ids. Safe to share between threads once an id has been looked up."""

    def __init__(
        self,
        schema_registry_url: str | None = None,
        topics: TopicNames | None = None,
        *,
        registry: Registry | None = None,
    ) -> None:
        """`registry`: one that is at hand, instead of a URL's."""
        self._registry = registry or open_registry(schema_registry_url, topics or TopicNames.of("ayaflow."))
        batches = BatchEncoder(self._registry)
        self.encode_packet_batch = batches.encode
        self.encode_packet_events = batches.encode_events
        self.encode_name_batch = NameEncoder(self._registry).encode
        self._flows = FlowEncoder(self._registry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the registry, if there are any."""
        self._registry.close()

    def at_hand(self, message: bytes) -> bool:
        """Whether a message can be decoded, or refused, without asking the registry."""
        return len(message) < HEADER.size or message[0] != 0 or self._registry.at_hand(HEADER.unpack_from(message)[1])

    def decode_packet_batch(self, message: bytes) -> PacketBatch:
        """A message of the packets topic. Raises DecodeError when it is not one, or its columns do not fit together."""
        schema, record = self._unframe("PacketBatch", message)
        batch = _batch(reader(schema, _BATCH).read(record))
        _check(batch)
        return batch

    def decode_name_batch(self, message: bytes) -> NameBatch:
        """A message of the names topic. Raises DecodeError when it is not one, or its columns do not fit together."""
        schema, record = self._unframe("NameBatch", message)
        return batch_of(reader(schema, _NAMES).read(record))

    def encode_flow_records(
        self, flows: FlowColumns, *, topic_id: int, kafka_partition: int, revision: int
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys (Community ID) and values of the messages of the flows topic, one a row. See FlowEncoder."""
        return self._flows.encode(flows, topic_id=topic_id, kafka_partition=kafka_partition, revision=revision)

    def decode_flow_records(self, messages: Sequence[bytes]) -> DecodedFlows:
        """Messages of the flows topic. Raises ServiceUnavailable when the registry is away."""
        return decode_flows(self._registry, messages)

    def encode_live_stats(self, stats: dict[str, Any]) -> bytes:
        """One message of the live topic; `stats` as schemas.avro.live says."""
        return self._header("LiveStats") + live.encode(stats)

    def decode_live_stats(self, message: bytes) -> dict[str, Any]:
        """A message of the live topic. Raises DecodeError."""
        schema, record = self._unframe("LiveStats", message)
        return live.decode(record, schema)

    def _header(self, name: str) -> bytes:
        return HEADER.pack(0, self._registry.schema_id(name))

    def _unframe(self, name: str, message: bytes) -> tuple[str, bytes]:
        if len(message) < HEADER.size or message[0] != 0:
            raise DecodeError(UNFRAMED)
        return schema_of(self._registry, HEADER.unpack_from(message)[1], name), message[HEADER.size :]


def _batch(found: dict[str, Any]) -> PacketBatch:
    """From what was read; what its writer did not know takes its default."""
    flow = found.get("flow", np.zeros(0, np.int32))
    count = max(
        (len(found[f"flow_{name}"]) for name in FlowKeys.__dataclass_fields__ if f"flow_{name}" in found), default=0
    )
    names, interface = _dictionary(found.get("flow_interface", pa.array([], pa.string())), count)
    keys = {
        field.name: _column(found, f"flow_{field.name}", _missing(field, count))
        for field in _KEYS
        if field.kind is not FieldKind.NAME
    }
    for field in _KEYS:
        if field.kind is FieldKind.ADDRESS and field.tunnel and len(keys[field.name]) == len(keys["tunnel_type"]):
            keys[field.name][keys["tunnel_type"] == 0] = 0
    return PacketBatch(
        node=found.get("node", ""),
        **{name: found.get(name, 0) for name in _SCALARS},
        **{f"{name}_ns": 1000 * found.get(f"{name}_us", 0) for name in _TIMES},
        interface_names=names,
        flows=FlowKeys(
            interface=interface,
            epoch=_column(found, "flow_epoch", np.zeros(count, np.int64)),
            **keys,
            **_named(found, count),
        ),
        **{name: tuple(found[name].to_pylist()) if len(found.get(name, ())) else () for name in _LISTS},
        flow=flow,
        time_offset_ns=_column(found, "time_offset_ns", np.zeros(len(flow), np.int64)),
        **{
            column.name: found[column.name]
            if column.name in found
            else np.zeros(0 if column.may_be_empty else len(flow), column.numpy)
            for column in PACKET_COLUMNS
        },
        counters=_counters(found),
    )


def _named(found: dict[str, Any], count: int) -> dict[str, Any]:
    """The columns of names; all empty where no flow has one."""
    columns = [found.get(name, ()) for name in _NAMED]
    if not any(map(len, columns)):
        return {}
    return {
        field.name: values
        if len(values)
        else np.full(count, -1 if field.listed else 0, field.type.numpy)  # its writer did not know it
        for field, values in zip(NAMED, columns, strict=True)
    }


def _missing(field: Field, count: int) -> Any:
    """A column of a key that the writer did not know."""
    shape = (count, 16) if field.kind is FieldKind.ADDRESS else count
    return np.full(shape, field.kind is FieldKind.FLAG, field.type.numpy)


def _column(found: dict[str, Any], name: str, missing: Any) -> Any:
    values = found.get(name, missing)
    if len(values) != len(missing):
        raise DecodeError(f"the columns of a PacketBatch differ in length: {name} has {len(values)}")
    return values


def _counters(found: dict[str, Any]) -> tuple[EpochCounters, ...]:
    count = len(found.get("counter_epoch", ()))
    if not count:
        return ()
    zeros = np.zeros(count, np.int64)
    columns = {name: _column(found, f"counter_{name}", zeros).tolist() for name in _COUNTER_NUMBERS}
    for name in ("start", "end"):
        columns[f"{name}_ns"] = [1000 * value for value in _column(found, f"counter_{name}_us", zeros).tolist()]
    columns["interface"] = _column(found, "counter_interface", pa.array([""] * count)).to_pylist()
    columns["direction"] = _column(found, "counter_direction", zeros).tolist()
    columns["primary"] = [value != 0 for value in _column(found, "counter_primary", zeros + 1).tolist()]
    columns["ended"] = [value != 0 for value in _column(found, "counter_ended", zeros).tolist()]
    names = tuple(columns)
    return tuple(EpochCounters(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True))


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
        raise DecodeError("a packet of a PacketBatch names a flow that is not in its columns")
    if n and min(int(column.min()) for column in (batch.packets, batch.bytes, batch.segment_bytes)) < 0:
        raise DecodeError("a packet of a PacketBatch has a negative count")
    if not 0 <= batch.idle_start_ns <= batch.idle_end_ns:
        raise DecodeError("the idle time of a PacketBatch ends before it begins")
    if not batch.node:
        raise DecodeError("a PacketBatch without a node")
    _check_names(batch)


def _check_names(batch: PacketBatch) -> None:
    flows = batch.flows
    for field in NAMED if len(flows.domain) else ():
        values = getattr(flows, field.name)
        if len(values) != len(flows):
            raise DecodeError(f"the columns of a PacketBatch differ in length: flow_{field.name}")
        if field.listed and len(values) and int(values.max()) >= len(getattr(batch, f"{field.name}s")):
            raise DecodeError(f"a flow of a PacketBatch has a {field.name} that is not in its list")


def _dictionary(texts: pa.Array, count: int) -> tuple[tuple[str, ...], Any]:
    if not len(texts):
        texts = pa.array([""] * count, pa.string())
    if len(texts) != count:
        raise DecodeError("the columns of a PacketBatch differ in length: flow_interface")
    encoded = texts.dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
