"""Flow filters: text to comparisons to SQL."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import QueryError
from console.filter_sql import compile_filter
from console.filters import Network, parse
from console.vocabulary import FIELDS, Kind

MAPPED = 0xFFFF << 32


def only(text: str) -> tuple[str, str, tuple[object, ...]]:
    (comparison,) = parse(text).comparisons
    return comparison.field.name, comparison.operator, comparison.values


@pytest.mark.parametrize(("text", "expected"), [
    ("dst_port = 443", ("dst_port", "=", (443,))),
    ("dst_port==443", ("dst_port", "=", (443,))),
    ("PORT <> 22", ("port", "!=", (22,))),
    ("bytes >= 10k", ("bytes", ">=", (10_000,))),
    ("bytes<1Gi", ("bytes", "<", (2**30,))),
    ("protocol = TCP", ("protocol", "=", (6,))),
    ("protocol = icmp6", ("protocol", "=", (58,))),
    ("protocol = 200", ("protocol", "=", (200,))),
    ("protocol in (tcp, udp,132)", ("protocol", "in", (6, 17, 132))),
    ("direction = Egress", ("direction", "=", ("egress",))),
    ("interface = eth0.100", ("interface", "=", ("eth0.100",))),
    ("node = 'it is \"x\"'", ("node", "=", ('it is "x"',))),
    ("addr = 10.0.0.1", ("addr", "=", (Network(first=MAPPED + 0x0A000001, last=MAPPED + 0x0A000001),))),
    ("src_addr in 10.0.0.0/8", ("src_addr", "in", (Network(first=MAPPED + (10 << 24), last=MAPPED + (11 << 24) - 1),))),
    ("dst_addr = 2001:db8::/32",
     ("dst_addr", "=", (Network(first=0x20010DB8 << 96, last=(0x20010DB9 << 96) - 1),))),
])
def test_a_comparison_is_understood(text: str, expected: tuple[str, str, tuple[object, ...]]) -> None:
    assert only(text) == expected


def test_no_filter_matches_everything() -> None:
    assert parse("  ").comparisons == ()
    assert compile_filter(parse("")).keys == "1"


@pytest.mark.parametrize(("text", "column", "hint"), [
    ("dst_prt = 443", 1, "did you mean dst_port?"),
    ("  foo = 1", 3, "expected a field: node"),
    ("dst_port ~ 443", 10, "expected one of = != <"),
    ("dst_port", 9, "the filter ends"),
    ("dst_port =", 11, "the filter ends: expected a number"),
    ("dst_port = https", 12, "expected a number"),
    ("dst_port = 65536", 12, "at most 65535"),
    ("dst_port = 443 dst_port = 80", 16, "expected 'and'"),
    ("dst_port = 443 or dst_port = 80", 16, "not supported"),
    ("dst_port = 443 and", 19, "the filter ends"),
    ("addr = 10.0.0.300", 8, "an IP address"),
    ("addr < 10.0.0.3", 6, "has no order"),
    ("protocol = tpc", 12, "did you mean tcp?"),
    ("protocol = 256", 12, "at most 255"),
    ("direction = in", 13, "ingress"),
    ("protocol in (tcp", 17, "expected ',' or ')'"),
    ("protocol in ()", 14, "expected a protocol"),
    ("node = 'open", 8, "not understood"),
    ("bytes > -1", 9, "expected a number"),
    ("bytes > ²", 9, "expected a number"),
])
def test_an_error_names_the_column_and_what_would_be_right(text: str, column: int, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"filter, column {column}: ")
    assert hint in str(caught.value)


def test_either_side_is_either_column_and_its_negation_is_neither() -> None:
    assert compile_filter(parse("port = 53")).keys == "(src_port = {f0:UInt16} OR dst_port = {f0:UInt16})"
    assert compile_filter(parse("port != 53")).keys == "NOT (src_port = {f0:UInt16} OR dst_port = {f0:UInt16})"


def test_measures_are_tested_after_the_sum() -> None:
    compiled = compile_filter(parse("bytes > 1M and protocol = udp and packets_rev = 0"))
    assert compiled.keys == "(protocol = {f1:UInt8})"
    assert compiled.measures == "(bytes > {f0:UInt64}) AND (packets_rev = {f2:UInt64})"
    assert compiled.parameters == {"f0": 1_000_000, "f1": 17, "f2": 0}


def test_a_network_is_a_range_of_addresses() -> None:
    compiled = compile_filter(parse("src_addr in 10.1.0.0/16"))
    assert compiled.keys == "(src_addr BETWEEN {f0:IPv6} AND {f1:IPv6})"
    assert {name: ipaddress.IPv6Address(str(value)) for name, value in compiled.parameters.items()} == {
        "f0": ipaddress.IPv6Address("::ffff:10.1.0.0"), "f1": ipaddress.IPv6Address("::ffff:10.1.255.255"),
    }


@given(st.text(alphabet=st.characters(exclude_characters="'"), max_size=40))
def test_no_value_becomes_part_of_the_sql(value: str) -> None:
    compiled = compile_filter(parse(f"node = '{value}' and interface != '{value}'"))
    assert compiled.keys == "(node = {f0:String}) AND NOT (interface = {f1:String})"
    assert compiled.parameters == {"f0": value, "f1": value}


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_sentence(text: str) -> None:
    message, parameters = "", set()
    try:
        compiled = compile_filter(parse(text))
        parameters = set(re.findall(r"\{(f\d+):", compiled.keys + compiled.measures)) ^ set(compiled.parameters)
    except QueryError as error:
        message = str(error)
    assert not message or re.match(r"filter, column \d+: ", message)
    assert not parameters


def values_of(kind: Kind, largest: int) -> st.SearchStrategy[str]:
    match kind:
        case Kind.NUMBER | Kind.PROTOCOL:
            return st.integers(0, largest).map(str)
        case Kind.ADDRESS:
            return st.ip_addresses().map(str)
        case Kind.DIRECTION:
            return st.sampled_from(["ingress", "egress"])
        case Kind.TEXT:
            return st.from_regex(r"[a-z0-9.@:-]{1,12}", fullmatch=True)


@given(st.data(), st.sampled_from(sorted(FIELDS)), st.integers(1, 4))
def test_each_field_takes_lists_of_its_values_whatever_the_spaces(data: st.DataObject, name: str, size: int) -> None:
    field = FIELDS[name]
    words = data.draw(st.lists(values_of(field.kind, field.largest), min_size=size, max_size=size))
    space = data.draw(st.sampled_from(["", " ", "  "]))
    (comparison,) = parse(f"{space}{name} in({space}{f'{space},{space}'.join(words)}{space}){space}").comparisons
    assert comparison.field is field
    assert len(comparison.values) == size
