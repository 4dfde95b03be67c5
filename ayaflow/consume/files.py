"""Flow records and packets of files, as those of a topic."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ayaflow.consume import identities
from ayaflow.consume.containers import MAGIC, Container
from ayaflow.consume.fetched import Fetched, Opened, Stretch
from ayaflow.consume.flows import Mask, chosen
from ayaflow.consume.identities import Seen
from ayaflow.consume.packets import PacketPart, Places, decoded
from ayaflow.consume.reading import Skipped, Span
from common.errors import DecodeError, SettingsError
from schemas.avro.arrow import flow_schema

_ARROW = b"ARROW1"  # a file of Arrow's, which has an index; else it is a stream
_FLOWS, _PACKETS = 65_536, 16  # records of an Avro file at a time


def read_flows(
    path: str | Path,
    *more: str | Path,
    since: datetime | None = None,
    until: datetime | None = None,
    primary_only: bool = True,
    remember: int = 1_000_000,
) -> Iterator[pa.Table]:
    """The flow records of files, each record_id once.

    A file is one of Arrow's, as `ayaflow replay --output FILE --format arrow` and `ayaflow flows --format arrow` write
    them, or an Avro object container file of FlowRecord. Columns are those of FlowRecord that it has: `ayaflow flows`
    adds the records of a flow and window up, so that they have no record_id, revision and offsets. since, until,
    primary_only, remember: as of Flows. Raises SettingsError for a file that cannot be opened, DecodeError for one that
    is something else, or harmed.
    """
    span, seen = Span.of(since, until), identities.seen(remember)
    for each in (path, *more):
        with _opened(each) as file:
            for rows in _of_avro(file) if _is_avro(file) else _of_arrow(file):
                wanted = chosen(rows, span, primary_only=primary_only)
                if "record_id" in rows.schema.names:
                    wanted = _first(rows, wanted, seen)
                yield pa.Table.from_batches([rows]).filter(pa.array(wanted))


def read_packets(
    path: str | Path,
    *more: str | Path,
    since: datetime | None = None,
    until: datetime | None = None,
    primary_only: bool = True,
) -> Iterator[PacketPart]:
    """The packets of Avro object container files of PacketBatch, each once.

    Files of one partition are given in the order of their offsets. `part.offsets` counts records of a file, `commit`
    does nothing. since, until, primary_only: as of Packets. Raises as read_flows does.
    """
    span, places = Span.of(since, until), Places()
    for each in (path, *more):
        with _opened(each) as file:
            if not _is_avro(file):
                raise DecodeError("it does not begin as an Avro object container file")
            container, begin = Container(file), 0
            for messages in container.messages(_PACKETS):
                made = decoded(_fetched(messages, places), container.codec, span, primary_only=primary_only)
                yield PacketPart(
                    offsets={0: range(begin, begin + len(messages))},
                    duplicates=made.duplicates,
                    skipped=tuple(
                        Skipped(partition=0, offset=begin + number, reason=reason)
                        for number, reason in made.problems.items()
                    ),
                    commits=lambda: True,
                    **made.columns,
                )
                begin += len(messages)


@contextmanager
def _opened(path: str | Path) -> Iterator[pa.NativeFile]:
    try:
        file = pa.OSFile(str(path))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    with file:
        try:
            yield file
        except (pa.ArrowException, OSError, DecodeError) as error:  # OSError: it ends too early
            raise DecodeError(f"{path} is not a file that is read here: {error}") from error


def _is_avro(file: pa.NativeFile) -> bool:
    return _begin(file, len(MAGIC)) == MAGIC


def _begin(file: pa.NativeFile, octets: int) -> bytes:
    found: bytes = file.read(octets)
    file.seek(0)
    return found


def _of_avro(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    container, begin = Container(file), 0
    for messages in container.messages(_FLOWS):
        found = container.codec.decode_flow_records(messages)
        for number, problem in found.problems.items():
            raise DecodeError(f"record {begin + number}: {problem}")
        yield found.rows
        begin += len(messages)


def _of_arrow(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    if _begin(file, len(_ARROW)) == _ARROW:
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        batches = iter(pa.ipc.open_stream(file))
    yield from map(_as_flows, batches)


def _first(rows: pa.RecordBatch, wanted: Mask, seen: Seen) -> Mask:
    """Which of the wanted rows did not come before; those without an identity never did."""
    named = wanted & np.asarray(pc.not_equal(rows["record_id"], ""))
    result = wanted.copy()
    result[named] = seen.fresh(identities.of_texts(rows["record_id"])[named])
    return result


def _fetched(messages: list[bytes], places: Places) -> Fetched[Places]:
    """Records of a file as messages of a partition."""
    numbers = np.arange(len(messages))
    stretch = Stretch(
        opened=Opened(0, len(messages), None, places), numbers=numbers, begin=0, end=len(messages), missing=0
    )
    return Fetched(values=messages, offsets=numbers, stretches={0: stretch})


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
