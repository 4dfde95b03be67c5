"""Results as JSON lines, CSV and tables."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from console.query.vocabulary import protocol_name, tcp_flag_names
from console.show import output, tables
from console.show.flows import endpoint, flow_table
from console.store import formulas
from console.store.client import Rows


def test_mapped_addresses_are_shown_as_ipv4_and_text_is_left_alone() -> None:
    result = Rows(
        names=("a", "s", "l"),
        types=("IPv6", "String", "Array(IPv6)"),
        rows=iter([["::ffff:10.0.0.1", "::ffff:10.0.0.1", ["::ffff:1.2.3.4", "2001:db8::1"]], ["::1", "x", []]]),
    )
    assert list(output.people_rows(result)) == [
        ["10.0.0.1", "::ffff:10.0.0.1", ["1.2.3.4", "2001:db8::1"]],
        ["::1", "x", []],
    ]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.text(), st.none() | st.floats(allow_nan=False)), max_size=5))
def test_json_lines_are_read_back(rows: list[tuple[int, str, float | None]]) -> None:
    out = io.StringIO()
    assert output.write_json(("n", "s", "f"), ([*row] for row in rows), out) == len(rows)
    lines = out.getvalue().split("\n")
    assert lines.pop() == ""
    assert [tuple(json.loads(line).values()) for line in lines] == rows


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.text(st.characters(exclude_characters="\0"))), max_size=5))
def test_csv_is_read_back_with_its_header(rows: list[tuple[int, str]]) -> None:
    out = io.StringIO(newline="")
    output.write_csv(("n", "s"), ([*row] for row in rows), out)
    header, *found = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert header == ["n", "s"]
    assert [(int(n), s) for n, s in found] == [(n, formulas.as_text(s)) for n, s in rows]


def test_arrays_are_json_in_csv() -> None:
    out = io.StringIO()
    output.write_csv(("a", "b"), [[["x", 1], True]], out)
    assert out.getvalue() == '"a","b"\n"[""x"", 1]","true"\n'


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1499, "1.5 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567, "1.2 MB"),
        (2**64, "18.4 EB"),
    ],
)
def test_bytes_are_short_for_people(count: int, text: str) -> None:
    assert tables.human_bytes(count) == text


def test_a_piped_table_has_full_values_and_no_decoration() -> None:
    out = io.StringIO()
    name = "x" * 300
    tables.show(tables.build(["name", "n"], [[name, 1], ["[red]y[/red]", 22]], numbers=[False, True]), out)
    header, first, second = out.getvalue().splitlines()
    assert header.split() == ["name", "n"]
    assert first.split() == [name, "1"]
    assert second.split() == ["[red]y[/red]", "22"]
    assert not any(line.endswith(" ") for line in (header, first, second))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("UInt64", True),
        ("Nullable(Float64)", True),
        ("LowCardinality(Nullable(Int8))", True),
        ("String", False),
        ("IPv6", False),
        ("Array(UInt8)", False),
        ("Interval", False),
    ],
)
def test_numbers_are_set_to_the_right(kind: str, expected: bool) -> None:
    assert tables.is_number(kind) is expected


FLOW = {
    "window_begin": "2026-05-01T12:00:00Z",
    "node": "a",
    "interface": "eth0",
    "direction": "egress",
    "protocol": 58,
    "src_addr": "2001:db8::1",
    "dst_addr": "2001:db8::2",
    "src_port": 0,
    "dst_port": 0,
    "vlan_id": 7,
    "icmp_type": 128,
    "icmp_code": 0,
    "packets": 3,
    "bytes": 1234,
    "packets_rev": 1,
    "bytes_rev": 98,
    "tcp_flags": 0,
    "tcp_flags_rev": 0,
    "tunnel_type": "vxlan",
    "tunnel_id": 42,
    "outer_src_addr": "10.9.0.1",
    "outer_dst_addr": "10.9.0.2",
    "domain": "",
    "domain_source": "",
}


def shown(*rows: dict[str, object]) -> list[str]:
    out = io.StringIO()
    tables.show(flow_table(rows), out)
    return out.getvalue().splitlines()


def test_icmp_without_a_type_is_no_type_0() -> None:
    assert " icmp6 - " in " ".join(shown(FLOW | {"icmp_type": -1})[1].split())


def test_a_flow_is_a_line() -> None:
    assert shown(FLOW)[1].split() == [
        "2026-05-01T12:00:00Z",
        "eth0",
        "out",
        "icmp6",
        "128/0",
        "2001:db8::1",
        "2001:db8::2",
        "3",
        "1.2",
        "kB",
        "1",
        "98",
        "B",
        "vlan",
        "7",
        "vxlan",
        "42",
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 80, 120, 200])
def test_on_a_narrow_terminal_columns_go_and_no_number_is_cut(width: int) -> None:
    rows = [["eth0 " * 5, 123_456_789_012, "text " * 20, 987_654_321]]
    names = ["name", "first", "note", "second"]
    table, lacking = tables.fitting(names, rows, numbers=[False, True, False, True], width=width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    head, line = out.getvalue().splitlines()
    assert max(len(head), len(line)) <= width
    assert [name for name in names if name not in lacking] == head.split()
    assert ("123456789012" in line, "987654321" in line) == ("first" not in lacking, "second" not in lacking)
    assert lacking == {20: ["first", "note", "second"], 30: ["note", "second"], 40: ["second"]}.get(width, [])


def test_the_name_of_a_flow_is_shown_where_one_has_any() -> None:
    assert "name" not in shown(FLOW)[0].split()
    head, line = shown(FLOW | {"domain": "www.example.org", "domain_source": "dns"})
    assert "name" in head.split()
    assert "www.example.org (dns)" in line


def test_the_node_is_a_column_where_there_are_several() -> None:
    assert "node" not in shown(FLOW)[0].split()
    assert "node" in shown(FLOW, {**FLOW, "node": "b"})[0].split()


def test_ipv6_endpoints_have_brackets() -> None:
    assert endpoint("10.0.0.1", 443) == "10.0.0.1:443"
    assert endpoint("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert endpoint("2001:db8::1", 0) == "2001:db8::1"


def test_protocols_and_flags_have_names() -> None:
    assert [protocol_name(number) for number in (1, 6, 17, 58, 132, 253)] == [
        "icmp",
        "tcp",
        "udp",
        "icmp6",
        "sctp",
        "253",
    ]
    assert tcp_flag_names(0x112) == "SYN ACK AE"
    assert tcp_flag_names(0) == ""
