"""Results as JSON lines or CSV, row by row, so that a result of any size takes little memory."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from console.store import formulas
from console.store.client import Rows

_MAPPED = "::ffff:"


def for_programs(out: TextIO) -> TextIO:
    """Where text for programs goes, or bytes, into its `buffer`: `out` itself, unless that is a terminal.

    A terminal is shown what it would act on, controls and marks of the direction of text, as JSON may write them:
    `\\u001b`. Flush it at the end.
    """
    if not out.isatty():
        return out
    return io.TextIOWrapper(io.BufferedWriter(_Terminal(out)), encoding="utf-8", newline="")


class _Terminal(io.RawIOBase):
    """Bytes that become a terminal's text."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = self._decode(bytes(data))
        self._out.write("\n".join(map(_shown, text.split("\n"))))
        return len(data)

    def flush(self) -> None:
        super().flush()
        if not self.closed:
            self._out.flush()


def _shown(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() or each == "\t" else json.dumps(each)[1:-1] for each in line)


def people_rows(result: Rows) -> Iterator[list[Any]]:
    """The rows with IPv4-mapped addresses shown as IPv4; other values as they are."""
    addresses = [i for i, kind in enumerate(result.types) if "IPv6" in kind]
    if not addresses:
        return result.rows
    return _with_ipv4(result.rows, addresses)


def _with_ipv4(rows: Iterable[list[Any]], addresses: list[int]) -> Iterator[list[Any]]:
    for row in rows:
        for i in addresses:
            row[i] = address(row[i])
        yield row


def address(value: Any) -> Any:
    """`::ffff:10.0.0.1` -> `10.0.0.1`; goes into arrays, tuples and maps, leaves all else alone."""
    if isinstance(value, str):
        return value[len(_MAPPED) :] if value.startswith(_MAPPED) and "." in value else value
    if isinstance(value, list):
        return [address(item) for item in value]
    if isinstance(value, dict):
        return {address(key): address(item) for key, item in value.items()}
    return value


def write_json(names: Iterable[str], rows: Iterable[list[Any]], out: TextIO) -> int:
    """One JSON object a line; returns how many."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
    names, count = tuple(names), 0
    for count, row in enumerate(rows, 1):  # noqa: B007  the count is the result
        out.write(encode(dict(zip(names, row, strict=True))) + "\n")
    return count


def write_csv(names: Iterable[str], rows: Iterable[list[Any]], out: TextIO) -> int:
    """CSV with a header (text quoted, \\n line ends); arrays and maps are JSON, text is no formula; returns the number
    of rows.
    """
    # text is quoted, as ClickHouse's own CSV has it; Python would leave a carriage return unquoted otherwise
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(map(formulas.as_text, names))
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007  the count is the result
        writer.writerow([_cell(value) for value in row])
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool):
        return "true" if value else "false"
    return formulas.as_text(value) if isinstance(value, str) else value


WRITERS: dict[str, Callable[[Iterable[str], Iterable[list[Any]], TextIO], int]] = {"json": write_json, "csv": write_csv}
