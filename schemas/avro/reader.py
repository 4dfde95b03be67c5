"""Records of plain values and arrays of plain values to columns: by schemas/avro/reader.c, else by fastavro.

A record is read with the schema of its writer. What we want of it stands in a table of `Wanted` by name: a field that
the writer did not have is not in the result, one that we do not want is passed over. Arrays become columns record by
record (`Reader.read`), plain values over many records (`Reader.read_rows`).
"""

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import DecodeError
from common.native import address, load
from schemas.addresses import from_text
from schemas.avro.records import decode_record


class Kind(IntEnum):
    """What a field is, and becomes; schemas/avro/reader.c has the same numbers."""

    LONG = 0  # an int
    BOOLEAN = 1  # a bool
    STRING = 2  # a str
    LONGS = 3  # numbers of any dtype, shape (n,)
    BOOLEANS = 4  # 0 or 1, uint8, shape (n,)
    STRINGS = 5  # an Arrow string array
    ADDRESSES = 6  # 16 octets each, IPv4 as ::ffff:a.b.c.d, shape (n, 16)
    CHOICES = 7  # places among `texts`, uint8, shape (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a field is read as. A value beyond `lowest` and `highest` is a DecodeError."""

    kind: Kind
    dtype: str = "<i8"  # of LONGS; of LONG in rows, <i4 or <i8
    lowest: int = -(2**63)
    highest: int = 2**63 - 1
    texts: tuple[str, ...] = ()  # of CHOICES
    otherwise: int = -1  # of CHOICES: the place of a text that is none of them; of ADDRESSES, 0: an empty text is ::


_FIELD = np.dtype(
    [
        *((name, "<i8") for name in ("kind", "size", "lowest", "highest")),
        *((name, "<u8") for name in ("texts", "lengths")),
        *((name, "<i8") for name in ("choices", "width", "otherwise")),
        *((name, "<u8") for name in ("out", "ends")),
        *((name, "<i8") for name in ("place", "count", "octets", "value")),
    ]
)
"""struct field."""
_ARRAYS = {"long": Kind.LONGS, "int": Kind.LONGS, "boolean": Kind.BOOLEANS, "string": Kind.STRINGS}
_PLAIN = {"long": Kind.LONG, "int": Kind.LONG, "boolean": Kind.BOOLEAN, "string": Kind.STRING}
_TEXTS = {Kind.STRINGS, Kind.ADDRESSES, Kind.CHOICES}
_BEHIND = "octets are left behind the last field"
_NOT_ONE = "not an Avro record of this schema: "
_NO_TEXTS = pa.array([], pa.string())
_AT_A_TIME = 1 << 30  # octets of records, so that those of a column of texts are fewer than 2^31

_SOURCE = Path(__file__).with_name("reader.c")
_scan = load(
    _SOURCE, "ayaflow_avro_scan", ctypes.c_int64, [ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
)
_read = load(
    _SOURCE, "ayaflow_avro_read", ctypes.c_int64, [ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
)
_read_rows = load(
    _SOURCE,
    "ayaflow_avro_read_rows",
    ctypes.c_int64,
    [ctypes.c_char_p, ctypes.c_void_p, *[ctypes.c_int64] * 2, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p],
)
_copy_texts = load(
    _SOURCE,
    "ayaflow_avro_texts",
    None,
    [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p],
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What there is of what is wanted in many records: a column a field, a value a record that is one."""

    columns: dict[str, Any]  # numpy, shape (n,); of texts an Arrow string array
    numbers: npt.NDArray[np.int64]  # of the records that the values are of, shape (n,)
    problems: dict[int, str]  # number of a record that is none -> a sentence


class Reader:
    """Reads records of one schema. Safe to share between threads."""

    def __init__(self, schema: str, wanted: Mapping[str, Wanted]) -> None:
        """Raises DecodeError when a field has a type that is not the one that is wanted."""
        self._schema, self._wanted = schema, wanted
        self._names: list[str] = []
        self._keep: list[Any] = []  # what the template points to
        kinds = {field["name"]: _kind(field["type"]) for field in json.loads(schema)["fields"]}
        self._is_plain = None not in kinds.values()
        for name, kind in kinds.items():
            want = wanted.get(name)
            if kind is not None and want is not None and kind is not _written(want.kind):
                raise DecodeError(f"{name} is a field of another type than we know")
        self._template = np.zeros(len(kinds), _FIELD)
        for place, (name, kind) in enumerate(kinds.items() if self._is_plain else ()):
            self._names.append(name)
            self._describe(place, wanted.get(name) or Wanted(kind=kind or Kind.LONG))
        self._of_ours = [(place, name, wanted[name]) for place, name in enumerate(self._names) if name in wanted]

    def _describe(self, place: int, want: Wanted) -> None:
        field = self._template[place : place + 1]
        field["kind"], field["size"] = want.kind, np.dtype(want.dtype).itemsize
        field["lowest"], field["highest"], field["otherwise"] = want.lowest, want.highest, want.otherwise
        if want.texts:
            texts = [text.encode() for text in want.texts]
            width = max(map(len, texts))
            table = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in texts), np.uint8)
            lengths = np.array([len(text) for text in texts], np.int32)
            self._keep += [table, lengths]
            field["texts"], field["lengths"] = address(table), address(lengths)
            field["choices"], field["width"] = len(texts), width

    def read(self, record: bytes) -> dict[str, Any]:
        """What there is of what is wanted. Raises DecodeError."""
        if _scan is None or _read is None or not self._is_plain:
            return read_slowly(record, self._schema, self._wanted)
        fields = self._template.copy()
        self._check(_scan(record, len(record), address(fields), len(fields)))
        counts, octets, values = (fields[name].tolist() for name in ("count", "octets", "value"))
        found: dict[str, Any] = {}
        outs, ends = [0] * len(fields), [0] * len(fields)
        texts: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]] = {}
        for place, name, want in self._of_ours:
            match want.kind:
                case Kind.LONG:
                    found[name] = values[place]
                case Kind.BOOLEAN:
                    found[name] = values[place] == 1
                case Kind.STRING:
                    found[name] = _text(record[values[place] : values[place] + octets[place]], name)
                case Kind.STRINGS if not counts[place]:
                    found[name] = _NO_TEXTS
                case Kind.STRINGS:
                    last, data = np.zeros(counts[place] + 1, np.int32), np.empty(octets[place], np.uint8)
                    outs[place], ends[place] = address(data), address(last) + last.itemsize
                    texts[name] = last, data
                case _:
                    found[name] = room = _room(want, counts[place])
                    outs[place] = address(room)
        fields["out"], fields["ends"] = outs, ends
        self._check(_read(record, len(record), address(fields), len(fields)))
        return found | {name: _texts(*parts, name) for name, parts in texts.items()}

    def read_rows(self, records: Sequence[bytes], *, skip: int = 0) -> Rows:
        """Of many records, whose first `skip` octets are not of Avro; only plain values can be wanted.

        A record that is not one is left out, and said.
        """
        if _read_rows is None or _copy_texts is None or not self._is_plain:
            return read_rows_slowly(records, self._schema, self._wanted, skip=skip)
        ends = np.zeros(len(records) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, records), np.int64, len(records)), out=ends[1:])
        if int(ends[-1]) > _AT_A_TIME and len(records) > 1:
            half = len(records) // 2
            parts = [self.read_rows(part, skip=skip) for part in (records[:half], records[half:])]
            return _joined(parts, half)
        octets, count = b"".join(records), len(records)
        fields, wrong = self._template.copy(), np.zeros(count, np.int32)
        found: dict[str, Any] = {}
        texts: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = {}
        outs, text_ends = [0] * len(fields), [0] * len(fields)
        for place, name, want in self._of_ours:
            if want.kind is Kind.STRING:
                begins, last = texts[name] = np.empty(count, np.int64), np.zeros(count + 1, np.int32)
                outs[place], text_ends[place] = address(begins), address(last)
            else:
                found[name] = np.empty(count, np.uint8 if want.kind is Kind.BOOLEAN else want.dtype)
                outs[place] = address(found[name])
        fields["out"], fields["ends"] = outs, text_ends
        kept = _read_rows(octets, address(ends), count, skip, address(fields), len(fields), address(wrong))
        columns = {name: values[:kept] for name, values in found.items()}
        columns |= {name: _text_column(octets, begins, last[: kept + 1]) for name, (begins, last) in texts.items()}
        bad = np.flatnonzero(wrong).tolist() if kept < count else []
        return Rows(columns, np.flatnonzero(wrong == 0), {number: self._problem(int(wrong[number])) for number in bad})

    def _check(self, wrong: int) -> None:
        """The number of a field from 1; 0: none is wrong."""
        if wrong:
            raise DecodeError(self._problem(wrong))

    def _problem(self, wrong: int) -> str:
        if wrong > len(self._names):
            return f"{_NOT_ONE}{_BEHIND}"
        name = self._names[wrong - 1]
        want = self._wanted.get(name)
        if want and want.kind is Kind.CHOICES:
            return f"{_NOT_ONE}{name} is none of {', '.join(want.texts)}"
        return f"{_NOT_ONE}{name} is out of range, or no value of its type"


def read_slowly(record: bytes, schema: str, wanted: Mapping[str, Wanted]) -> dict[str, Any]:
    """As Reader.read, for a schema of any types, where nothing was compiled. Raises DecodeError."""
    found = decode_record(record, _physical(schema))
    return {name: _converted(name, found[name], want) for name, want in wanted.items() if name in found}


@cache
def _physical(schema: str) -> str:
    """The schema with times and the like as the plain values that they are written as."""
    plain = json.loads(schema, object_pairs_hook=lambda pairs: {k: v for k, v in pairs if k != "logicalType"})
    return json.dumps(plain)


def read_rows_slowly(records: Sequence[bytes], schema: str, wanted: Mapping[str, Wanted], *, skip: int = 0) -> Rows:
    """As Reader.read_rows, for a schema of any types, where nothing was compiled."""
    rows, numbers, problems = [], [], {}
    for number, record in enumerate(records):
        try:
            rows.append(read_slowly(record[skip:], schema, wanted))
            numbers.append(number)
        except DecodeError as error:
            problems[number] = str(error)
    names = [field["name"] for field in json.loads(schema)["fields"] if field["name"] in wanted]
    columns = {name: _column([row[name] for row in rows], wanted[name]) for name in names}
    return Rows(columns, np.array(numbers, np.int64), problems)


def _column(values: list[Any], want: Wanted) -> Any:
    if want.kind is Kind.STRING:
        return pa.array(values, pa.string())
    return np.array(values, np.uint8 if want.kind is Kind.BOOLEAN else want.dtype)


def _joined(parts: list[Rows], half: int) -> Rows:
    """Two parts of the records; the second begins with number `half`."""
    first, second = parts
    columns = {
        name: pa.concat_arrays([values, second.columns[name]])
        if isinstance(values, pa.Array)
        else np.concatenate([values, second.columns[name]])
        for name, values in first.columns.items()
    }
    problems = first.problems | {half + number: why for number, why in second.problems.items()}
    return Rows(columns, np.concatenate([first.numbers, second.numbers + half]), problems)


def _text_column(octets: bytes, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int32]) -> pa.Array:
    """UTF-8 is checked already."""
    assert _copy_texts is not None
    count, data = len(ends) - 1, np.empty(int(ends[-1]), np.uint8)
    _copy_texts(octets, address(begins), address(ends), count, address(data))
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(data))


def _converted(name: str, value: Any, want: Wanted) -> Any:
    items = value if isinstance(value, list) else [value]
    kind = str if want.kind in _TEXTS | {Kind.STRING} else bool if want.kind in {Kind.BOOLEAN, Kind.BOOLEANS} else int
    if isinstance(value, list) is not (want.kind > Kind.STRING) or not all(type(item) is kind for item in items):
        raise DecodeError(f"{name} is a field of another type than we know")
    if kind is int and items and not want.lowest <= min(items) <= max(items) <= want.highest:
        raise DecodeError(f"{_NOT_ONE}{name} is out of range, or no value of its type")
    match want.kind:
        case Kind.LONGS:
            return np.array(items, want.dtype)
        case Kind.BOOLEANS:
            return np.array(items, np.uint8)
        case Kind.STRINGS:
            return pa.array(items, pa.string())
        case Kind.ADDRESSES:
            return from_text([text or "::" for text in items] if want.otherwise >= 0 else items)
        case Kind.CHOICES:
            return _places(name, items, want)
    return value


def _places(name: str, texts: list[str], want: Wanted) -> npt.NDArray[np.uint8]:
    known = {text: place for place, text in enumerate(want.texts)}
    places = [known.get(text, want.otherwise) for text in texts]
    if places and min(places) < 0:
        raise DecodeError(f"{_NOT_ONE}{name} is none of {', '.join(want.texts)}")
    return np.array(places, np.uint8)


def _written(kind: Kind) -> Kind:
    """What stands in the record for it."""
    return Kind.STRINGS if kind in _TEXTS else kind


def _kind(written: Any) -> Kind | None:
    """Of a type in a schema; None: no plain one, nor an array of such."""
    if isinstance(written, str):
        return _PLAIN.get(written)
    if not isinstance(written, dict):
        return None
    if written.get("type") == "array":
        items = written["items"]
        return _ARRAYS.get(str(items.get("type") if isinstance(items, dict) else items))
    return _PLAIN.get(str(written.get("type")))


def _room(want: Wanted, count: int) -> npt.NDArray[Any]:
    match want.kind:
        case Kind.LONGS:
            return np.empty(count, want.dtype)
        case Kind.ADDRESSES:
            return np.empty((count, 16), np.uint8)
    return np.empty(count, np.uint8)


def _text(octets: bytes, name: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"{_NOT_ONE}{name} is no UTF-8") from error


def _texts(ends: npt.NDArray[np.int32], octets: npt.NDArray[np.uint8], name: str) -> pa.Array:
    """`ends`: from 0, and where each text ends."""
    texts = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(octets))
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DecodeError(f"{_NOT_ONE}{name} is no UTF-8") from error
    return texts


@cache
def reader(schema: str, wanted: "Table") -> Reader:
    """The reader of a schema, made once."""
    return Reader(schema, wanted.fields)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What is wanted, by name; equal to itself alone, so that readers can be kept by it."""

    fields: Mapping[str, Wanted]
