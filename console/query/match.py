"""Tests one flow against a filter, as the live view needs it. Pure.

Written apart from `filter_sql`, whose results the tests hold to this.
"""

import ipaddress
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import QueryError
from console.query.filters import Comparison, Every, Expression, Filter, Not, Some
from console.query.values import Below, Pattern, Span, Value

Flow = Mapping[str, Any]
"""Columns by name: addresses and names as text, all else as numbers."""

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.eq,
    "in": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(flow_filter: Filter, flow: Flow) -> bool:
    """Whether the flow has what the filter asks for."""
    return flow_filter.expression is None or _holds(flow_filter.expression, flow)


def check_live(flow_filter: Filter) -> None:
    """Raises QueryError when the filter names what live connections do not have."""
    for field in flow_filter.fields().values():
        if not field.live:
            raise QueryError(
                f"live connections have no {field.name}; it is known when a window is stored: ask `ayaflow flows` or"
                " /api/flows"
            )


def _holds(expression: Expression, flow: Flow) -> bool:
    match expression:
        case Not(part=part):
            return not _holds(part, flow)
        case Every(parts=parts):
            return all(_holds(part, flow) for part in parts)
        case Some(parts=parts):
            return any(_holds(part, flow) for part in parts)
        case Comparison(field=field, operator=sign, values=values):
            found = any(_fits(flow[column], sign, value) for column in field.columns for value in values)
            return not found if sign == "!=" else found


def _fits(found: Any, sign: str, value: Value) -> bool:
    if isinstance(value, Pattern):
        return _search(value.text, found)
    if isinstance(value, Below):
        return f".{found}".endswith(f".{value.domain}")
    if isinstance(value, Span):
        number = _address(found) if isinstance(found, str) else found
        return bool(value.first <= number <= value.last)
    return _ORDER[sign](found, value)


@lru_cache(4_096)
def _search(pattern: str, text: str) -> bool:
    """RE2, as ClickHouse has it: linear in the text, whatever the pattern; the dot matches line breaks."""
    return bool(pc.match_substring_regex(pa.scalar(text), pattern=f"(?s){pattern}").as_py())


@lru_cache(65_536)
def _address(text: str) -> int:
    if not text:  # without a tunnel: :: in ClickHouse
        return 0
    address = ipaddress.ip_address(text)
    return int(address) + (0xFFFF << 32 if address.version == 4 else 0)
