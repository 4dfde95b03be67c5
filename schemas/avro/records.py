"""Single Avro records to and from dicts, by fastavro: what is sent once a second, and what all else is held to."""

import io
import json
from functools import cache
from typing import Any

from common.errors import DecodeError


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


@cache
def _parsed(schema: str) -> Any:
    import fastavro

    return fastavro.parse_schema(json.loads(schema))
