"""What of CSV a spreadsheet would run, it does not."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.show import output
from console.store import formulas

NASTY = st.text(st.sampled_from("=+-@\t\r\n\",'a"), max_size=6)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "=", "-1e"])
def test_text_that_would_be_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert formulas.as_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "eth0", "a=b", "'=1", "-1.5", "+1", "-inf", "1e-7", "2026-05-01T12:00:00Z"])
def test_other_text_and_numbers_stay(text: str) -> None:
    assert formulas.as_text(text) == text


def clickhouse_csv(rows: Iterable[tuple[str, int]]) -> bytes:
    """As ClickHouse writes it: text is quoted, numbers are not."""
    return "".join('"' + text.replace('"', '""') + f'",{number}\n' for text, number in rows).encode()


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    for begin, end in itertools.pairwise(edges):
        yield data[begin:end]


@given(st.lists(st.tuples(NASTY, st.integers(-5, 5)), max_size=4), st.lists(st.integers(0, 60), max_size=8))
def test_of_clickhouses_csv_the_cells_change_that_would_be_formulas(
    rows: list[tuple[str, int]], places: list[int]
) -> None:
    found = b"".join(formulas.without(piece for piece in cut(clickhouse_csv(rows), places)))
    read = list(csv.reader(io.StringIO(found.decode(), newline="")))
    assert read == [["'" + text if text[:1] in set("=+-@\t\r") else text, str(number)] for text, number in rows]


@given(st.lists(NASTY, min_size=1, max_size=4))
def test_no_cell_of_our_own_csv_is_a_formula(texts: list[str]) -> None:
    out = io.StringIO(newline="")
    output.write_csv(texts, [[*texts], [{text: text} for text in texts]], out)
    for row in csv.reader(io.StringIO(out.getvalue(), newline="")):
        assert not [cell for cell in row if cell.startswith(tuple("=+-@\t\r"))]
