"""The values of filters: a word and a field to a number, a text, a range. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from lark import Token

from console.query.errors import FilterError, nearest
from console.query.vocabulary import NOT_STORED, Field, protocol_names, protocol_number, service_names, service_port
from schemas.fields import Kind

_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96
_NUMBER = re.compile(r"(-?\d{1,30})(k|ki|m|mi|g|gi|t|ti)?", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """All numbers from `first` to `last`; addresses as 128-bit numbers, IPv4 mapped into IPv6."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A regular expression (RE2), searched for anywhere."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """A domain and all domains below it: labels are compared whole, so that it is no part of a longer one."""

    domain: str


Value = int | str | Span | Pattern | Below


def value(field: Field, text: str, token: Token, *, ranges: bool) -> Value:
    """The value that a word stands for. `ranges`: `1-9` is one. Raises FilterError."""
    word = unquoted(token)
    _check_text(text, token)
    match field.kind:
        case Kind.TEXT:
            return word
        case Kind.DOMAIN:
            return _domain(text, token, word)
        case Kind.CHOICE:
            known = list(field.choices)
            if word.lower() == NOT_STORED and field.name == "domain_source":
                fail(text, token, "names of reverse DNS are shown, not stored; filter by the address, with addr")
            if word.lower() not in known:
                fail(text, token, f"expected {field.expected}{nearest(word, known)}")
            return word.lower()
        case Kind.ADDRESS:
            return _addresses(field, text, token, word)
        case Kind.PROTOCOL:
            number = protocol_number(word)
            if number is None and not (word.isascii() and word.isdigit()):
                fail(text, token, f"expected {field.expected}{nearest(word, protocol_names())}")
        case Kind.PORT:
            number = service_port(word)
        case Kind.NUMBER:
            number = None
    return number if number is not None else _numbers(field, text, token, ranges=ranges)


def _numbers(field: Field, text: str, token: Token, *, ranges: bool) -> Value:
    """A number, or with `ranges` a range of them."""
    word = unquoted(token)
    rest, dash, last = word[1:].partition("-")
    first = word[:1] + rest  # with its sign
    if ranges and dash:
        span = Span(first=_number(field, text, token, first), last=_number(field, text, token, last))
        if span.first > span.last:
            fail(text, token, "the first number of a range is the smaller one")
        return span
    if dash and first.isdigit():
        fail(text, token, f"a range is written with 'in', such as {field.name} in {word}")
    return _number(field, text, token, word)


def _domain(text: str, token: Token, word: str) -> Value:
    """As names are stored: in lower case, without the last dot, other letters than ASCII's as in DNS."""
    name = word
    if not word.isascii():
        try:
            name = word.encode("idna").decode()
        except UnicodeError:
            fail(text, token, "is not a domain that DNS could have")
    name = name.lower()
    if len(name) > 1:
        name = name.removesuffix(".")
    return Below(domain=name[1:]) if len(name) > 1 and name.startswith(".") else name


def pattern(field: Field, text: str, token: Token) -> Pattern:
    """A regular expression of `~`; of domains without regard to case. Raises FilterError."""
    import pyarrow as pa  # its engine is ClickHouse's: RE2, whose time is linear
    import pyarrow.compute as pc

    _check_text(text, token)
    word = unquoted(token)
    try:
        pc.match_substring_regex(pa.array([""]), pattern=word)
    except pa.ArrowInvalid as error:
        fail(text, token, f"is not a regular expression ({str(error).rpartition(': ')[2]})")
    return Pattern(text=f"(?i){word}" if field.kind is Kind.DOMAIN else word)


def unquoted(token: Token) -> str:
    """What stands in a word or between quotes."""
    return str(token)[1:-1] if token.type == "QUOTED" else str(token)


def fail(text: str, token: Token, why: str) -> NoReturn:
    """Raise FilterError at a token."""
    if token.type == "$END":
        raise FilterError("the filter ends", text=text, column=len(text.rstrip()) + 1, why=why)
    raise FilterError(repr(str(token)), text=text, column=(token.start_pos or 0) + 1, why=why)


def _check_text(text: str, token: Token) -> None:
    try:
        str(token).encode()
    except UnicodeEncodeError:
        fail(text, token, "is not text that can be sent to ClickHouse")


def _number(field: Field, text: str, token: Token, word: str) -> int:
    scaled = _NUMBER.fullmatch(word)
    if scaled is None:
        hint = nearest(word, list(service_names())) if field.kind is Kind.PORT and word.isalpha() else ""
        fail(text, token, f"expected {field.expected} for {field.name}" + (hint if hint.startswith(";") else ""))
    number = int(scaled[1]) * _SCALE[(scaled[2] or "").lower()]
    if number < field.smallest:
        fail(text, token, f"{field.name} is at least {field.smallest}")
    if number > field.largest:
        fail(text, token, f"{field.name} is at most {field.largest}")
    return number


_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_OF_A_NAME = "; of a host name write its addresses, as getent ahosts has them, or domain for what clients asked for"


def _addresses(field: Field, text: str, token: Token, word: str) -> Span:
    first, dash, last = word.partition("-")
    try:
        if dash:
            span = Span(first=_mapped(ipaddress.ip_address(first)), last=_mapped(ipaddress.ip_address(last)))
        else:
            network = ipaddress.ip_network(word, strict=False)
            span = Span(first=_mapped(network.network_address), last=_mapped(network.broadcast_address))
    except ValueError:
        named = _HOST_NAME.fullmatch(word) and not word.replace(".", "").isdigit()
        fail(text, token, f"expected {field.expected}{_OF_A_NAME if named else ''}")
    if span.first > span.last:
        fail(text, token, "the first address of a range is the smaller one")
    return span


def _mapped(address: Any) -> int:
    return int(address) + (_MAPPED if address.version == 4 else 0)
