import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.names import ptr
from tests.unit.console.names.servers import ptr as answer

ASKED = ptr.question("192.0.2.7")
QUESTION = dns.message.from_wire(ASKED.octets)


def test_an_address_is_asked_for_by_its_reverse_name() -> None:
    assert QUESTION.question[0].to_text() == "7.2.0.192.in-addr.arpa. IN PTR"
    six = dns.message.from_wire(ptr.question("2001:db8::1").octets)
    assert six.question[0].name.to_text().endswith(".8.b.d.0.1.0.0.2.ip6.arpa.")
    with pytest.raises(ValueError, match="no address"):
        ptr.question("gateway")


def test_a_name_is_known_for_its_ttl_within_bounds() -> None:
    for ttl, seconds in ((300, 300), (0, ptr.LEAST_SECONDS), (2**31 - 1, ptr.MOST_SECONDS)):
        found = ptr.read(answer(QUESTION, "WWW.Example.ORG.", ttl=ttl).to_wire(), ASKED)
        assert found == ptr.Answer(name="www.example.org", seconds=seconds)


def test_that_there_is_none_is_known_for_as_long_as_its_zone_says() -> None:
    response = answer(QUESTION)
    soa = "ns.example. admin.example. 1 2 3 4 900"
    response.authority.append(dns.rrset.from_text("2.0.192.in-addr.arpa.", 1_000, "IN", "SOA", soa))
    assert ptr.read(response.to_wire(), ASKED) == ptr.Answer(name="", seconds=900)
    without = ptr.read(answer(QUESTION).to_wire(), ASKED)
    assert without is not None
    assert ptr.LEAST_SECONDS <= without.seconds <= ptr.MOST_ABSENT_SECONDS


def test_the_chain_of_a_delegated_network_is_followed() -> None:
    response = dns.message.make_response(QUESTION)
    delegated = "7.0-63.2.0.192.in-addr.arpa."
    response.answer += [
        dns.rrset.from_text(QUESTION.question[0].name, 60, "IN", "CNAME", delegated),
        dns.rrset.from_text(delegated, 600, "IN", "PTR", "host.example."),
    ]
    assert ptr.read(response.to_wire(), ASKED) == ptr.Answer(name="host.example", seconds=60)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR])
def test_a_server_that_cannot_answer_has_failed(code: dns.rcode.Rcode) -> None:
    response = dns.message.make_response(QUESTION)
    response.set_rcode(code)
    assert ptr.read(response.to_wire(), ASKED) is ptr.FAILED


def test_what_does_not_fit_is_not_fetched() -> None:
    response = answer(QUESTION, "host.example.")
    response.flags |= dns.flags.TC
    assert ptr.read(response.to_wire(), ASKED) is ptr.FAILED
    many = answer(QUESTION, *(f"{number}.example." for number in range(99, 199)))
    assert ptr.read(many.to_wire(max_size=65_535), ASKED) is None


def test_a_name_that_no_host_has_is_none() -> None:
    for name in (r"\027[2Jhost.example.", r"a\032b.example.", r"\195\164.example.", "<script>.example.", "-a.example."):
        found = ptr.read(answer(QUESTION, name).to_wire(), ASKED)
        assert found is not None
        assert (found.name, found.failed) == ("", False)
    both = ptr.read(answer(QUESTION, r"\000.example.", "b.example.", "a.example.").to_wire(), ASKED)
    assert both is not None
    assert both.name == "a.example"


def test_another_question_number_or_name_is_no_answer() -> None:
    other = dns.message.from_wire(ptr.question("192.0.2.8").octets)
    other.id = QUESTION.id
    assert ptr.read(answer(other, "liar.example.").to_wire(), ASKED) is None
    wrong = answer(QUESTION, "liar.example.")
    wrong.id ^= 1
    assert ptr.read(wrong.to_wire(), ASKED) is None
    assert ptr.read(ASKED.octets, ASKED) is None  # an echo is no response


RIGHT = answer(QUESTION, "host.example.").to_wire()


@given(st.lists(st.tuples(st.integers(0, len(RIGHT) - 1), st.integers(0, 255)), max_size=8), st.binary(max_size=64))
def test_no_octets_make_it_fail(changes: list[tuple[int, int]], behind: bytes) -> None:
    octets = bytearray(RIGHT)
    for place, value in changes:
        octets[place] = value
    for text in (bytes(octets) + behind, bytes(octets[: len(behind)]), behind):
        found = ptr.read(text, ASKED)
        assert found is None or len(found.name) <= 253
