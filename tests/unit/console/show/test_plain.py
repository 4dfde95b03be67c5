"""Names that others chose do nothing to a terminal."""

import io

import pytest

from console.show import tables
from console.show.plain import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth0", "eth0"),
        ("日本語🎉 é", "日本語🎉 é"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("ani\u202egpj.exe", "ani\\u202egpj.exe"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_its_number(text: str, shown: str) -> None:
    assert plain(text) == shown
    out = io.StringIO()
    tables.show(tables.build(["name"], [[text]], numbers=[False]), out)
    assert out.getvalue().splitlines()[-1] == shown
