"""Filters as parameterised SQL: no value of a person's ever becomes part of the text of a query. Pure."""

import ipaddress
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from console.query.filters import Comparison, Every, Expression, Filter, Not, Some
from console.query.values import Below, Pattern, Span, Value
from console.query.vocabulary import Field

Parameters = dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFilter:
    """Conditions for before and after the sum over revisions, with their parameters.

    A flow matches when both hold; `keys` alone is true of every flow that matches, and uses no sums.
    """

    keys: str  # "1" when there is none
    measures: str  # "1" when there is none
    parameters: Parameters


def compile_filter(flow_filter: Filter, names: Mapping[str, str] | None = None) -> SqlFilter:
    """The conditions of a filter. Parameters are named f0, f1, … and have a type on the server.

    `names`: SQL for columns that are not there under their own name.
    """
    writer = _Writer(names or {})
    parts = _conjuncts(flow_filter.expression)
    keys = [writer.write(part) for part in parts if not _has_measure(part)]
    mixed = [part for part in parts if _has_measure(part)]
    # what a mixed part asks of the keys lets ClickHouse skip rows before the sum
    keys += [writer.write(weaker) for part in mixed if (weaker := _weaker(part, _is_key, positive=True))]
    measures = [writer.write(part) for part in mixed]
    return SqlFilter(
        keys=" AND ".join(keys) or "1", measures=" AND ".join(measures) or "1", parameters=writer.parameters
    )


def compile_of(flow_filter: Filter, names: Set[str]) -> SqlFilter:
    """What follows from the filter for these fields: `keys` holds wherever the filter may."""
    weaker = flow_filter.expression and _weaker(
        flow_filter.expression, lambda field: field.name in names, positive=True
    )
    writer = _Writer({})
    return SqlFilter(keys=writer.write(weaker) if weaker else "1", measures="1", parameters=writer.parameters)


def _conjuncts(expression: Expression | None) -> list[Expression]:
    if expression is None:
        return []
    if isinstance(expression, Every):
        return [part for one in expression.parts for part in _conjuncts(one)]
    return [expression]


def _has_measure(expression: Expression) -> bool:
    return any(field.measure for field in Filter(expression=expression).fields().values())


def _is_key(field: Field) -> bool:
    return not field.measure


def _weaker(expression: Expression, known: Callable[[Field], bool], *, positive: bool) -> Expression | None:
    """A condition on known fields alone that holds wherever the expression (or, not positive, its negation) does.

    None: nothing follows for them.
    """
    match expression:
        case Comparison(field=field):
            return None if not known(field) else expression if positive else Not(part=expression)
        case Not(part=part):
            return _weaker(part, known, positive=not positive)
        case Every(parts=parts) | Some(parts=parts):
            found = [_weaker(part, known, positive=positive) for part in parts]
            told = tuple(part for part in found if part is not None)
            if isinstance(expression, Every) is positive:  # and: each part that is known must hold
                return Every(parts=told) if told else None
            return Some(parts=told) if len(told) == len(found) else None


class _Writer:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self.parameters: Parameters = {}

    def write(self, expression: Expression) -> str:
        match expression:
            case Comparison():
                return self._comparison(expression)
            case Not(part=part):
                return f"NOT {self.write(part)}"
            case Every(parts=parts):
                return "(" + " AND ".join(self.write(part) for part in parts) + ")"
            case Some(parts=parts):
                return "(" + " OR ".join(self.write(part) for part in parts) + ")"

    def _comparison(self, comparison: Comparison) -> str:
        """A field for either side holds when one side does, its `!=` when neither is equal."""
        field, operator = comparison.field, comparison.operator
        negated = operator == "!="
        bound = [self._bind(field, value) for value in comparison.values]
        tests = [
            _test(self._names.get(column, column), "=" if operator in {"!=", "in"} else operator, values)
            for column in field.columns
            for values in bound
        ]
        condition = "(" + " OR ".join(tests) + ")"
        return f"NOT {condition}" if negated else condition

    def _bind(self, field: Field, value: Value) -> tuple[str, ...]:
        """Placeholders: two for a range, one for anything else. `~` and `.` before them say how they are compared."""
        if isinstance(value, Pattern):
            # as in ClickHouse's own LIKE and in filter_match: the dot matches line breaks
            return "~", self._put(value.text, "String")
        if isinstance(value, Below):
            return ".", self._put(value.domain, "String"), self._put(f".{value.domain}", "String")
        if not isinstance(value, Span):
            return (self._put(value, field.sql_type),)
        ends = (value.first,) if value.first == value.last else (value.first, value.last)
        if field.sql_type == "IPv6":
            return tuple(self._put(str(ipaddress.IPv6Address(end)), "IPv6") for end in ends)
        return tuple(self._put(end, field.sql_type) for end in ends)

    def _put(self, value: str | int, sql_type: str) -> str:
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{sql_type}}}"


def _test(column: str, operator: str, bound: tuple[str, ...]) -> str:
    if bound[0] == "~":
        return f"match({column}, {bound[1]})"
    if bound[0] == ".":
        return f"({column} = {bound[1]} OR endsWith({column}, {bound[2]}))"
    if len(bound) == 2:
        return f"{column} BETWEEN {bound[0]} AND {bound[1]}"
    return f"{column} {operator} {bound[0]}"
