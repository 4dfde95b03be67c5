"""LiveStats between what it is in memory, rows of interfaces and of connections, and in Kafka, a column each."""

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from common.errors import DecodeError
from schemas.avro.records import decode_record, encode_record
from schemas.avro.registry import newest

_PREFIXES = {"interfaces": "interface_", "top": "top_"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS = "_us"  # ends the name of a time that is a datetime in memory


def encode(stats: dict[str, Any]) -> bytes:
    """`stats`: the fields of LiveStats; `interfaces` and `top` are lists of rows, times are datetimes."""
    record = {name: value for name, value in stats.items() if name not in _PREFIXES}
    defaults = _row_defaults()
    for name, prefix in _PREFIXES.items():
        for column, member in _columns(prefix):
            values = [row.get(member, defaults[column]) for row in stats.get(name, ())]
            record[column] = [_micros(value) for value in values] if column.endswith(_MICROS) else values
    return encode_record(record, newest("LiveStats"))


def decode(octets: bytes, schema: str) -> dict[str, Any]:
    """`schema`: its writer's. Raises DecodeError."""
    record = decode_record(octets, schema, newest("LiveStats"))
    found = {name: value for name, value in record.items() if not name.startswith(("interface", "top_"))}
    return found | {name: _rows(record, prefix) for name, prefix in _PREFIXES.items()}


def _rows(record: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    columns = _columns(prefix)
    count = len(record[columns[0][0]])
    values = []
    for column, _ in columns:
        given = record[column] or [_row_defaults()[column]] * count  # of a writer that did not know it
        if len(given) != count:
            raise DecodeError("the columns of a LiveStats differ in length")
        values.append([_time(value) for value in given] if column.endswith(_MICROS) else given)
    return [dict(zip((member for _, member in columns), row, strict=True)) for row in zip(*values, strict=True)]


@cache
def _columns(prefix: str) -> tuple[tuple[str, str], ...]:
    """Fields of the record, and what they are in a row."""
    names = [field["name"] for field in json.loads(newest("LiveStats"))["fields"]]
    return tuple(
        (name, name.removeprefix(prefix).removesuffix(_MICROS))
        for name in names
        if f"{name}_" == prefix or name.startswith(prefix)
    )


@cache
def _row_defaults() -> dict[str, Any]:
    """What stands in a column of a row that does not have it."""
    special = {"interface_direction": "ingress", "top_direction": "ingress", "top_tunnel_type": "none"}
    arrays = [field for field in json.loads(newest("LiveStats"))["fields"] if isinstance(field["type"], dict)]
    plain = {field["name"]: "" if field["type"].get("items") == "string" else 0 for field in arrays}
    return plain | special


def _micros(value: datetime | int) -> int:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def _time(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError as error:
        raise DecodeError(f"a time that is none: {value} microseconds") from error
