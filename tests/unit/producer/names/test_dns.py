"""dns.c against dnspython, and against what nobody should send."""

import socket
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.names.parsers.dns import BROKEN, DATAGRAM, MULTICAST, READ, SHORT, STREAM, DnsParser, DnsRows

PARSER = DnsParser()
labels = st.binary(min_size=1, max_size=63)
plain_labels = st.text("abcXYZ019-_", min_size=1, max_size=20).map(str.encode)
names = (
    st.lists(st.one_of(plain_labels, labels), max_size=8)
    .map(tuple)
    .filter(lambda found: sum(map(len, found)) + len(found) < 254)
)
texts_of = {ord("."): "\\.", ord("\\"): "\\\\"}


def parse(*octets: bytes, framing: int = DATAGRAM, cut: bool = False) -> DnsRows:
    lengths = np.array([len(copy) for copy in octets], np.uint16)
    offsets = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
    return PARSER.read(
        memoryview(b"".join(octets)),
        offsets,
        lengths,
        np.full(len(octets), framing, np.uint8),
        np.full(len(octets), cut, np.uint8),
    )


def text(name: Sequence[bytes]) -> str:
    """As RFC 1035 shows a name, by Python."""
    return (
        ".".join(
            "".join(
                texts_of.get(octet, chr(octet).lower() if 0x20 < octet < 0x7F else f"\\{octet:03}") for octet in label
            )
            for label in name
        )
        or "."
    )


def name(labels: Sequence[bytes]) -> dns.name.Name:
    return dns.name.Name([*labels, b""])


def wire(labels: Sequence[bytes]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


@given(
    asked=names, kind=st.sampled_from(["A", "AAAA", "HTTPS", "PTR", "TXT", "TYPE65280"]), number=st.integers(0, 65_535)
)
def test_a_query_is_read_as_dnspython_wrote_it(asked: tuple[bytes, ...], kind: str, number: int) -> None:
    message = dns.message.make_query(name(asked), kind, use_edns=True, id=number)
    found = parse(message.to_wire())
    assert [found.names[place] for place in found.rows["name"]] == [text(asked)]
    row = found.rows[0]
    assert (row["type"], row["id"], row["is_response"], row["outcome"]) == (
        dns.rdatatype.from_text(kind),
        number,
        0,
        READ,
    )
    assert (row["answers"], row["addresses"], row["ttl"]) == (-1, 0, 0)


@given(
    asked=names,
    chain=st.lists(names, max_size=4),
    addresses=st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=20),
    rcode=st.integers(0, 10),
    ttls=st.lists(st.integers(0, 2**31 - 1), min_size=24, max_size=24),
)
def test_an_answer_is_read_as_dnspython_wrote_it(
    asked: tuple[bytes, ...], chain: list[tuple[bytes, ...]], addresses: list[object], rcode: int, ttls: list[int]
) -> None:
    message = dns.message.make_response(dns.message.make_query(name(asked), "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    owner, said, lowest = name(asked), [], []
    for target, ttl in zip(chain, ttls, strict=False):
        message.answer.append(
            dns.rrset.from_rdata(owner, ttl, dns.rdata.from_wire("IN", "CNAME", wire(target), 0, len(wire(target))))
        )
        owner = name(target)
        said.append(text(target))
    for address, ttl in zip(addresses, ttls[4:], strict=False):
        packed = address.packed  # type: ignore[attr-defined]
        kind = "A" if len(packed) == 4 else "AAAA"
        message.answer.append(dns.rrset.from_rdata(owner, ttl, dns.rdata.from_wire("IN", kind, packed, 0, len(packed))))
        said.append(in_words(packed))
        lowest.append(ttl)
    found = parse(message.to_wire())
    row = found.rows[0]
    assert found.names[row["name"]] == text(asked)
    assert (row["rcode"], row["is_response"], row["outcome"]) == (rcode, 1, READ)
    assert (found.answers[row["answers"]] if row["answers"] >= 0 else ()) == tuple(said)
    assert row["ttl"] == min(lowest or ttls[: len(chain)] or [0])
    assert [bytes(address) for address in found.addresses] == [mapped(address.packed) for address in addresses]  # type: ignore[attr-defined]


def mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def in_words(packed: bytes) -> str:
    """As glibc shows addresses, but for the long deprecated ::a.b.c.d."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed[:12] == bytes(12) and packed[12:14] != b"\0\0":
        return f"::{int.from_bytes(packed[12:14], 'big'):x}:{int.from_bytes(packed[14:], 'big'):x}"
    return socket.inet_ntop(socket.AF_INET6, packed)


@given(st.data())
def test_what_is_cut_says_so_and_keeps_its_name(data: st.DataObject) -> None:
    asked = data.draw(names)
    message = dns.message.make_response(dns.message.make_query(name(asked), "A"))
    message.answer.append(dns.rrset.from_text(name(asked), 60, "IN", "A", "192.0.2.1"))
    octets = message.to_wire()
    end = data.draw(st.integers(0, len(octets) - 1))
    found, whole = parse(octets[:end], cut=True), parse(octets[:end])
    question_end = 12 + len(wire(asked)) + 4
    assert found.outcomes.tolist() == [SHORT]
    assert whole.outcomes.tolist() == [BROKEN]
    assert found.names == ([text(asked)] if end >= question_end else [])


def test_a_service_binding_gives_its_target_hints_and_ech() -> None:
    message = dns.message.make_response(dns.message.make_query("example.org", "HTTPS"))
    message.answer.append(
        dns.rrset.from_text(
            "example.org.",
            300,
            "IN",
            "HTTPS",
            '1 svc.example.net. alpn="h2,h3" ipv4hint="192.0.2.7" ech="AAX+DQABpQ==" ipv6hint="2001:db8::7"',
        )
    )
    octets = message.to_wire()
    found = parse(octets)
    assert found.answers == [("svc.example.net", "192.0.2.7", "2001:db8::7")]
    row = found.rows[0]
    assert row["addresses"] == 2
    assert octets[row["ech"] : row["ech"] + row["ech_bytes"]] == bytes.fromhex("0005fe0d0001a5")


@pytest.mark.parametrize(
    ("kind", "before"), [("NS", ""), ("PTR", ""), ("CNAME", ""), ("MX", "10 "), ("SRV", "0 5 5060 ")]
)
def test_names_that_answers_point_at_are_read(kind: str, before: str) -> None:
    message = dns.message.make_response(dns.message.make_query("example.org", kind))
    message.answer.append(dns.rrset.from_text("example.org.", 5, "IN", kind, f"{before}host.example.net."))
    found = parse(message.to_wire())
    assert found.answers == [("host.example.net",)]
    assert found.rows["ttl"].tolist() == [5]


def test_an_answer_without_a_question_is_called_by_the_owner_of_its_address() -> None:
    message = dns.message.Message(id=0)
    message.flags |= dns.flags.QR
    message.answer.append(dns.rrset.from_text("_ipp._tcp.local.", 10, "IN", "PTR", "printer._ipp._tcp.local."))
    message.additional.append(dns.rrset.from_text("printer.local.", 120, "IN", "A", "192.0.2.9"))
    found = parse(message.to_wire(), framing=MULTICAST)
    assert [found.names[place] for place in found.rows["name"]] == ["printer.local"]
    assert found.answers == [("printer._ipp._tcp.local", "192.0.2.9")]
    plain = parse(message.to_wire())
    assert [plain.names[place] for place in plain.rows["name"]] == ["_ipp._tcp.local"]
    assert len(plain.addresses) == 0


def test_each_question_is_a_row() -> None:
    message = dns.message.make_query("a.local", "PTR")
    message.question += dns.message.make_query("b.local", "SRV").question
    found = parse(message.to_wire(), framing=MULTICAST)
    assert [(found.names[row["name"]], row["type"]) for row in found.rows] == [("a.local", 12), ("b.local", 33)]


def test_messages_of_a_segment_stand_behind_their_lengths() -> None:
    wires = [dns.message.make_query(f"host{number}.example.org", "A").to_wire() for number in range(3)]
    stream = b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires)
    found = parse(stream, framing=STREAM)
    assert [found.names[place] for place in found.rows["name"]] == [f"host{number}.example.org" for number in range(3)]
    assert found.rows["copy"].tolist() == [0, 0, 0]
    assert parse(stream[:-30], framing=STREAM).rows["outcome"].tolist() == [READ, READ]


def test_more_copies_than_the_places_hold_are_all_read() -> None:
    answers = []
    for number in range(9_000):
        message = dns.message.make_response(dns.message.make_query(f"h{number}.example.org", "A", id=number % 65_536))
        message.answer.append(
            dns.rrset.from_text(f"h{number}.example.org.", 60, "IN", "A", f"10.0.{number >> 8}.{number & 255}")
        )
        answers.append(message.to_wire())
    found = parse(*answers)
    assert found.rows["copy"].tolist() == list(range(9_000))
    assert [found.names[place] for place in found.rows["name"]] == [f"h{number}.example.org" for number in range(9_000)]
    last = found.rows[8_999]
    assert found.answers[last["answers"]] == ("10.0.35.39",)
    assert bytes(found.addresses[last["address"]][12:]) == bytes((10, 0, 35, 39))


def test_a_copy_behind_the_batch_is_refused() -> None:
    one = np.array([10], np.uint16)
    with pytest.raises(ValueError, match="behind"):
        PARSER.read(memoryview(bytes(9)), np.zeros(1, np.int64), one, np.zeros(1, np.uint8), np.zeros(1, np.uint8))


# --- what public bug reports are about


def header(questions: int = 1, answers: int = 0, flags: int = 0, others: int = 0) -> bytes:
    return b"\x12\x34" + b"".join(number.to_bytes(2, "big") for number in (flags, questions, answers, others, others))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(header() + b"\xc0\x0c\0\1\0\1", id="a pointer to itself"),
        pytest.param(header() + b"\xc0\x0e\xc0\x0c\0\1\0\1", id="two pointers in a circle"),
        pytest.param(header() + b"\1a\xc0\x0c\0\1\0\1", id="a pointer back to the name that it is in"),
        pytest.param(header() + b"\xc0\x12\0\1\0\1\1a\0", id="a pointer ahead"),
        pytest.param(header() + b"\xc0\x02\0\1\0\1", id="a pointer into the header"),
        pytest.param(header() + b"\x40a\0\0\1\0\1", id="a label of a kind that never was"),
        pytest.param(header() + b"\x80a\0\0\1\0\1", id="another one"),
        pytest.param(header() + b"\x3f" * 400, id="a name of more than 255 octets"),
        pytest.param(header(questions=65_535) + b"\0\0\1\0\1", id="65,535 questions"),
        pytest.param(header(questions=0) + b"\0\0\1\0\1", id="a query without a question"),
        pytest.param(header(flags=0x7800) + b"\0\0\1\0\1", id="an operation that never was"),
        pytest.param(b"\0" * 3, id="three octets"),
        pytest.param(b"", id="none"),
    ],
)
def test_what_cannot_be_a_message_is_no_row(octets: bytes) -> None:
    found = parse(octets)
    assert len(found.rows) == 0
    assert found.outcomes.tolist() == [BROKEN]


def test_a_long_chain_of_pointers_ends() -> None:
    chain = b"\0" + b"".join((0xC000 | 12 + max(0, 2 * place - 1)).to_bytes(2, "big") for place in range(200))
    question = header() + chain + (0xC000 | 12 + len(chain) - 2).to_bytes(2, "big") + b"\0\1\0\1"
    answer = b"\0\1\0\1" + question
    assert parse(answer).outcomes.tolist() == [BROKEN]
    first = header(questions=2) + b"\1a\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1"
    assert parse(first).names == ["a"]


def test_sixteen_jumps_are_followed_and_seventeen_are_not() -> None:
    for jumps, outcome in ((16, READ), (17, BROKEN)):
        octets = header(questions=jumps + 1) + b"\1a\0\0\1\0\1"
        target = 12
        for _ in range(jumps):
            at = len(octets)
            octets += b"\1b" + (0xC000 | target).to_bytes(2, "big") + b"\0\1\0\1"
            target = at
        assert parse(octets).outcomes.tolist() == [outcome], jumps


def test_a_name_of_253_characters_is_read_and_one_of_255_octets_more_is_not() -> None:
    longest = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3d" + b"d" * 61 + b"\0"
    found = parse(header() + longest + b"\0\1\0\1")
    assert len(found.names[0]) == 253
    assert parse(header() + b"\1x" + longest + b"\0\1\0\1").outcomes.tolist() == [BROKEN]


def test_a_longest_name_of_octets_that_cannot_be_shown_fits() -> None:
    longest = b"\x3f" + b"\xff" * 63 + b"\x3f" + b"\0" * 63 + b"\x3f" + b"\n" * 63 + b"\x3d" + b"." * 61 + b"\0"
    found = parse(header(questions=64) + longest + b"\0\1\0\1" + b"\xc0\x0c\0\1\0\1" * 63)
    assert found.names == [".".join(("\\255" * 63, "\\000" * 63, "\\010" * 63, "\\." * 61))]
    assert len(found.rows) == 64


def test_pointers_in_64_kilooctets_of_names_add_up_to_no_more_than_a_message_may() -> None:
    label = b"\x3f" + b"\xfe" * 63
    octets = header(answers=65_535, flags=0x8000) + label * 3 + b"\0\0\1\0\1"
    octets += b"\xc0\x0c\0\x05\0\1\0\0\0\1\0\2\xc0\x0c" * 4_000
    found = parse(octets)
    assert len(found.answers[0]) == 64
    assert len(found.rows) == 1


def test_an_answer_that_says_more_than_it_has_keeps_its_name_and_is_called_malformed() -> None:
    found = parse(header(answers=65_535, flags=0x8000) + b"\1a\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4")
    assert (found.names, found.rows["outcome"].tolist()) == (["a"], [BROKEN])
    assert found.answers == [("1.2.3.4",)]
    found = parse(header(answers=1, flags=0x8000) + b"\1a\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\1\xff\xff\1\2\3\4")
    assert found.rows["outcome"].tolist() == [BROKEN]


def test_addresses_of_another_size_are_none() -> None:
    found = parse(
        header(answers=2, flags=0x8000)
        + b"\1a\0\0\1\0\1"
        + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\3\1\2\3"
        + b"\xc0\x0c\0\x1c\0\1\0\0\0\1\0\4\1\2\3\4"
    )
    assert (found.outcomes.tolist(), found.rows["addresses"].tolist(), found.answers) == ([READ], [0], [])


def test_a_ttl_with_its_top_bit_set_is_none() -> None:
    found = parse(header(answers=1, flags=0x8000) + b"\1a\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\xff\xff\xff\xff\0\4\1\2\3\4")
    assert found.rows["ttl"].tolist() == [0]


def test_a_service_binding_whose_lengths_lie_gives_what_is_before_them() -> None:
    lies = b"\0\1" + b"\0" + b"\0\4\xff\xf0\1\2\3\4"
    found = parse(
        header(answers=1, flags=0x8000)
        + b"\1a\0\0\x41\0\1"
        + b"\xc0\x0c\0\x41\0\1\0\0\0\1"
        + len(lies).to_bytes(2, "big")
        + lies
    )
    assert (found.outcomes.tolist(), found.answers, len(found.addresses)) == ([READ], [(".",)], 0)
    hints = b"\0\1" + b"\0" + b"\0\4\0\x50" + bytes(range(80))
    found = parse(
        header(answers=1, flags=0x8000)
        + b"\1a\0\0\x41\0\1"
        + b"\xc0\x0c\0\x41\0\1\0\0\0\1"
        + len(hints).to_bytes(2, "big")
        + hints
    )
    assert len(found.addresses) == 8


def test_lengths_in_a_stream_may_be_nothing_or_all() -> None:
    assert parse(bytes(2048), framing=STREAM).outcomes.tolist() == [BROKEN]
    assert parse(b"\xff\xff" + header(), framing=STREAM).outcomes.tolist() == [SHORT]
    assert parse(b"\0", framing=STREAM).outcomes.tolist() == [SHORT]
