"""Which name a flow gets: that of its own hello, else that of the answer its client got for its address."""

from collections.abc import Sequence
from dataclasses import dataclass

import dns.message
import dns.rrset
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.names.copies import HTTP, QUIC, TCP, TLS
from producer.names.join import DomainTable, FlowNames
from producer.names.reader import NameReader
from schemas.fields import DOMAIN_SOURCES
from tests.unit.producer.names.copying import SECOND, Sent, address, read
from tests.unit.producer.names.making import client_hello, crypto, initial, records, with_ech

CLIENT, OTHER, RESOLVER, SITE = "192.0.2.1", "192.0.2.2", "198.51.100.53", "203.0.113.80"
MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    src: str = CLIENT
    dst: str = SITE
    src_port: int = 50_000
    dst_port: int = 443
    protocol: int = TCP
    first_ns: int = 2 * SECOND
    last_ns: int = 0

    def back(self) -> "Flow":
        return Flow(src=self.dst, dst=self.src, src_port=self.dst_port, dst_port=self.src_port, first_ns=self.first_ns)


def resolve(
    table: DomainTable, name: str, site: str = SITE, *, at: int = SECOND, ttl: int = 60, client: str = CLIENT
) -> None:
    """The client asks and gets one address."""
    kind = "AAAA" if ":" in site else "A"
    query = dns.message.make_query(name, kind)
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, site))
    asked = Sent(octets=query.to_wire(), src=client, dst=RESOLVER, time_ns=at)
    table.learn(read(NameReader(), asked, asked.back(answer.to_wire())))


def hello(table: DomainTable, name: bytes | None, *, at: int = SECOND, port: int = 50_000, kind: int = TLS) -> None:
    octets = records(client_hello(name)) if kind == TLS else initial(crypto(0, client_hello(name)))
    if kind == HTTP:
        octets = b"GET / HTTP/1.1\r\nHost: " + (name or b"") + b"\r\n\r\n"
    protocol = 17 if kind == QUIC else TCP
    sent = Sent(
        octets=octets, kind=kind, src=CLIENT, dst=SITE, src_port=port, dst_port=443, protocol=protocol, time_ns=at
    )
    table.learn(read(NameReader(), sent))


def ask(table: DomainTable, *flows: Flow) -> FlowNames:
    def addresses(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        return np.frombuffer(b"".join(map(address, texts)), np.uint8).reshape(-1, 16)

    return table.of_flows(
        src=addresses([flow.src for flow in flows]),
        dst=addresses([flow.dst for flow in flows]),
        src_port=np.array([flow.src_port for flow in flows], np.uint16),
        dst_port=np.array([flow.dst_port for flow in flows], np.uint16),
        protocol=np.array([flow.protocol for flow in flows], np.uint8),
        first_ns=np.array([flow.first_ns for flow in flows], np.int64),
        last_ns=np.array([flow.last_ns or flow.first_ns for flow in flows], np.int64),
    )


def names_of(found: FlowNames) -> list[tuple[str, str, int]]:
    return [
        (found.domains[domain] if domain >= 0 else "", DOMAIN_SOURCES[source], count)
        for domain, source, count in zip(
            found.flow_domain.tolist(), found.flow_domain_source.tolist(), found.flow_domain_count.tolist(), strict=True
        )
    ]


NOTHING = ("", "", 0)


def test_an_answer_names_the_flows_of_its_client_both_ways() -> None:
    table = DomainTable()
    resolve(table, "www.example.org")
    flow = Flow()
    found = ask(table, flow, flow.back(), Flow(src=OTHER), Flow(dst="203.0.113.81"))
    assert names_of(found) == [("www.example.org", "dns", 1), ("www.example.org", "dns", 1), NOTHING, NOTHING]


def test_an_answer_that_came_later_does_not_name_a_flow() -> None:
    table = DomainTable()
    resolve(table, "www.example.org", at=3 * SECOND)
    assert names_of(ask(table, Flow())) == [NOTHING]
    assert names_of(ask(table, Flow(first_ns=3 * SECOND, src_port=1))) == [("www.example.org", "dns", 1)]


@pytest.mark.parametrize(
    ("ttl", "holds_ns"),
    [(0, MINUTE), (1, MINUTE), (30, MINUTE), (60, 2 * MINUTE), (1_800, HOUR), (86_400, HOUR), (2**31 - 1, HOUR)],
)  # fmt: skip
def test_an_answer_holds_for_twice_its_ttl_within_bounds(ttl: int, holds_ns: int) -> None:
    table = DomainTable()
    resolve(table, "www.example.org", ttl=ttl)
    assert names_of(ask(table, Flow(first_ns=SECOND + holds_ns))) == [("www.example.org", "dns", 1)]
    assert names_of(ask(table, Flow(first_ns=SECOND + holds_ns + 1, src_port=1))) == [NOTHING]


def test_of_several_names_the_newest_before_the_flow_counts() -> None:
    table = DomainTable()
    for second, name in enumerate(["a.example", "b.example", "a.example", "c.example"], start=1):
        resolve(table, name, at=second * SECOND)
    flows = [Flow(first_ns=second * SECOND + 1, src_port=second) for second in range(5)]
    assert names_of(ask(table, *flows)) == [
        NOTHING, ("a.example", "dns", 1), ("b.example", "dns", 2), ("a.example", "dns", 2), ("c.example", "dns", 3)
    ]  # fmt: skip


def test_an_answer_that_is_repeated_holds_longer() -> None:
    table = DomainTable()
    for minute in range(5):
        resolve(table, "www.example.org", at=minute * MINUTE + 1)
    assert len(table) == 1
    found = ask(
        table,
        Flow(first_ns=MINUTE // 2),
        Flow(first_ns=6 * MINUTE + 1, src_port=2),
        Flow(first_ns=6 * MINUTE + 2, src_port=3),
    )
    assert names_of(found) == [("www.example.org", "dns", 1), ("www.example.org", "dns", 1), NOTHING]


def test_nobody_names_an_address_without_being_asked() -> None:
    table, answer = DomainTable(), dns.message.make_response(dns.message.make_query("bank.example", "A"))
    answer.answer.append(dns.rrset.from_text("bank.example.", 60, "IN", "A", SITE))
    table.learn(read(NameReader(), Sent(octets=answer.to_wire(), src="198.18.0.66", dst=CLIENT, src_port=53)))
    mdns = Sent(octets=answer.to_wire(), src=SITE, dst="224.0.0.251", src_port=5353, dst_port=5353)
    table.learn(read(NameReader(), mdns))
    assert names_of(ask(table, Flow())) == [NOTHING]


@pytest.mark.parametrize(("kind", "source"), [(TLS, "sni"), (HTTP, "http"), (QUIC, "quic")])
def test_a_name_of_its_own_is_better_than_an_answer(kind: int, source: str) -> None:
    table = DomainTable()
    hello(table, b"own.example", kind=kind)
    resolve(table, "cdn.example", at=SECOND)
    flow = Flow(protocol=17 if kind == QUIC else TCP)
    assert names_of(ask(table, flow)) == [("own.example", source, 1)]


def test_sni_beats_http_beats_dns_in_any_order() -> None:
    table = DomainTable()
    resolve(table, "dns.example")
    assert names_of(ask(table, Flow())) == [("dns.example", "dns", 1)]
    hello(table, b"http.example", kind=HTTP)
    assert names_of(ask(table, Flow())) == [("http.example", "http", 1)]
    hello(table, b"sni.example")
    assert names_of(ask(table, Flow())) == [("sni.example", "sni", 1)]
    hello(table, b"http.example", kind=HTTP)
    assert names_of(ask(table, Flow(), Flow().back())) == [("sni.example", "sni", 1)] * 2


def test_fingerprint_and_protocol_come_with_and_without_a_name() -> None:
    table = DomainTable()
    hello(table, None)
    resolve(table, "dns.example")
    found = ask(table, Flow(), Flow(src_port=9))
    assert names_of(found) == [("dns.example", "dns", 1)] * 2
    assert [text[:4] for text in found.ja4s] == ["t13i"]
    assert (found.flow_ja4.tolist(), found.flow_alpn.tolist(), found.alpns) == ([0, -1], [0, -1], ["h2"])
    again = ask(table, Flow(first_ns=10 * SECOND))
    assert (names_of(again), again.flow_ja4.tolist()) == ([("dns.example", "dns", 1)], [0])


def test_an_encrypted_hello_does_not_name_its_flow() -> None:
    table = DomainTable()
    sent = Sent(
        octets=with_ech(b"cloudflare-ech.com"),
        kind=TLS,
        src=CLIENT,
        dst=SITE,
        src_port=50_000,
        dst_port=443,
        protocol=TCP,
    )
    table.learn(read(NameReader(), sent))
    found = ask(table, Flow())
    assert (names_of(found), found.flow_ja4.tolist()) == ([NOTHING], [0])


@pytest.mark.parametrize("host", [b"192.0.2.7", b"[2001:db8::1]:80"])
def test_an_address_in_the_place_of_a_host_is_no_domain(host: bytes) -> None:
    table = DomainTable()
    hello(table, host, kind=HTTP)
    assert names_of(ask(table, Flow())) == [NOTHING]


def test_a_long_flow_keeps_its_name_and_a_silent_one_does_not() -> None:
    table = DomainTable()
    resolve(table, "www.example.org", ttl=60)
    for minutes in range(0, 180, 5):
        found = ask(table, Flow(first_ns=2 * SECOND + minutes * MINUTE))
        assert names_of(found) == [("www.example.org", "dns", 1)], minutes
    assert names_of(ask(table, Flow(first_ns=180 * MINUTE + 3 * SECOND))) == [NOTHING]


def test_ports_that_are_used_again_have_the_newer_hello_s_name() -> None:
    table = DomainTable()
    hello(table, b"old.example")
    hello(table, b"new.example", at=2 * SECOND)
    assert names_of(ask(table, Flow())) == [("new.example", "sni", 1)]
    hello(table, b"late.example", at=10 * MINUTE, kind=HTTP)
    assert names_of(ask(table, Flow(first_ns=10 * MINUTE))) == [("late.example", "http", 1)]


def test_what_is_oldest_is_forgotten() -> None:
    table = DomainTable(most=64)
    for number in range(500):
        resolve(table, f"h{number}.example", f"10.0.{number >> 8}.{number & 255}", at=SECOND + number, ttl=3_600)
        hello(table, f"own{number}.example".encode(), port=1_000 + number, at=SECOND + number)
    assert len(table) <= 128
    assert table._names.count <= 192
    flows = [Flow(dst=f"10.0.{number >> 8}.{number & 255}") for number in (0, 499)]
    assert names_of(ask(table, *flows)) == [NOTHING, ("h499.example", "dns", 1)]
    assert names_of(ask(table, Flow(src_port=1_000), Flow(src_port=1_499))) == [NOTHING, ("own499.example", "sni", 1)]


def test_long_names_take_no_more_room_than_they_may() -> None:
    table = DomainTable(most=64, most_octets=1_000)
    for number in range(100):
        resolve(table, f"{'x' * 50}{number}.example", f"10.0.0.{number}", at=SECOND + number)
    assert table._names.octets <= 1_100
    assert names_of(ask(table, Flow(dst="10.0.0.99")))[0][1] == "dns"


def test_no_flows_and_no_names() -> None:
    table = DomainTable()
    table.learn(read(NameReader()))
    assert names_of(ask(table, Flow())) == [NOTHING]
    resolve(table, "www.example.org")
    assert len(ask(table).flow_domain) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a.example", "b.example", "c.example"]), st.integers(0, 200)),
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), min_size=1, max_size=6),
    st.integers(0, 12),
)
def test_the_join_is_that_of_a_plain_reading(
    answers: list[tuple[int, str, int]], flows: list[tuple[int, int]], cut: int
) -> None:
    """Answers in the order of their time; the newest that holds, whatever was asked between."""
    table, answers = DomainTable(), sorted(answers, key=lambda answer: answer[2])
    for at, (site, name, second) in enumerate(answers):
        resolve(table, name, f"10.0.0.{site}", at=second * SECOND)
        if at == cut:
            ask(table, Flow(src=OTHER))
    asked = [
        Flow(dst=f"10.0.0.{site}", first_ns=second * SECOND, src_port=2_000 + at)
        for at, (site, second) in enumerate(flows)
    ]
    wanted = []
    for site, second in flows:
        runs: list[list[object]] = []  # name, first, until
        for _, name, at in (answer for answer in answers if answer[0] == site):
            if runs and runs[-1][0] == name and at <= int(str(runs[-1][2])):
                runs[-1][2] = at + 120
            else:
                runs.append([name, at, at + 120])
        holding = [str(run[0]) for run in runs[-4:] if int(str(run[1])) <= second <= int(str(run[2]))]
        wanted.append((holding[-1], "dns", len(set(holding))) if holding else NOTHING)
    assert names_of(ask(table, *asked)) == wanted
