"""What `ayaflow top` shows of connections."""

import io
from typing import Any

import pytest
from rich.console import Console

from cli import top
from console.live.state import KEY


def connection(**values: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(KEY, 0),
        "node": "n1",
        "interface": "eth0",
        "direction": "egress",
        "protocol_name": "tcp",
        "src_addr": "2001:db8:1234:5678:9abc:def0:1234:5678",
        "dst_addr": "10.200.200.200",
        "src_port": 54_321,
        "dst_port": 443,
        "packets": 1_234_567,
        "bytes": 987_654_321,
        "packets_rev": 0,
        "bytes_rev": 123_456_789,
        "domain": "",
        "domain_source": "",
        "packets_per_second": 1234.5,
        "bytes_per_second": 987_654.3,
        **values,
    }


def shown(width: int, *rows: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(top.table(rows, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
def test_a_narrow_terminal_goes_without_columns_and_shows_every_number_whole(width: int) -> None:
    head, line = shown(width, connection())
    numbers = {"bytes": "988 MB", "bytes back": "123 MB", "packets": "1.2 M", "bytes/s": "988 kB", "packets/s": "1.2 k"}
    assert "bytes" in head
    assert {name for name, number in numbers.items() if number in line} >= {"bytes"}
    for name, number in numbers.items():
        if f" {name} " in f"{head} ":
            assert number in line
    assert max(len(head), len(line)) <= width


def test_names_do_nothing_to_the_terminal_and_are_cut() -> None:
    lines = shown(4_000, connection(node="\x1b[31m", interface="a\u202eb" + "x" * 300), connection(node="\x9b2J"))
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 320


def test_the_name_is_a_column_where_one_has_any() -> None:
    assert "name" not in shown(200, connection())[0].split()
    head, first, second = shown(200, connection(domain="www.example.org", domain_source="sni"), connection())
    assert "name" in head.split()
    assert "www.example.org (sni)" in first
    assert "sni" not in second
