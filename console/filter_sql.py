"""Filters as parameterised SQL: no value of a person's ever becomes part of the text of a query. Pure."""

import ipaddress
from dataclasses import dataclass

from console.filters import Comparison, Filter, Network, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFilter:
    """Conditions on keys, and on measures (to be tested after the sum over revisions), with parameters."""

    keys: str                       # "1" when there is none
    measures: str
    parameters: dict[str, str | int]


def compile_filter(flow_filter: Filter) -> SqlFilter:
    """The conditions of a filter. Parameters are named f0, f1, … and have a type on the server."""
    parameters: dict[str, str | int] = {}
    keys: list[str] = []
    measures: list[str] = []
    for comparison in flow_filter.comparisons:
        (measures if comparison.field.measure else keys).append(_condition(comparison, parameters))
    return SqlFilter(
        keys=" AND ".join(keys) or "1", measures=" AND ".join(measures) or "1", parameters=parameters
    )


def _condition(comparison: Comparison, parameters: dict[str, str | int]) -> str:
    """One comparison; a field for either side holds when one side does, its `!=` when neither is equal."""
    negated = comparison.operator == "!="
    sides: list[str] = []
    tests = [_test(comparison, value, parameters) for value in comparison.values]
    for column in comparison.field.columns:
        sides.extend(test.format(column=column) for test in tests)
    condition = "(" + " OR ".join(sides) + ")"
    return f"NOT {condition}" if negated else condition


def _test(comparison: Comparison, value: Value, parameters: dict[str, str | int]) -> str:
    if isinstance(value, Network):
        first = _bind(_text(value.first), "IPv6", parameters)
        if value.first == value.last:
            return f"{{column}} = {first}"
        return f"{{column}} BETWEEN {first} AND {_bind(_text(value.last), 'IPv6', parameters)}"
    operator = "=" if comparison.operator in {"!=", "in"} else comparison.operator
    return f"{{column}} {operator} {_bind(value, comparison.field.sql_type, parameters)}"


def _bind(value: str | int, sql_type: str, parameters: dict[str, str | int]) -> str:
    name = f"f{len(parameters)}"
    parameters[name] = value
    return f"{{{{{name}:{sql_type}}}}}"         # doubled: the column is filled in by str.format


def _text(number: int) -> str:
    return str(ipaddress.IPv6Address(number))
