"""Avro records to and from Arrow columns: pyruhvro where it works, fastavro where it does not.

pyruhvro (Rust) makes the same bytes as fastavro at some ten times the speed; a test holds them together.
"""

import io
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from common.errors import DecodeError

try:
    import pyruhvro
except ImportError:  # no wheel for this platform: slower, same bytes
    pyruhvro = None


def encode(rows: pa.RecordBatch, schema: str) -> pa.Array:
    """n rows of columns to an Arrow binary array of n Avro records (no framing)."""
    if pyruhvro is not None:
        return pyruhvro.serialize_record_batch(rows, schema, 1)[0]
    return pa.array([encode_record(row, schema) for row in rows.to_pylist()], pa.binary())


def decode(record: bytes, schema: str) -> pa.RecordBatch:
    """One Avro record to a RecordBatch of one row, columns as in `schema`, but enums as numbers. Raises DecodeError.

    A value of an enum is its place among the `symbols`; whether there are so many is not looked at.
    """
    plain = _plain(schema).schema
    if pyruhvro is None:
        return pa.RecordBatch.from_pylist([decode_record(record, plain)], schema=arrow_schema(plain))
    try:
        rows = pyruhvro.deserialize_array([record], plain)
        rows.validate(full=True)  # pyruhvro does not look whether a string is UTF-8
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise DecodeError(f"not an Avro record of this schema: {error}") from error
    return rows


def symbols(schema: str, enum: str) -> tuple[str, ...]:
    """The symbols of an enum of a schema, by place."""
    return _plain(schema).enums.get(enum, ())


def names(schema: str, record: str) -> frozenset[str]:
    """The fields of a record of a schema."""
    return _plain(schema).records.get(record, frozenset())


@dataclass(frozen=True, slots=True)
class _Plain:
    schema: str  # of the same bytes, and read faster: enums as numbers, no documentation
    enums: dict[str, tuple[str, ...]]
    records: dict[str, frozenset[str]]


@cache
def _plain(schema: str) -> _Plain:
    enums: dict[str, tuple[str, ...]] = {}
    records: dict[str, frozenset[str]] = {}

    def plain(part: Any) -> Any:
        if isinstance(part, dict) and part.get("type") == "enum":
            enums[part["name"].rpartition(".")[2]] = tuple(part["symbols"])
            return "int"
        if isinstance(part, dict) and part.get("type") == "record":
            records[part["name"].rpartition(".")[2]] = frozenset(field["name"] for field in part["fields"])
        if isinstance(part, dict):
            return {name: plain(value) for name, value in part.items() if name not in {"doc", "default"}}
        if isinstance(part, list):
            return [plain(each) for each in part]
        return "int" if isinstance(part, str) and part.rpartition(".")[2] in enums else part

    return _Plain(json.dumps(plain(json.loads(schema))), enums, records)


def encode_record(record: dict[str, Any], schema: str) -> bytes:
    """One record, as a dict, to Avro. For what is sent once a second; fastavro."""
    import fastavro

    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _parsed(schema), record)
    return buffer.getvalue()


def decode_record(record: bytes, schema: str, reader: str | None = None) -> dict[str, Any]:
    """One Avro record to a dict; fastavro. Raises DecodeError.

    `schema` is its writer's. `reader`: the schema to bring it to, fields that it lacks take their default.
    """
    import fastavro

    stream = io.BytesIO(record)
    try:
        result = fastavro.schemaless_reader(stream, _parsed(schema), _parsed(reader) if reader else None)
    except Exception as error:
        raise DecodeError(f"not an Avro record of this schema: {error}") from error
    if stream.read(1) or not isinstance(result, dict):
        raise DecodeError("not an Avro record of this schema: bytes are left over")
    return result


def arrow_schema(schema: str) -> pa.Schema:
    """The Arrow columns of an Avro record schema, without pyruhvro."""
    named: dict[str, pa.DataType] = {}
    fields = json.loads(schema)["fields"]
    return pa.schema([pa.field(f["name"], _arrow_type(f["type"], named), nullable=False) for f in fields])


_PRIMITIVES = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
}


def _arrow_type(kind: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(kind, str):
        return named[kind] if kind in named else _PRIMITIVES[kind]
    if kind["type"] == "array":
        return pa.list_(_arrow_type(kind["items"], named))
    if kind["type"] == "enum":
        return named.setdefault(kind["name"], pa.string())
    if kind["type"] == "record":
        return pa.struct([pa.field(f["name"], _arrow_type(f["type"], named)) for f in kind["fields"]])
    if kind.get("logicalType") == "timestamp-micros":
        return pa.timestamp("us")
    return _PRIMITIVES[kind["type"]]


@cache
def _parsed(schema: str) -> Any:
    import fastavro

    return fastavro.parse_schema(json.loads(schema))
