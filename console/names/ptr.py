"""A PTR question and what answers it (RFC 1035, 2317). Pure.

Whoever answers may be anybody: what is no answer to the question is passed over, and what is one is held to the form
of a host name. dnspython reads the messages.
"""

import re
import secrets
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename

MOST_OCTETS = 1_232
"""Of an answer: what is asked for by EDNS. A PTR answer that does not fit is none that we want."""
LEAST_SECONDS, MOST_SECONDS = 60.0, 86_400.0
"""A name is known for its TTL within these."""
MOST_ABSENT_SECONDS = 3_600.0
FAILED_SECONDS = 60.0
"""An address whose question failed is asked for again after so long."""
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a question."""

    name: str  # lower case, without the last dot; empty: none
    seconds: float  # for which it holds
    failed: bool = False  # nobody answered, or the server could not


FAILED = Answer(name="", seconds=FAILED_SECONDS, failed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question on its way."""

    message: dns.message.Message
    octets: bytes


def question(address: str) -> Question:
    """What an address is called, with an unguessable number. Raises ValueError for what is no address."""
    try:
        name = dns.reversename.from_address(address)
    except dns.exception.SyntaxError as error:
        raise ValueError(f"{address!r} is no address") from error
    message = dns.message.make_query(
        name, dns.rdatatype.PTR, id=secrets.randbits(16), use_edns=0, payload=MOST_OCTETS, want_dnssec=False
    )
    return Question(message=message, octets=message.to_wire())


def read(octets: bytes, asked: Question) -> Answer | None:
    """The answer in a datagram; None: it is no answer to this question."""
    if len(octets) > MOST_OCTETS:
        return None
    try:
        found = dns.message.from_wire(octets, ignore_trailing=True)
        if not asked.message.is_response(found):
            return None
        return _answer(found)
    except Exception:  # noqa: BLE001  anybody wrote the octets
        return None


def _answer(found: dns.message.Message) -> Answer:
    code = found.rcode()
    if found.flags & dns.flags.TC or code not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return FAILED
    assert isinstance(found, dns.message.QueryMessage)
    chain = found.resolve_chaining()  # through the CNAMEs of RFC 2317
    if chain.answer is None:
        return _absent(chain.minimum_ttl)  # as RFC 2308 has it
    names = sorted(each.target.to_text(omit_final_dot=True).lower() for each in chain.answer)
    # of several the first by the alphabet, so that it is the same one each time
    for name in names:
        if len(name) <= 253 and _HOST.fullmatch(name):
            return Answer(name=name, seconds=min(max(chain.minimum_ttl, LEAST_SECONDS), MOST_SECONDS))
    return _absent(LEAST_SECONDS)


def _absent(seconds: float) -> Answer:
    return Answer(name="", seconds=min(max(seconds, LEAST_SECONDS), MOST_ABSENT_SECONDS))
