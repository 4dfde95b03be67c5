"""Messages of the flows topic to Arrow columns, many at a time: the way back of schemas.avro.flow_encoder."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import DecodeError
from schemas.avro.arrow import flow_schema
from schemas.avro.reader import Kind, Rows, Table, Wanted, reader
from schemas.avro.registry import HEADER, UNFRAMED, Registry, newest, schema_of

_MOST_MS = 253_402_300_799_999  # the last one of the year 9999: Python has no later one


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFlows:
    """The flow records among some messages."""

    rows: pa.RecordBatch  # of schemas.avro.arrow.flow_schema, in the order of the messages
    numbers: npt.NDArray[np.int64]  # of the messages that they are, shape (n,)
    problems: dict[int, str]  # number of a message that is none -> a sentence


def decode_flows(registry: Registry, messages: Sequence[bytes]) -> DecodedFlows:
    """Messages that are no flow records are left out, and said. Raises ServiceUnavailable when the registry is away.

    What the writer of a record did not know takes its default, what we do not know is left out.
    """
    parts: list[Rows] = []
    problems: dict[int, str] = {}
    for header, numbers in _by_header(messages).items():
        try:
            read = _reader(registry, header).read_rows([messages[number] for number in numbers], skip=HEADER.size)
        except DecodeError as error:
            problems |= dict.fromkeys(numbers, str(error))
            continue
        problems |= {numbers[number]: why for number, why in read.problems.items()}
        parts.append(Rows(read.columns, np.array(numbers, np.int64)[read.numbers], {}))
    rows = [_batch(part) for part in parts]
    if len(parts) == 1:
        return DecodedFlows(rows[0], parts[0].numbers, problems)
    numbers_of_all = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)])
    order = np.argsort(numbers_of_all)
    table = pa.Table.from_batches(rows, flow_schema()).take(pa.array(order)).combine_chunks()
    batches = table.to_batches()
    return DecodedFlows(batches[0] if batches else _batch(_NOTHING), numbers_of_all[order], problems)


def _by_header(messages: Sequence[bytes]) -> dict[bytes, Sequence[int]]:
    """Numbers of messages, by what they begin with: nearly always the same."""
    headers = [message[: HEADER.size] for message in messages]
    if len(set(headers)) == 1:
        return {headers[0]: range(len(messages))}
    found = defaultdict(list)
    for number, header in enumerate(headers):
        found[header].append(number)
    return {**found}


def _reader(registry: Registry, header: bytes) -> Any:
    if len(header) < HEADER.size or header[0] != 0:
        raise DecodeError(UNFRAMED)
    return reader(schema_of(registry, HEADER.unpack(header)[1], "FlowRecord"), _wanted())


@cache
def _fields() -> dict[str, Any]:
    return {field["name"]: field for field in json.loads(newest("FlowRecord"))["fields"]}


@cache
def _wanted() -> Table:
    """All of FlowRecord."""
    return Table({name: _want(field["type"]) for name, field in _fields().items()})


def _want(kind: Any) -> Wanted:
    match kind:
        case "string":
            return Wanted(kind=Kind.STRING)
        case "boolean":
            return Wanted(kind=Kind.BOOLEAN)
        case "int":
            return Wanted(kind=Kind.LONG, dtype="<i4", lowest=-(2**31), highest=2**31 - 1)
        case "long":
            return Wanted(kind=Kind.LONG)
    return Wanted(kind=Kind.LONG, lowest=0, highest=_MOST_MS)  # milliseconds


_NOTHING = Rows({}, np.zeros(0, np.int64), {})


def _batch(rows: Rows) -> pa.RecordBatch:
    count, schema = len(rows.numbers), flow_schema()
    columns = [
        _arrow(rows.columns[field.name], field.type)
        if field.name in rows.columns
        else pa.repeat(pa.scalar(_fields()[field.name]["default"], field.type), count)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values * 1000).view(kind)
    return pa.array(values.view(np.bool_)) if pa.types.is_boolean(kind) else pa.array(values)
