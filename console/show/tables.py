"""Tables for people: they fit the terminal, and show full values when they are piped."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.show.plain import plain

_PIPED_WIDTH = 4_000
_NUMBER = re.compile(r"(?:LowCardinality\()?(?:Nullable\()?(?:U?Int\d|B?Float\d|Decimal)")
_STEPS = ("", "k", "M", "G", "T", "P", "E")


def human_bytes(count: float) -> str:
    """`1234567` -> `1.2 MB`: thousands, as networks count."""
    return f"{human(count)}B" if abs(count) >= 1000 else f"{int(count)} B"


def human(count: float) -> str:
    """`1234567` -> `1.2 M`, `999` -> `999 `; three digits at most."""
    step = 0
    value = float(count)
    while abs(value) >= 999.5 and step < len(_STEPS) - 1:
        value /= 1000
        step += 1
    digits = 0 if step == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {_STEPS[step]}"


def build(names: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[bool]) -> Table:
    """A plain table; `numbers` says which columns are set to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name, is_number in zip(names, numbers, strict=True):
        table.add_column(Text(name), justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        # Text, not markup: a value such as "[/red]" is shown as it is
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def without(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, dispensable: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows as they fit into `width` characters: without the dispensable ones, the first named first."""
    needs = {name: 2 + max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(names)}
    kept = list(names)
    for name in dispensable:
        if sum(needs[one] for one in kept) - 2 <= width:
            break
        if name in kept:
            kept.remove(name)
    return kept, [[row[i] for i, name in enumerate(names) if name in kept] for row in rows]


def _cell(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return plain(json.dumps(value, ensure_ascii=False, default=str))
    return "" if value is None else plain(str(value))


def show(table: Table, out: TextIO | None = None) -> None:
    """Print it, as wide as the terminal, or as wide as it needs where there is none."""
    out = out or sys.stdout
    console = (
        Console(file=out, highlight=False)
        if out.isatty()
        else Console(file=out, width=_PIPED_WIDTH, color_system=None, highlight=False)
    )
    if out.isatty():
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        out.write(line.rstrip() + "\n")


def is_number(kind: str) -> bool:
    """Whether a ClickHouse type is a number."""
    return _NUMBER.match(kind) is not None
