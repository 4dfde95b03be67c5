"""Flow records of a file, as those of a topic."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from ayaflow.consume.flows import chosen
from ayaflow.consume.reading import Span
from common.errors import DecodeError, SettingsError
from schemas.avro.arrow import flow_schema

_MAGIC = b"ARROW1"  # a file of Arrow's, which has an index; else it is a stream


def read_flows(
    path: str | Path, *, since: datetime | None = None, until: datetime | None = None, primary_only: bool = True
) -> Iterator[pa.Table]:
    """The tables of a file that `ayaflow replay --output FILE --format arrow` or `ayaflow flows --format arrow` wrote.

    Columns are those of FlowRecord that the file has: `ayaflow flows` adds the records of a flow and window up, so that
    they have no record_id, revision and offsets. since, until, primary_only: as of Flows. Raises SettingsError for a
    file that cannot be opened, DecodeError for one that is something else.
    """
    span = Span.of(since, until)
    try:
        file = pa.OSFile(str(path))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    with file:
        try:
            for batch in _batches(file):
                rows = _as_flows(batch)
                yield pa.Table.from_batches([rows]).filter(pa.array(chosen(rows, span, primary_only=primary_only)))
        except (pa.ArrowException, OSError, DecodeError) as error:  # OSError: it ends too early
            raise DecodeError(f"{path} is no Arrow file or stream of flow records: {error}") from error


def _batches(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    magic = file.read(len(_MAGIC))
    file.seek(0)
    if magic == _MAGIC:
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from pa.ipc.open_stream(file)


def _as_flows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With the types of flow records."""
    schema = pa.schema([field for field in flow_schema() if field.name in batch.schema.names])
    if not {"window_begin", "primary"} <= {*schema.names}:
        raise DecodeError("it has no columns window_begin and primary: these are not flow records")
    columns = [_cast(batch[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(kind) and pa.types.is_integer(column.type):  # ClickHouse's DateTime is one of seconds
        column = column.cast(pa.int64()).cast(pa.timestamp("s"))
    return column.cast(kind)
