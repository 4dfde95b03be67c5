"""The format Native, as clients ask for it with client_protocol_version. Pure.

chDB writes what a server writes for version 0: blocks of columns, one after the other. From version 54454 on a block
begins with its info, and each column says whether its serialization is a special one. To put that in, one has to
know how long a column is: so the types are read here as far as that takes.
"""

from collections.abc import Callable
from functools import cache

from common.errors import QueryError

CUSTOM_SERIALIZATION = 54_454
"""The first version that we tell from 0. Those before it ask for the info of a block alone, and their clients look
whether it is there (clickhouse-connect) or do without: they are answered as by a server that knows no versions."""

_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow row; no bucket; the end
_WIDTHS = {
    **dict.fromkeys(("Int8", "UInt8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "Time", "IPv4", "Decimal32"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Time64", "Decimal64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("Int256", "UInt256", "Decimal256"), 32),
}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}

Skip = Callable[[bytes, int, int], int]
"""Octets, the offset of a column's part, rows -> the offset after it."""
Column = tuple[Skip, Skip]
"""The state before a column, which is there when it has rows; and its rows."""
_DECIMALS = ((9, 4), (18, 8), (38, 16), (76, 32))  # digits up to which a Decimal has so many octets


def with_info(piece: bytes) -> bytes:
    """Whole blocks of version 0, as version 54454 has them. Raises QueryError for a type that cannot be passed over."""
    parts: list[bytes | memoryview] = []
    view = memoryview(piece)
    at = 0
    while at < len(piece):
        begin = at
        columns, at = _number(piece, at)
        rows, at = _number(piece, at)
        parts += [_INFO, view[begin:at]]
        for _ in range(columns):
            begin = at
            _, at = _text(piece, at)
            kind, at = _text(piece, at)
            parts += [view[begin:at], b"\x00"]
            begin = at
            if rows:
                prefix, body = _column(kind.decode())
                at = body(piece, prefix(piece, at, rows), rows)
            parts.append(view[begin:at])
    return b"".join(parts)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number -> it, and the offset after it."""
    number = shift = 0
    while True:
        octet = data[at]
        at += 1
        number |= (octet & 127) << shift
        if octet < 128:
            return number, at
        shift += 7


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _number(data, at)
    return data[at : at + length], at + length


def _strings(data: bytes, at: int, rows: int) -> int:
    for _ in range(rows):
        length = data[at]
        at += 1
        if length > 127:
            length, at = _number(data, at - 1)
        at += length
    return at


def _fixed_state(_data: bytes, at: int, _rows: int) -> int:
    return at + 8  # the version of the serialization


def _nothing(_data: bytes, at: int, _rows: int) -> int:
    return at


@cache
def _column(kind: str) -> Column:
    """What passes over a column of this type."""
    name, _, inside = kind.partition("(")
    arguments = _split(inside[:-1]) if inside else []
    if kind in _ALIASES:
        return _column(_ALIASES[kind])
    if name in _WIDTHS or name.startswith("Interval"):
        return _nothing, _fixed(_WIDTHS.get(name, 8))
    if name in _KINDS and (arguments or name == "String"):
        return _KINDS[name](arguments)
    raise QueryError(
        f"a column of type {kind[:100]} cannot be sent as Native with client_protocol_version: name another FORMAT, "
        "or make it text with toString (JSON: SETTINGS output_format_native_write_json_as_string = 1)"
    )


def _fixed(width: int) -> Skip:
    return lambda _data, at, rows: at + width * rows


def _chain(parts: list[Skip]) -> Skip:
    def skip(data: bytes, at: int, rows: int) -> int:
        for part in parts:
            at = part(data, at, rows)
        return at

    return skip


def _decimal(arguments: list[str]) -> Column:
    return _nothing, _fixed(next(octets for digits, octets in _DECIMALS if int(arguments[0]) <= digits))


def _nullable(arguments: list[str]) -> Column:
    prefix, body = _column(arguments[0])
    return prefix, lambda data, at, rows: body(data, at + rows, rows)  # an octet a row: is it NULL


def _tuple(arguments: list[str]) -> Column:
    parts = [_column(_type_of(argument)) for argument in arguments]
    return _chain([prefix for prefix, _ in parts]), _chain([body for _, body in parts])


def _array_of_tuples(arguments: list[str]) -> Column:
    return _array([f"Tuple({', '.join(arguments)})"])


def _array(arguments: list[str]) -> Column:
    prefix, body = _column(arguments[0])

    def skip(data: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        at += 8 * rows  # where each row ends; the last one: how many there are
        return body(data, at, int.from_bytes(data[at - 8 : at], "little"))

    return prefix, skip


def _low_cardinality(arguments: list[str]) -> Column:
    inner = arguments[0]
    # its dictionary has no NULLs: an index stands for one
    _, body = _column(inner.removeprefix("Nullable(")[:-1] if inner.startswith("Nullable(") else inner)

    def skip(data: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        width = 1 << (data[at] & 0x0F)  # of an index: the lowest octet of the flags
        keys = int.from_bytes(data[at + 8 : at + 16], "little")
        at = body(data, at + 16, keys)
        return at + 8 + width * int.from_bytes(data[at : at + 8], "little")

    return _fixed_state, skip


def _variant(arguments: list[str]) -> Column:
    kinds = [_column(argument) for argument in arguments]
    prefixes = _chain([prefix for prefix, _ in kinds])

    def prefix(data: bytes, at: int, rows: int) -> int:
        if any(data[at : at + 8]):
            raise QueryError("a Variant in compact serialization cannot be sent with client_protocol_version")
        return prefixes(data, at + 8, rows)

    def skip(data: bytes, at: int, rows: int) -> int:
        which = data[at : at + rows]
        at += rows
        for number, (_, body) in enumerate(kinds):
            at = body(data, at, which.count(number))
        return at

    return prefix, skip


_KINDS: dict[str, Callable[[list[str]], Column]] = {
    "String": lambda _: (_nothing, _strings),
    "FixedString": lambda arguments: (_nothing, _fixed(int(arguments[0]))),
    "Decimal": _decimal,
    "SimpleAggregateFunction": lambda arguments: _column(arguments[-1]),
    "Nullable": _nullable,
    "LowCardinality": _low_cardinality,
    "Array": _array,
    "Map": _array_of_tuples,
    "Nested": _array_of_tuples,
    "Tuple": _tuple,
    "Variant": _variant,
}


def _type_of(argument: str) -> str:
    """Of an element of a Tuple, which may have a name: `a UInt8`, `` `a b` UInt8 ``, `UInt8`."""
    if argument.startswith("`"):
        return argument[argument.index("` ", 1) + 2 :]
    name, space, kind = argument.partition(" ")
    return kind if space and "(" not in name else argument


def _split(text: str) -> list[str]:
    """At the commas that are in no parentheses and no quotes."""
    found, begin, depth, quote, at = [], 0, 0, "", 0
    while at < len(text):
        mark = text[at]
        if mark == "\\":
            at += 1
        elif quote:
            quote = "" if mark == quote else quote
        elif mark in "'`":
            quote = mark
        elif mark in "()":
            depth += 1 if mark == "(" else -1
        elif mark == "," and not depth:
            found.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    return [*found, text[begin:].strip()]
