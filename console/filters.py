"""Flow filters: text to comparisons. Pure. `filter_sql` turns the comparisons into SQL.

    filter      = comparison { "and" comparison }
    comparison  = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
                | field "in" ( network | "(" value { "," value } ")" )

Fields are those of `vocabulary.FIELDS`; `addr` and `port` stand for either side. Numbers may end in k, M, G,
T (thousands) or Ki, Mi, Gi, Ti (1024s). Errors name the column and the nearest word that would be right.
"""

import difflib
import ipaddress
import re
from dataclasses import dataclass
from typing import NoReturn

from common.errors import QueryError
from console.vocabulary import FIELDS, Field, Kind, protocol_names, protocol_number

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
_MAPPED = 0xFFFF << 32          # ::ffff:0:0/96
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign>==|!=|<=|>=|<>|[=<>(),])|(?P<word>[^\s"'=!<>(),]+))"""
)
_NUMBER = re.compile(r"(\d+)(k|ki|m|mi|g|gi|t|ti)?", re.IGNORECASE)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
          "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All addresses from `first` to `last`, as 128-bit numbers; IPv4 is mapped into IPv6."""

    first: int
    last: int


Value = int | str | Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`field operator value`; `in` has any number of values, the others one."""

    field: Field
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """All comparisons must hold."""

    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str       # quoted, sign, word, end
    text: str
    column: int     # from 1


def parse(text: str) -> Filter:
    """A filter; an empty text matches everything. Raises QueryError that names the column."""
    return _Parser(text).filter()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def filter(self) -> Filter:
        if self._peek().kind == "end":
            return Filter(comparisons=())
        comparisons = [self._comparison()]
        while self._peek().kind != "end":
            token = self._take()
            if token.text.lower() != "and":
                _fail(token, "expected 'and' or the end of the filter" + (
                    " ('or' and 'not' are not supported)" if token.text.lower() in {"or", "not"} else ""))
            comparisons.append(self._comparison())
        return Filter(comparisons=tuple(comparisons))

    def _comparison(self) -> Comparison:
        token = self._take()
        field = FIELDS.get(token.text.lower()) if token.kind == "word" else None
        if field is None:
            _fail(token, f"expected a field{_nearest(token.text, list(FIELDS))}")
        sign = self._take()
        operator = {"==": "=", "<>": "!="}.get(sign.text, sign.text.lower())
        if operator not in OPERATORS or sign.kind == "quoted":
            _fail(sign, f"expected one of {' '.join(OPERATORS)} after {field.name}")
        if operator in {"<", "<=", ">", ">="} and field.kind is not Kind.NUMBER:
            _fail(sign, f"{field.name} has no order; use =, != or in")
        if operator == "in" and self._peek().text == "(":
            return Comparison(field=field, operator=operator, values=self._list(field))
        return Comparison(field=field, operator=operator, values=(_value(field, self._take()),))

    def _list(self, field: Field) -> tuple[Value, ...]:
        self._take()
        values = [_value(field, self._take())]
        while True:
            token = self._take()
            if token.text == ")":
                return tuple(values)
            if token.text != ",":
                _fail(token, "expected ',' or ')'")
            values.append(_value(field, self._take()))

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise QueryError(f"filter, column {start + 1}: {text[start]!r} is not understood here")
        kind = match.lastgroup
        word = match[kind][1:-1] if kind == "quoted" else match[kind]
        tokens.append(_Token(kind=kind, text=word, column=match.start(kind) + 1))
        position = match.end()
    tokens.append(_Token(kind="end", text="", column=end + 1))
    return tokens


def _value(field: Field, token: _Token) -> Value:
    if token.kind in {"end", "sign"}:
        _fail(token, f"expected {field.kind.value} for {field.name}")
    text = token.text
    match field.kind:
        case Kind.TEXT:
            return text
        case Kind.DIRECTION:
            if text.lower() not in {"ingress", "egress"}:
                _fail(token, f"expected ingress or egress{_nearest(text, ['ingress', 'egress'])}")
            return text.lower()
        case Kind.ADDRESS:
            return _network(token)
        case Kind.PROTOCOL:
            number = protocol_number(text)
            if number is not None:
                return number
            if not text.isascii() or not text.isdigit():
                _fail(token, f"expected {field.kind.value}{_nearest(text.lower(), protocol_names())}")
        case Kind.NUMBER:
            pass
    scaled = _NUMBER.fullmatch(text)
    if scaled is None or not text.isascii():
        _fail(token, f"expected {field.kind.value} for {field.name}")
    value = int(scaled[1]) * _SCALE[(scaled[2] or "").lower()]
    if value > field.largest:
        _fail(token, f"{field.name} is at most {field.largest}")
    return value


def _network(token: _Token) -> Network:
    try:
        network = ipaddress.ip_network(token.text, strict=False)
    except ValueError:
        _fail(token, f"expected {Kind.ADDRESS.value}")
    base = _MAPPED if network.version == 4 else 0
    return Network(first=base + int(network.network_address), last=base + int(network.broadcast_address))


def _fail(token: _Token, why: str) -> NoReturn:
    found = "the filter ends" if token.kind == "end" else f"{token.text!r}"
    raise QueryError(f"filter, column {token.column}: {found}: {why}")


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f": {', '.join(known)}"
