"""The Arrow columns of our Avro schemas."""

import json
from functools import cache
from typing import Any

import pyarrow as pa

from schemas.avro.registry import newest


@cache
def arrow_schema(schema: str) -> pa.Schema:
    """The Arrow columns of an Avro record schema."""
    fields = json.loads(schema)["fields"]
    return pa.schema([pa.field(f["name"], _arrow_type(f["type"]), nullable=False) for f in fields])


@cache
def flow_schema() -> pa.Schema:
    """FlowRecord's columns as others get them, in files and from `ayaflow.consume`: times say that they are UTC."""
    columns = arrow_schema(newest("FlowRecord"))
    return pa.schema([pa.field(each.name, _of_utc(each.type)) for each in columns])


def _of_utc(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp(kind.unit, tz="UTC") if pa.types.is_timestamp(kind) else kind


_PRIMITIVES = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
}


def _arrow_type(kind: Any) -> pa.DataType:
    if isinstance(kind, str):
        return _PRIMITIVES[kind]
    if kind["type"] == "array":
        return pa.list_(_arrow_type(kind["items"]))
    if kind.get("logicalType") == "timestamp-millis":
        return pa.timestamp("us")  # an engine of Arrow's knows the unit
    return _PRIMITIVES[kind["type"]]
