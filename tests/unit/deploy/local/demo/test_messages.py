"""What the demo's hosts say is what others understand."""

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from deploy.local.demo import messages


@pytest.mark.parametrize(("address", "kind"), [("198.51.100.10", "A"), ("2001:db8:1::10", "AAAA")])
def test_a_question_and_its_answer_are_dns(address: str, kind: str) -> None:
    asked = messages.question(0xBEEF, "wiki.example", dns.rdatatype.from_text(kind))
    read = dns.message.from_wire(asked)
    assert (read.id, read.question[0].to_text()) == (0xBEEF, f"wiki.example. IN {kind}")
    assert messages.name_of(asked) == "wiki.example"
    said = messages.answer(asked, address)
    response = dns.message.from_wire(said)
    assert read.is_response(response)
    assert [one.to_text() for one in response.answer] == [f"wiki.example. 300 IN {kind} {address}"]
    assert messages.address_in(said) == address


def test_what_is_not_there_has_no_answer() -> None:
    asked = messages.question(1, "wpad.office.example", messages.A)
    assert dns.message.from_wire(messages.answer(asked, None)).rcode() == dns.rcode.NXDOMAIN
    assert messages.address_in(messages.answer(asked, None)) is None
    other_kind = dns.message.from_wire(messages.answer(asked, "2001:db8::1"))
    assert (other_kind.rcode(), other_kind.answer) == (dns.rcode.NOERROR, [])


def test_nonsense_is_no_question() -> None:
    for octets in (b"", bytes(12), messages.question(1, "a.example", 1)[:-3]):
        with pytest.raises(ValueError, match="cut off"):
            messages.name_of(octets)


def test_a_client_of_tls_says_whom_it_wants() -> None:
    said = messages.client_hello("vod.cinema.example")
    assert said[:2] == b"\x16\x03"
    assert b"vod.cinema.example" in said
