"""Flow filters: text to a tree, to SQL, and to a test of one flow."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.query.errors import FilterError
from console.query.filter_sql import compile_filter
from console.query.filters import Comparison, Every, Expression, Not, Some, of_node, parse
from console.query.match import matches
from console.query.values import Below, Pattern, Span
from console.query.vocabulary import FIELDS, Field
from schemas.fields import Kind

MAPPED = 0xFFFF << 32


def only(text: str) -> tuple[str, str, tuple[object, ...]]:
    comparison = parse(text).expression
    assert isinstance(comparison, Comparison)
    return comparison.field.name, comparison.operator, comparison.values


def shape(text: str) -> str:
    """The tree in a line."""

    def draw(expression: Expression | None) -> str:
        match expression:
            case Comparison(field=field):
                return field.name
            case Not(part=part):
                return f"!{draw(part)}"
            case Every(parts=parts):
                return f"({'&'.join(draw(part) for part in parts)})"
            case Some(parts=parts):
                return f"({'|'.join(draw(part) for part in parts)})"
        return ""

    return draw(parse(text).expression)


OF_A_NAME = (
    "expected an IP address or network, such as 10.0.0.1 or 2001:db8::/32; of a host name write its addresses, as"
    " getent ahosts has them, or domain for what clients asked for"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dst_port = 443", ("dst_port", "=", (443,))),
        ("dst_port==443", ("dst_port", "=", (443,))),
        ("dst_port = https", ("dst_port", "=", (443,))),
        ("PORT <> 22", ("port", "!=", (22,))),
        ("port in (ssh, 8000-8999)", ("port", "in", (22, Span(first=8000, last=8999)))),
        ("bytes >= 10k", ("bytes", ">=", (10_000,))),
        ("bytes<1Gi", ("bytes", "<", (2**30,))),
        ("bytes in 1k-2k", ("bytes", "in", (Span(first=1000, last=2000),))),
        ("protocol = TCP", ("protocol", "=", (6,))),
        ("protocol = icmp6", ("protocol", "=", (58,))),
        ("protocol = ipv6-icmp", ("protocol", "=", (58,))),
        ("protocol = 200", ("protocol", "=", (200,))),
        ("protocol in (tcp, udp,132)", ("protocol", "in", (6, 17, 132))),
        ("protocol in tcp", ("protocol", "in", (6,))),
        ("direction = Egress", ("direction", "=", ("egress",))),
        ("interface = eth0.100", ("interface", "=", ("eth0.100",))),
        ("node = 'it is \"x\"'", ("node", "=", ('it is "x"',))),
        ("node = in", ("node", "=", ("in",))),
        ("node ~ '^web[0-9]+$'", ("node", "~", (Pattern(text="^web[0-9]+$"),))),
        ("addr = 10.0.0.1", ("addr", "=", (Span(first=MAPPED + 0x0A000001, last=MAPPED + 0x0A000001),))),
        ("ip = 10.0.0.1", ("addr", "=", (Span(first=MAPPED + 0x0A000001, last=MAPPED + 0x0A000001),))),
        (
            "src_addr in 10.0.0.0/8",
            ("src_addr", "in", (Span(first=MAPPED + (10 << 24), last=MAPPED + (11 << 24) - 1),)),
        ),
        (
            "src_addr in 10.0.0.1-10.0.0.9",
            ("src_addr", "in", (Span(first=MAPPED + 0x0A000001, last=MAPPED + 0x0A000009),)),
        ),
        ("domain = WWW.Example.org.", ("domain", "=", ("www.example.org",))),
        ("domain = .example.org", ("domain", "=", (Below(domain="example.org"),))),
        ("domain in (a.example, .B.example)", ("domain", "in", ("a.example", Below(domain="b.example")))),
        ("domain = .", ("domain", "=", (".",))),
        ("domain != ''", ("domain", "!=", ("",))),
        ("domain = B\u00fccher.example", ("domain", "=", ("xn--bcher-kva.example",))),
        ("domain ~ ^www", ("domain", "~", (Pattern(text="(?i)^www"),))),
        ("domain_source = SNI", ("domain_source", "=", ("sni",))),
        ("domain_source = ''", ("domain_source", "=", ("",))),
        ("ja4 = t13d1516h2_8daaf6152771_e5627efa2ab1", ("ja4", "=", ("t13d1516h2_8daaf6152771_e5627efa2ab1",))),
        ("alpn in (h2, http/1.1)", ("alpn", "in", ("h2", "http/1.1"))),
        ("dst_addr = 2001:db8::/32", ("dst_addr", "=", (Span(first=0x20010DB8 << 96, last=(0x20010DB9 << 96) - 1),))),
    ],
)
def test_a_comparison_is_understood(text: str, expected: tuple[str, str, tuple[object, ...]]) -> None:
    assert only(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node=a and port=1 or packets=1", "((node&port)|packets)"),
        ("node=a and (port=1 or packets=1)", "(node&(port|packets))"),
        ("not node=a and port=1", "(!node&port)"),
        ("NOT (node=a OR port=1)", "!(node|port)"),
        ("not not node=a", "!!node"),
        ("((node=a))", "node"),
        ("port not in (1, 2)", "!port"),
        ("node !~ x", "!node"),
        ("(" * 3000 + "node=a" + ")" * 3000, "node"),
    ],
)
def test_and_binds_closer_than_or_and_not_closest(text: str, expected: str) -> None:
    assert shape(text) == expected


def test_no_filter_matches_everything() -> None:
    assert parse("  ").expression is None
    assert compile_filter(parse("")).keys == "1"
    assert of_node("").and_also(parse("")).expression is None
    assert of_node("a").and_also(parse("port = 1")).fields().keys() == {"node", "port"}


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("dst_prt = 443", 1, "did you mean dst_port?"),
        ("dst_prt =", 1, "did you mean dst_port?"),
        ("  foo = 1", 3, "expected a field: node"),
        ("dst_port ~ 443", 10, "use = != <"),
        ("dst_port", 9, "the filter ends: expected one of = != <"),
        ("dst_port =", 11, "the filter ends: expected a value"),
        ("dst_port = htps", 12, "did you mean https?"),
        ("dst_port = 65536", 12, "at most 65535"),
        ("dst_port = -1", 12, "at least 0"),
        ("packets in -9-5", 12, "at least 0"),
        ("icmp_type = -2", 13, "at least -1"),
        ("icmp_type = 256", 13, "at most 255"),
        ("dst_port = 1-5", 12, "written with 'in'"),
        ("dst_port in 5-1", 13, "the smaller one"),
        ("dst_port = 443 dst_port = 80", 16, "expected 'and', 'or' or the end"),
        ("dst_port = 443 andnode = x", 16, "expected 'and', 'or' or the end"),
        ("dst_port = 443 and", 19, "the filter ends: expected a field"),
        ("(dst_port = 443", 16, "the filter ends: expected 'and', 'or' or ')'"),
        ("dst_port = 443)", 15, "expected 'and', 'or' or the end"),
        ("dst_port not 443", 14, "expected 'in' after 'not'"),
        ("addr = 10.0.0.300", 8, "an IP address"),
        ("addr < 10.0.0.3", 6, "has no order"),
        ("addr in 10.0.0.9-10.0.0.1", 9, "the smaller one"),
        ("protocol = tpc", 12, "did you mean tcp?"),
        ("protocol = 256", 12, "at most 255"),
        ("direction = in", 13, "ingress"),
        ("protocol in (tcp", 17, "expected ',' or ')'"),
        ("protocol in ()", 14, "expected a value"),
        ("node = 'open", 8, "not understood"),
        ("node ~ '('", 8, "is not a regular expression"),
        ("node ~ '(?=x)'", 8, "is not a regular expression"),
        ("node = '\ud800'", 8, "is not text"),
        ("domain ~ '('", 10, "is not a regular expression"),
        ("domain < a.example", 8, "has no order"),
        ("domain = \u00fc..example", 10, "is not a domain"),
        ("domain_source = dnss", 17, 'expected "", sni, http, quic or dns; did you mean dns?'),
        (
            "domain_source != Reverse",
            18,
            "names of reverse DNS are shown, not stored; filter by the address, with addr",
        ),
        ("host = www.example.org", 1, "expected a field; addr is an address, domain a name that clients asked for"),
        ("addr in (10.0.0.1, www.example.org)", 20, OF_A_NAME),
        ("src_addr = nas", 12, OF_A_NAME),
        ("addr = 10.0.0.300", 8, "expected an IP address or network, such as 10.0.0.1 or 2001:db8::/32"),
        ("bytes > -1", 9, "bytes is at least 0"),
        ("bytes > ²", 9, "expected a number"),
        ("not " * 100 + "node=x", 1, "nested more than"),
        ("node = " + "x" * 9000, 1, "8000 are the most"),
    ],
)
def test_an_error_names_the_column_and_what_would_be_right(text: str, column: int, hint: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"filter, column {column}: ")
    assert hint in str(caught.value)
    assert caught.value.column == column


def test_the_caret_stands_below_the_column_of_a_long_filter_too() -> None:
    for before in (0, 10, 300):
        text = "port = 1 and " * before + "dst_prt = 1"
        with pytest.raises(FilterError) as caught:
            parse(text)
        line, mark = caught.value.caret.splitlines()
        assert line[mark.index("^") :].startswith("dst_prt")


def test_either_side_is_either_column_and_its_negation_is_neither() -> None:
    assert compile_filter(parse("port = 53")).keys == "(src_port = {f0:UInt16} OR dst_port = {f0:UInt16})"
    assert compile_filter(parse("port != 53")).keys == "NOT (src_port = {f0:UInt16} OR dst_port = {f0:UInt16})"


def test_measures_are_tested_after_the_sum() -> None:
    compiled = compile_filter(parse("bytes > 1M and protocol = udp and packets_rev = 0"))
    assert compiled.keys == "(protocol = {f0:UInt8})"
    assert compiled.measures == "(bytes > {f1:UInt64}) AND (packets_rev = {f2:UInt64})"
    assert compiled.parameters == {"f0": 17, "f1": 1_000_000, "f2": 0}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("node = a or bytes > 1", "1"),
        ("node = a and (port = 1 or bytes > 1)", "(node = {f0:String})"),
        ("not (node = a or bytes > 1)", "(NOT (node = {f0:String}))"),
        ("not (node = a and bytes > 1)", "1"),
        ("(node = a and bytes > 1) or (node = b and bytes < 1)", "((node = {f0:String}) OR (node = {f1:String}))"),
    ],
)
def test_what_a_mixed_condition_asks_of_the_keys_is_asked_before_the_sum(text: str, keys: str) -> None:
    compiled = compile_filter(parse(text))
    assert re.sub(r"\(\((node = \{f\d:String\})\)\)", r"(\1)", compiled.keys) == keys
    assert "bytes" in compiled.measures
    assert "bytes" not in compiled.keys


def test_a_domain_and_those_below_it_end_at_a_label() -> None:
    compiled = compile_filter(parse("domain in (.Example.org, a.example)"))
    below = "(domain = {f0:String} OR endsWith(domain, {f1:String}))"
    assert compiled.measures == f"({below} OR domain = {{f2:LowCardinality(String)}})"
    assert compiled.parameters == {"f0": "example.org", "f1": ".example.org", "f2": "a.example"}


def test_a_network_is_a_range_of_addresses() -> None:
    compiled = compile_filter(parse("src_addr in 10.1.0.0/16"))
    assert compiled.keys == "(src_addr BETWEEN {f0:IPv6} AND {f1:IPv6})"
    assert {name: ipaddress.IPv6Address(str(value)) for name, value in compiled.parameters.items()} == {
        "f0": ipaddress.IPv6Address("::ffff:10.1.0.0"),
        "f1": ipaddress.IPv6Address("::ffff:10.1.255.255"),
    }


@given(st.text(alphabet=st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=40))
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
    except FilterError as error:
        message = str(error)
    assert not message or re.match(r"filter, column \d+: ", message)
    assert not parameters


def values_of(field: Field) -> st.SearchStrategy[str]:
    match field.kind:
        case Kind.NUMBER | Kind.PORT | Kind.PROTOCOL:
            return st.integers(field.smallest, field.largest).map(str)
        case Kind.ADDRESS:
            return st.ip_addresses().map(str)
        case Kind.CHOICE:
            return st.sampled_from([choice or '""' for choice in field.choices])
    return st.from_regex(r"[a-z0-9.@:-]{1,12}", fullmatch=True)


@given(st.data(), st.sampled_from(sorted(FIELDS)), st.integers(1, 4))
def test_each_field_takes_lists_of_its_values_whatever_the_spaces(data: st.DataObject, name: str, size: int) -> None:
    field = FIELDS[name]
    words = data.draw(st.lists(values_of(field), min_size=size, max_size=size))
    space = data.draw(st.sampled_from(["", " ", "  "]))
    comparison = parse(f"{space}{name} in({space}{f'{space},{space}'.join(words)}{space}){space}").expression
    assert isinstance(comparison, Comparison)
    assert comparison.field is field
    assert len(comparison.values) == size


FLOW = {
    "node": "web1",
    "interface": "eth0",
    "direction": "ingress",
    "protocol": 6,
    "src_addr": "10.0.0.1",
    "dst_addr": "2001:db8::1",
    "src_port": 40_000,
    "dst_port": 443,
    "vlan_id": 0,
    "icmp_type": 0,
    "icmp_code": 0,
    "tunnel_type": "none",
    "tunnel_id": 0,
    "outer_src_addr": "",
    "outer_dst_addr": "",
    "packets": 10,
    "bytes": 1000,
    "packets_rev": 0,
    "bytes_rev": 0,
    "domain": "www.example.org",
    "domain_source": "sni",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("node = web1", True),
        ("node != web1", False),
        ("node ~ 'b1$'", True),
        ("node !~ w", False),
        ("addr in 10.0.0.0/8", True),
        ("addr != 10.0.0.1", False),
        ("dst_addr in 2001:db8::/32", True),
        ("src_addr in ::/0", True),
        ("dst_addr in 0.0.0.0/0", False),
        ("port = https and protocol = tcp", True),
        ("port < 443", False),
        ("port > 443", True),
        ("bytes in 1k-2k or node = x", True),
        ("direction in egress", False),
        ("not (port = 443 or port = 80)", False),
        ("tunnel_type = none and tunnel_id = 0", True),
        ("outer_addr in 10.0.0.0/8", False),
        ("outer_src_addr = ::", True),
        ("tunnel_type in (vxlan, gtpu)", False),
        ("domain = www.EXAMPLE.org", True),
        ("domain = example.org", False),
        ("domain = .example.org", True),
        ("domain in (.org, a.example)", True),
        ("domain = .www.example.org", True),
        ("domain = .ample.org", False),
        ("domain != .example.org", False),
        ("domain ~ 'W{3}\\.'", True),
        ("domain !~ ORG$", False),
        ("domain_source in (sni, quic)", True),
        ("domain_source = ''", False),
    ],
)
def test_a_flow_is_tested_without_sql(text: str, expected: bool) -> None:
    assert matches(parse(text), FLOW) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tunnel_type = vxlan", True),
        ("tunnel_type = VXLAN and tunnel_id in 40-50", True),
        ("tunnel_type = none", False),
        ("outer_addr = 172.16.0.2", True),
        ("outer_src_addr = 172.16.0.2", False),
        ("outer_dst_addr != 172.16.0.9", True),
    ],
)
def test_a_tunnel_is_tested_without_sql(text: str, expected: bool) -> None:
    tunnel = {"tunnel_type": "vxlan", "tunnel_id": 42, "outer_src_addr": "172.16.0.1", "outer_dst_addr": "172.16.0.2"}
    assert matches(parse(text), FLOW | tunnel) is expected
