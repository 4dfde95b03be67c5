"""Flow records of a replay as JSON lines, CSV or an Arrow stream, by columns: fields are those of FlowRecord."""

import json
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from console.store import formulas
from schemas.avro.arrow import flow_schema
from schemas.avro.flow_encoder import arrow_rows
from schemas.flows import FlowColumns

_ROWS = 16_384  # that become text at a time


class Writer:
    """Writes flows as text; `close` at the end."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.rows = 0  # written so far

    def write(self, flows: FlowColumns) -> None:
        """Append the flows of a window."""
        rows = arrow_rows(flows)
        for begin in range(0, len(rows), _ROWS):
            self._write(rows.slice(begin, _ROWS))
        self.rows += len(rows)

    def close(self) -> None:
        """What stands behind the last record."""

    def _write(self, rows: pa.RecordBatch) -> None:
        raise NotImplementedError


class JsonLines(Writer):
    """One object a line."""

    def _write(self, rows: pa.RecordBatch) -> None:
        parts: list[Any] = []
        for number, field in enumerate(rows.schema):
            parts += [f'{"," if number else "{"}"{field.name}":', _texts(rows.column(number), _json_texts)]
        _write_lines(self.out, [*parts, "}\n"], len(rows))


class Csv(Writer):
    """A header, then a line a flow; text is quoted as in `ayaflow flows`."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__(out)
        self._header = False

    def _write(self, rows: pa.RecordBatch) -> None:
        self._begin(rows.schema.names)
        parts: list[Any] = []
        for number, column in enumerate(rows.columns):
            parts += ["," if number else "", _texts(column, _csv_texts)]
        _write_lines(self.out, [*parts, "\n"], len(rows))

    def _begin(self, names: list[str]) -> None:
        if not self._header:
            self.out.write((",".join(f'"{name}"' for name in names) + "\n").encode())
            self._header = True

    def close(self) -> None:
        """A header even without flows."""
        self._begin(flow_schema().names)


class ArrowStream(Writer):
    """Arrow's IPC stream format."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__(out)
        self._stream = pa.ipc.new_stream(out, flow_schema())

    def _write(self, rows: pa.RecordBatch) -> None:
        self._stream.write_batch(rows.cast(flow_schema()))

    def close(self) -> None:
        """The end of the stream."""
        self._stream.close()


WRITERS: dict[str, Callable[[BinaryIO], Writer]] = {"json": JsonLines, "csv": Csv, "arrow": ArrowStream}


def _texts(column: pa.Array, quoted: Callable[[pa.Array], pa.Array]) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        naive = pc.replace_substring(column.cast(pa.timestamp("us")).cast(pa.string()), " ", "T")
        return pc.binary_join_element_wise('"', naive, 'Z"', "")
    if pa.types.is_string(column.type):
        return quoted(column)
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.string())
    return pa.array([json.dumps(value, ensure_ascii=False) for value in column.to_pylist()], pa.string())


def _json_texts(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(column, r'[\x00-\x1f"\\]')).as_py():
        return pa.array([json.dumps(text, ensure_ascii=False) for text in column.to_pylist()], pa.string())
    return pc.binary_join_element_wise('"', column, '"', "")


def _csv_texts(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(column, f"^{formulas.STARTS}")).as_py():
        column = pa.array([formulas.as_text(text) for text in column.to_pylist()], pa.string())
    return pc.binary_join_element_wise('"', pc.replace_substring(column, '"', '""'), '"', "")


def _write_lines(out: BinaryIO, parts: list[Any], rows: int) -> None:
    if rows:
        lines = pc.binary_join_element_wise(*parts, "")
        out.write("".join(lines.to_pylist()).encode())
