"""What an operator is, and which ones a worker runs. Pure.

An operator gets the rows of each window that was stored, revisions one by one, and says what it finds in them. It must
find the same in the same rows: after a crash it is asked again, and what is there already is not stored twice.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from common.errors import SettingsError

OURS = {"burst": "streams.operators.burst:Burst", "port_scan": "streams.operators.port_scan:PortScan"}
IDENTITY = ("record_id", "window_begin", "window_seconds", "topic_id", "kafka_partition", "revision", "number")
"""Columns that each finding has besides those of its operator."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@runtime_checkable
class Operator(Protocol):
    """A class of one's own has these; its arguments are `streams.operator_options` under its name."""

    name: str
    """Of its table, operator_NAME, and its topic, with - for _. Lower-case letters, digits, _."""
    schema: pa.Schema
    """The columns of what it finds: strings, booleans, numbers, timestamps, lists of these."""

    def window(self, flows: pa.Table) -> pa.Table | None:
        """What it finds in rows of one window, which has at least one; columns are FlowRecord's. None: nothing.

        Called in a thread of its own, one window after the other. What it raises is told in health, and that window is
        left out.
        """


def load(names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> tuple[Operator, ...]:
    """The operators of `streams.operators`: names of OURS, or MODULE:CLASS. Raises SettingsError."""
    found: dict[str, Operator] = {}
    for name in names:
        operator = _made(name, options)
        if operator.name in found:
            raise SettingsError(f"streams.operators: two of them are called {operator.name}")
        found[operator.name] = operator
    if strange := options.keys() - found.keys():
        raise SettingsError(f"streams.operator_options: there is no operator {', '.join(sorted(strange))}")
    return tuple(found.values())


def _made(name: str, options: Mapping[str, Mapping[str, Any]]) -> Operator:
    module, _, of = OURS.get(name, name).partition(":")
    if not of:
        known = ", ".join(sorted(OURS))
        raise SettingsError(f"streams.operators: {name!r} is neither one of {known} nor written as MODULE:CLASS")
    try:
        kind = getattr(import_module(module), of)
        operator = kind(**options.get(str(getattr(kind, "name", name)), {}))
    except SettingsError:
        raise
    except Exception as error:  # somebody's code, and options that it does not take
        raise SettingsError(f"streams.operators: {name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(operator, Operator) or not isinstance(operator.schema, pa.Schema):
        raise SettingsError(f"streams.operators: {name} lacks one of name, schema (of pyarrow) and window")
    if not _NAME.fullmatch(operator.name):
        raise SettingsError(f"streams.operators: {operator.name!r} is no name of a table: letters a-z, digits and _")
    if taken := {*operator.schema.names} & {*IDENTITY}:
        raise SettingsError(f"streams.operators: {name} has columns that each finding has: {', '.join(sorted(taken))}")
    return operator
