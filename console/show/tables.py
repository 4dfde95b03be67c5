"""Tables for people: they fit the terminal, and show full values when they are piped."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.plain import plain

_PIPED_WIDTH = 4_000
_LEAST_TEXT = 10  # characters of a column of text that still say something, and the space behind it
_NUMBER = re.compile(r"(?:LowCardinality\()?(?:Nullable\()?(?:U?Int\d|B?Float\d|Decimal)")
_STEPS = ("", "k", "M", "G", "T", "P", "E")


class Paper(Console):
    """Rich's console, but what a reader that went means is not its to say: it would end the process with 1."""

    def on_broken_pipe(self) -> None:
        """Called in the handler of BrokenPipeError."""
        raise  # noqa: PLE0704  what is being handled


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


def percent(part: int, total: int) -> str:
    """`93.1 %`; never 100 % or 0 % of what is not."""
    if not total:
        return "-"
    shown = f"{100 * part / total:.1f}"
    if part < total and shown == "100.0":
        shown = "> 99.9"
    if part > 0 and shown == "0.0":
        shown = "< 0.1"
    return f"{shown} %"


def build(names: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[bool]) -> Table:
    """A plain table; `numbers` says which columns are set to the right, and are never cut."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name, is_number in zip(names, numbers, strict=True):
        # of columns that may wrap, width is taken first; their cells do not wrap, and are cut
        table.add_column(
            Text(plain(name), no_wrap=True, overflow="ellipsis"),
            justify="right" if is_number else "left",
            no_wrap=is_number,
        )
    for row in rows:
        # Text, not markup: a value such as "[/red]" is shown as it is
        table.add_row(*(Text(_cell(value), no_wrap=True, overflow="ellipsis") for value in row))
    return table


def fitting(
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[bool],
    width: int | None,
    dispensable: Sequence[str] = (),
) -> tuple[Table, list[str]]:
    """A table that fits into `width` characters (None: any), and the columns that it goes without.

    The dispensable ones go until all is whole, the first named first; then the last ones until numbers are.
    """
    if width is None:
        return build(names, rows, numbers=numbers), []
    cells = [[plain(name) for name in names], *([_cell(value) for value in row] for row in rows)]
    whole = [2 + max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    least = [need if is_number else min(need, _LEAST_TEXT) for need, is_number in zip(whole, numbers, strict=True)]
    kept = list(range(len(names)))

    def fits(needs: Sequence[int]) -> bool:
        return sum(needs[i] for i in kept) - 2 <= width

    for name in dispensable:
        if name in names and not fits(whole):
            kept.remove(names.index(name))
    while len(kept) > 1 and not fits(least):
        kept.pop()
    table = build(
        [names[i] for i in kept], ([row[i] for i in kept] for row in rows), numbers=[numbers[i] for i in kept]
    )
    return table, [name for i, name in enumerate(names) if i not in kept]


def width_of(out: TextIO) -> int | None:
    """Characters in a line of a terminal; None: it is none, and a line is as long as it needs."""
    return Console(file=out).size.width if out.isatty() else None


def _cell(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return plain(json.dumps(value, ensure_ascii=False, default=str))
    return "" if value is None else plain(str(value))


def show(table: Table, out: TextIO | None = None) -> None:
    """Print it, as wide as the terminal, or as wide as it needs where there is none."""
    out = out or sys.stdout
    console = (
        Paper(file=out, highlight=False)
        if out.isatty()
        else Paper(file=out, width=_PIPED_WIDTH, color_system=None, highlight=False)
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
