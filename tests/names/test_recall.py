"""The comparison with tshark, over a capture of our own: all that tshark finds we find, and nothing else."""

from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from tests.names.recall import compare
from tests.unit.producer.names.making import client_hello, crypto, initial, records

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root_and_bcc")]
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ENDS: dict[str, Any] = {"src": "192.0.2.1", "dst": "198.51.100.7"}


def messages(name: str) -> tuple[bytes, bytes]:
    query = dns.message.make_query(name, "A")
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", "203.0.113.1", "203.0.113.2"))
    return query.to_wire(), answer.to_wire()


def segments(octets: bytes, *order: int, size: int = 500, port: int = 40_000) -> list[Ether]:
    parts = [(at, octets[at : at + size]) for at in range(0, len(octets), size)]
    syn = ETHER / IP(**ENDS) / TCP(sport=port, dport=443, flags="S", seq=99)
    return [syn] + [
        ETHER / IP(**ENDS) / TCP(sport=port, dport=443, flags="PA", seq=100 + at) / Raw(part)
        for at, part in (parts[place] for place in order)
    ]


def test_what_tshark_finds_we_find(tmp_path: Path) -> None:
    query, answer = messages("www.udp.example")
    over_tcp, _ = messages("www.tcp.example")
    long, hello = messages(f"{'x' * 60}.{'y' * 60}.{'z' * 60}.example")[0], client_hello(b"split.example", padding=800)
    quic = client_hello(b"quic.example", padding=1500)
    behind_length = Raw(len(over_tcp).to_bytes(2, "big") + over_tcp)
    datagrams = [initial(crypto(at, quic[at : at + 1000]), packet_number=at) for at in range(0, len(quic), 1000)]
    frames = [
        ETHER / IP(**ENDS) / UDP(sport=1234, dport=53) / Raw(query),
        ETHER / IP(src=ENDS["dst"], dst=ENDS["src"]) / UDP(sport=53, dport=1234) / Raw(answer),
        ETHER / IPv6(src="2001:db8::1", dst="2001:db8::53") / UDP(sport=1, dport=53) / Raw(messages("six.example")[0]),
        ETHER / IP(dst="224.0.0.251") / UDP(sport=5353, dport=5353) / Raw(messages("printer.local")[0]),
        ETHER / IP(**ENDS) / TCP(sport=1236, dport=53, flags="PA", seq=1) / behind_length,
        *(ETHER / part for part in fragment(IP(**ENDS, id=77) / UDP(sport=1237, dport=53) / Raw(long), 80)),  # type: ignore[no-untyped-call]
        *segments(records(client_hello(b"whole.example")), 0, size=2_000),
        *segments(records(hello, 300), 0, 1, 2, port=40_001),
        *segments(records(hello), 2, 0, 1, port=40_002),
        *(ETHER / IP(**ENDS) / UDP(sport=50_000, dport=443) / Raw(datagram) for datagram in datagrams),
    ]
    path = tmp_path / "own.pcap"
    wrpcap(str(path), frames)
    kinds, counted = compare([path])
    assert [kind.differences for kind in kinds.values()] == [[], []]
    assert (kinds["DNS"].both, kinds["hellos"].both) == (5, 4), counted
    assert counted["malformed"] == counted["incomplete"] == 0
