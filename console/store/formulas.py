"""CSV that a spreadsheet opens and does not run: names of nodes and interfaces come from the wire. Pure.

Text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return would be a formula there; it gets a `'` before it,
by which a spreadsheet knows text. JSON and Arrow have it as it is.
"""

import contextlib
import re
from collections.abc import Generator, Iterator

STARTS = r"[=+\-@\t\r]"
"""What a formula begins with; a regular expression."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf)")
# ClickHouse quotes text, and no number. Within quotes a quote is two: one behind a comma or a line's end begins a cell
_CELL = re.compile(rf'([,\n]")({STARTS})'.encode())


def as_text(cell: str) -> str:
    """A cell that is no formula; a number that is written as text stays one."""
    return f"'{cell}" if re.match(STARTS, cell) and not _NUMBER.fullmatch(cell) else cell


def without(pieces: Generator[bytes]) -> Iterator[bytes]:
    """The same for ClickHouse's CSV, as it arrives."""
    held, begin = b"\n", 1  # a cell may begin in what is held; at first, in a line's end that is not in the pieces
    with contextlib.closing(pieces):
        for piece in pieces:
            known = _CELL.sub(rb"\1'\2", held + piece)
            if len(known) > 2:
                yield known[begin:-2]
                begin = 0
            held = known[-2:]
    yield held[begin:]
