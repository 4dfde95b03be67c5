"""Parsers of names on one core, and what a busy node's names take of the producer."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from os import getpid

import dns.message
import dns.rrset
import numpy as np

from producer.names.copies import QUIC, TCP, TLS, Heads
from producer.names.join import DomainTable
from producer.names.parsers import quic
from producer.names.parsers.dns import DnsParser
from producer.names.parsers.hello import HelloParser
from producer.names.reader import NameReader
from schemas.packets import I64, U16
from tests.bench.process import rss_mb
from tests.bench.results import Row
from tests.unit.producer.names.copying import Sent, heads
from tests.unit.producer.names.making import client_hello, crypto, initial, records

MESSAGES, HELLOS = 4_000, 300
DNS_A_SECOND, TLS_A_SECOND, QUIC_A_SECOND = 10_000, 2_000, 500  # transactions of a busy node
SECONDS, READS_A_SECOND = 10, 20
SECOND = 1_000_000_000
KEYS = ("src", "dst", "src_port", "dst_port", "protocol")


def run() -> Iterator[Row]:
    queries, answers = zip(*map(_transaction, range(MESSAGES)), strict=True)
    parser = DnsParser()
    for what, messages in (("queries", queries), ("answers of five records", answers)):
        copies = *_side_by_side(messages), *np.zeros((2, MESSAGES), np.uint8)  # datagrams, of which none is cut
        rate = _rate(partial(parser.read, *copies), MESSAGES)
        yield Row(what=f"DNS, {what}, parsed", value=rate, unit="a second", at_least=1e6)
    yield Row(what="DNS, queries and answers, to rows", value=_rate(*_all_of(queries, answers)), unit="a second")
    hellos = [records(client_hello(f"www{number}.example.org".encode())) for number in range(HELLOS)]
    parse = HelloParser().records
    yield Row(what="ClientHellos, with JA4", value=_rate(lambda: [*map(parse, hellos)], HELLOS), unit="a second")
    datagrams = [_initial(number) for number in range(HELLOS)]
    yield Row(
        what="QUIC's first packets, with keys and tag",
        value=_rate(lambda: [*map(_frames, datagrams)], HELLOS),
        unit="a second",
    )
    yield from _busy_node(queries, answers)


def _transaction(number: int) -> tuple[bytes, bytes]:
    name = f"host{number}.service{number % 97}.example.com"
    query = dns.message.make_query(name, "A", use_edns=True)
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", "CNAME", f"edge{number % 31}.cdn.example.net."))
    sites = [f"203.{number // 1000}.{number // 4 % 250}.{site}" for site in range(4)]  # four names share them
    answer.answer.append(dns.rrset.from_text(f"edge{number % 31}.cdn.example.net.", 60, "IN", "A", *sites))
    return query.to_wire(), answer.to_wire()


def _initial(number: int) -> bytes:
    hello = client_hello(f"quic{number}.example.org".encode())
    return initial(crypto(0, hello), destination=number.to_bytes(8, "big"))


def _frames(datagram: bytes) -> int:
    quic._keys.cache_clear()
    return sum(quic.frames(found, found.destination_id) is not None for found in quic.initials(datagram))


def _rate(work: Callable[[], object], items: int, seconds: float = 2.0) -> float:
    """Items a second of CPU time."""
    work()
    done, begun = 0, time.thread_time()
    while (taken := time.thread_time() - begun) < seconds:
        work()
        done += items
    return done / taken


def _side_by_side(messages: Sequence[bytes]) -> tuple[memoryview, I64, U16]:
    """Octets, and where each message begins and how long it is."""
    lengths = np.array([len(message) for message in messages], np.uint16)
    return memoryview(b"".join(messages)), np.cumsum(lengths, dtype=np.int64) - lengths, lengths


def _all_of(queries: Sequence[bytes], answers: Sequence[bytes]) -> tuple[Callable[[], object], int]:
    """All queries, then all answers, by a NameReader."""
    sent = [Sent(octets=query, src_port=10_000 + number) for number, query in enumerate(queries)]
    sent += [one.back(answer, after_ns=1_000_000) for one, answer in zip(sent, answers, strict=True)]
    octets, offsets, _ = _side_by_side([one.octets for one in sent])
    return partial(NameReader().read, heads(sent), octets, offsets), len(sent)


def _busy_node(queries: Sequence[bytes], answers: Sequence[bytes]) -> Iterator[Row]:
    """Reads, learns and joins for some seconds of its clock, in as many parts as the producer makes of them."""
    part = SECOND // READS_A_SECOND
    reads = [_part(number, part, queries, answers) for number in range(SECONDS * READS_A_SECOND)]
    times = [head["ktime_ns"].astype(np.int64) for head, _, _ in reads]
    before, begun = rss_mb(getpid()), time.thread_time()
    reader, table = NameReader(), DomainTable()
    rows = 0
    for number, (head, octets, offsets) in enumerate(reads):
        names = reader.read(head, octets, offsets)
        table.learn(names)
        rows += len(names.rows)
        table.of_flows(**{name: head[name] for name in KEYS}, first_ns=times[number], last_ns=times[number])
        reader.expire(number * part)
    used, grown = time.thread_time() - begun, rss_mb(getpid()) - before
    assert rows > SECONDS * (DNS_A_SECOND + TLS_A_SECOND + QUIC_A_SECOND) * 0.99, rows
    what = f"{DNS_A_SECOND:,} DNS, {TLS_A_SECOND:,} TLS, {QUIC_A_SECOND:,} QUIC a second, read, learnt and joined"
    yield Row(what=what, value=used / SECONDS, unit="of a core", at_most=0.2)
    yield Row(what="memory that this takes", value=grown, unit="MB", at_most=25)


def _part(number: int, part: int, queries: Sequence[bytes], answers: Sequence[bytes]) -> tuple[Heads, memoryview, I64]:
    sent = []
    for place in range(DNS_A_SECOND // READS_A_SECOND):
        which = (number * 500 + place) % MESSAGES
        asked = Sent(octets=queries[which], src=f"10.0.{place % 250}.{which % 250}", src_port=1_024 + which,
                     time_ns=number * part + place * 1000)  # fmt: skip
        sent += [asked, asked.back(answers[which], after_ns=900_000)]
    for kind, rate in ((TLS, TLS_A_SECOND), (QUIC, QUIC_A_SECOND)):
        for place in range(rate // READS_A_SECOND):
            which = number * 100 + place
            name = f"www{which}.example.org".encode()
            octets = records(client_hello(name)) if kind == TLS else _initial(which)
            one = Sent(octets=octets, kind=kind, protocol=TCP if kind == TLS else 17, time_ns=number * part)
            ends = {"src": f"10.1.{which >> 8 & 255}.{which & 255}", "dst": f"203.0.113.{which % 250}"}
            sent.append(replace(one, **ends, src_port=1_024 + which % 60_000, dst_port=443))  # type: ignore[arg-type]
    span, offsets, _ = _side_by_side([one.octets for one in sent])
    return heads(sent), span, offsets
