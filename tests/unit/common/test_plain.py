"""Names that others chose do nothing to a terminal."""

import io
import json
import logging

import pytest

from common import logs
from common.plain import MOST_NAME, plain, plain_lines, short
from console.show import output, tables


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


HOSTILE = "\x1b[31m\x1b]0;title\x07\x9b2J\u202egpj\u2066\u200f\u2028\x7f\n\r" + "x" * 300
CUT = short(HOSTILE)


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_a_long_name_is_cut_in_tables() -> None:
    assert short("x" * MOST_NAME) == "x" * MOST_NAME
    assert short("x" * (MOST_NAME + 1)) == "x" * (MOST_NAME - 1) + "…"
    assert is_harmless(CUT)


def test_lines_stay_lines() -> None:
    assert plain_lines("a\n\x1bb\r\n") == "a\n\\x1bb\\r\n"


def test_a_line_of_the_log_is_one_line_whatever_a_name_has() -> None:
    out, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure(form="text", stream=out)
        logs.get("x").warning("came", interface=HOSTILE)
        logging.getLogger("library").error("%s failed", HOSTILE)
        logs.get("x").error("failed", cause=ValueError("\x1b[2J\u202e"))
    finally:
        root.handlers[:], root.level = before
    assert is_harmless(out.getvalue())
    first, second, third, *trace = out.getvalue().splitlines()
    assert first.endswith("came interface=" + plain(HOSTILE))
    assert plain(HOSTILE) in second
    assert third.endswith("x: failed")
    assert trace[-1] == "ValueError: \\x1b[2J\\u202e"


class Screen(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


def test_json_on_a_terminal_is_the_same_json_and_harmless() -> None:
    screen = Screen()
    out = output.for_programs(screen)
    output.write_json(["name"], [[HOSTILE], ["日本語\U000e0001"]], out)
    out.flush()
    out.buffer.write('"\x9b31m"\n'.encode() + b"\xff\n")  # as ClickHouse writes it; and a format of bytes
    out.buffer.flush()
    assert is_harmless(screen.getvalue())
    first, second, third, _ = screen.getvalue().splitlines()
    assert [json.loads(first)["name"], json.loads(second)["name"], json.loads(third)] == [
        HOSTILE,
        "日本語\U000e0001",
        "\x9b31m",
    ]


def test_json_that_is_no_terminals_is_left_alone() -> None:
    out = io.StringIO()
    assert output.for_programs(out) is out
