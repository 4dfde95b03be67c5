"""What leaves a node: nothing of a name that is hashed or dropped."""

import hmac

import dns.message
import dns.rrset
import numpy as np
import pytest

from producer.names.columns import NONE, Names
from producer.names.copies import TLS
from producer.names.join import DomainTable
from producer.names.reader import NameReader
from producer.names.redact import Redaction
from tests.unit.producer.names.copying import Sent, address, named, read, tls
from tests.unit.producer.names.making import client_hello, records

KEY = b"a key of the installation"


def some_names() -> Names:
    query = dns.message.make_query("secret.example", "A")
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text("secret.example.", 60, "IN", "CNAME", "edge.secret.example."))
    answer.answer.append(dns.rrset.from_text("edge.secret.example.", 60, "IN", "A", "203.0.113.80"))
    asked = Sent(octets=query.to_wire(), src="2001:db8:1:2:3::4", dst="2001:db8::53")
    return read(
        NameReader(), asked, asked.back(answer.to_wire()), tls(records(client_hello(b"secret.example")), kind=TLS)
    )


def everything(names: Names) -> str:
    return repr([part if isinstance(part, list) else part.tolist() for part in names])


def test_none_changes_nothing() -> None:
    names = some_names()
    assert Redaction().names(names) is names
    assert "secret" in everything(names)


def test_hash_leaves_equal_names_equal_and_none_readable() -> None:
    found = Redaction(mode="hash", key=KEY).names(some_names())
    assert "secret" not in everything(found)
    assert named(found) == [hmac.digest(KEY, b"secret.example", "sha256").hex()[:32]] * 2
    assert [len(answer) for answer in found.answer_sets[0]] == [32, 12]
    other = Redaction(mode="hash", key=b"another").names(some_names())
    assert named(other) != named(found)


def test_drop_leaves_the_rest() -> None:
    names = some_names()
    found = Redaction(mode="drop").names(names)
    assert "secret" not in everything(found)
    assert (found.rows["name"].tolist(), found.rows["answers"].tolist()) == ([NONE, NONE], [NONE, NONE])
    assert found.rows["latency_us"].tolist() == names.rows["latency_us"].tolist()
    assert found.ja4s == names.ja4s
    assert named(names) == ["secret.example"] * 2  # ours is as it was


@pytest.mark.parametrize("mode", ["none", "hash", "drop"])
def test_addresses_beside_names_are_cut_to_prefixes(mode: str) -> None:
    found = Redaction(mode=mode, key=KEY, prefix4=24, prefix6=48).names(some_names())
    ends = {bytes(row[end]) for row in found.rows for end in ("client", "server")}
    assert ends == {address(text) for text in ("2001:db8:1::", "2001:db8::", "192.0.2.0", "198.51.100.0")}
    assert len(found.address) == 0
    assert "203.0.113.80" not in everything(found)
    assert mode == "drop" or found.answer_sets[0][1] == "203.0.113.0"


def test_a_prefix_of_nothing_leaves_only_which_kind_of_address_it_is() -> None:
    found = Redaction(prefix4=0, prefix6=0).names(some_names())
    assert {bytes(client) for client in found.rows["client"]} == {address("::"), address("0.0.0.0")}


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_flows_too(mode: str) -> None:
    table = DomainTable()
    table.learn(some_names())
    time = np.array([2 * 10**9], np.int64)
    found = table.of_flows(
        src=np.frombuffer(address("192.0.2.1"), np.uint8).reshape(1, 16),
        dst=np.frombuffer(address("198.51.100.53"), np.uint8).reshape(1, 16),
        src_port=np.array([50_000], np.uint16),
        dst_port=np.array([443], np.uint16),
        protocol=np.array([6], np.uint8),
        first_ns=time,
        last_ns=time,
    )
    assert found.domains == ["secret.example"]
    redacted = Redaction(mode=mode, key=KEY).flows(found)
    assert "secret" not in repr(redacted)
    assert redacted.ja4s == found.ja4s
    assert redacted.flow_domain.tolist() == ([0] if mode == "hash" else [NONE])
    assert redacted.flow_domain_source.tolist() == ([1] if mode == "hash" else [0])


def test_names_that_look_like_numbers_are_names() -> None:
    redaction = Redaction(mode="hash", key=KEY)
    names = some_names()._replace(answer_sets=[("1234", ".", "192.0.2.300", "::1")])
    assert [len(answer) for answer in redaction.names(names).answer_sets[0]] == [32, 32, 32, 3]


def test_a_hash_without_a_key_is_none() -> None:
    with pytest.raises(ValueError, match="no redaction"):
        Redaction(mode="hash")
    with pytest.raises(ValueError, match="no redaction"):
        Redaction(mode="hide")
