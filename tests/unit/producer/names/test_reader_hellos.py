"""TLS, QUIC and HTTP through NameReader: parts in any order, and every copy is accounted for."""

import base64
from dataclasses import replace

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.kernel.abi import MORE_FRAGMENTS
from producer.names.columns import ENCRYPTED, INCOMPLETE, MALFORMED, NAMED, NAMELESS, NO_ECH
from producer.names.copies import CONTINUATION, FRAGMENT, HTTP, QUIC, TLS
from producer.names.limits import Limits
from producer.names.parsers.http import METHODS
from producer.names.reader import NameReader
from schemas.names import ECH, NAME_KINDS
from tests.unit.producer.names.copying import SECOND, Sent, named, read, tls
from tests.unit.producer.names.making import CHROME_JA4, client_hello, crypto, initial, records, vector, with_ech

NAME = "www.example.org"


def segments(octets: bytes, *sizes: int, seq: int = 2**32 - 300) -> list[Sent]:
    found, at = [], 0
    for size in (*sizes, len(octets)):
        part = octets[at : at + size]
        if part:
            found.append(tls(part, kind=CONTINUATION if at else TLS, seq=(seq + at) % 2**32))
        at += size
    return found


def udp(octets: bytes, **more: int) -> Sent:
    return Sent(octets=octets, kind=QUIC, dst_port=443, src_port=50_000, **more)  # type: ignore[arg-type]


def test_a_hello_is_a_row() -> None:
    reader = NameReader()
    found = read(reader, tls(records(client_hello()), kind=TLS))
    row = found.rows[0]
    assert (named(found), found.alpns, found.ja4s) == ([NAME], ["h2"], ["t" + CHROME_JA4])
    assert (row["alpn"], row["ja4"], NAME_KINDS[row["kind"]], row["status"], row["ech"]) == (0, 0, "tls", NAMED, NO_ECH)
    assert (row["server_port"], row["rcode"], row["latency_us"], row["copies"], row["copy"]) == (443, -1, -1, 1, 0)
    assert (reader.open, reader.unused) == (0, 0)


@given(st.permutations(range(4)), st.integers(1, 500), st.booleans())
def test_segments_in_any_order(order: list[int], most: int, at_once: bool) -> None:
    reader, parts = NameReader(), segments(records(client_hello(padding=900), most), 200, 400, 300)
    assert len(parts) == 4
    chosen = [parts[place] for place in order]
    batches = [chosen] if at_once else [[part] for part in chosen]
    found = [names for batch in batches if (names := read(reader, *batch)).rows.size]
    assert [(named(names), names.ja4s, names.rows["copies"].tolist()) for names in found] == [
        ([NAME], ["t" + CHROME_JA4], [4])
    ]
    assert (reader.open, reader.unused) == (0, 0)


def test_a_first_segment_too_short_to_be_known_as_one() -> None:
    octets = records(client_hello())
    first = tls(octets[:2], kind=CONTINUATION, seq=1000)
    found = read(NameReader(), first, tls(octets[2:], kind=CONTINUATION, seq=1002))
    assert named(found) == [NAME]


def test_what_comes_twice_is_one_row() -> None:
    reader, (first, second) = NameReader(), segments(records(client_hello(padding=900)), 500)
    found = read(reader, first, first, second, second, first)
    assert (named(found), found.rows["copies"].tolist()) == ([NAME], [3])
    assert (reader.unused, reader.open) == (2, 0)


def test_a_port_that_is_used_again_is_another_hello() -> None:
    found = read(
        NameReader(),
        tls(records(client_hello()), kind=TLS),
        tls(records(client_hello(b"b.example")), kind=TLS, seq=77_000),
    )
    assert named(found) == [NAME, "b.example"]


def test_a_hello_that_a_server_asked_for_again_makes_no_second_row() -> None:
    reader, octets = NameReader(), records(client_hello())
    found = read(reader, tls(octets, kind=TLS), tls(octets, kind=TLS, seq=1000 + len(octets) + 6))
    assert (named(found), reader.unused) == ([NAME], 1)


def test_a_fifth_segment_is_not_waited_for() -> None:
    reader = NameReader()
    parts = segments(records(client_hello(padding=2000)), 300, 300, 300, 300)
    found = read(reader, *parts)
    assert (named(found), found.ja4s, found.rows["status"].tolist()) == ([NAME], [], [NAMED])
    assert (found.rows["copies"].tolist(), reader.unused) == ([4], 1)


def test_a_copy_that_ends_behind_the_name_is_enough() -> None:
    octets = records(client_hello(padding=3000))
    reader = NameReader()
    found = read(reader, tls(octets[:2048], kind=TLS, on_wire=len(octets)))
    assert (named(found), found.rows["status"].tolist(), found.alpns) == ([NAME], [NAMED], ["h2"])
    assert reader.open == 0


def test_the_rest_is_waited_for_five_seconds() -> None:
    reader, (first, second) = NameReader(), segments(records(client_hello(padding=900)), 700)
    assert len(read(reader, first).rows) == 0
    assert len(reader.expire(6 * SECOND).rows) == 0
    found = reader.expire(6 * SECOND + 1)
    assert (named(found), found.rows["status"].tolist(), found.rows["copy"].tolist()) == ([NAME], [NAMED], [-1])
    read(reader, second)
    reader.expire(60 * SECOND)
    assert (reader.open, reader.unused) == (0, 1)


def test_a_hello_cut_before_its_name_is_incomplete() -> None:
    reader = NameReader()
    read(reader, segments(records(client_hello()), 60)[0])
    found = reader.expire(60 * SECOND)
    assert (named(found), found.rows["status"].tolist()) == ([""], [INCOMPLETE])


def test_without_sni_a_hello_is_nameless_and_garbage_malformed() -> None:
    found = read(
        NameReader(), tls(records(client_hello(None)), kind=TLS), tls(b"\x16\x03\x01\0\0", kind=TLS, src_port=1)
    )
    assert found.rows["status"].tolist() == [NAMELESS, MALFORMED]
    assert found.ja4s[0].startswith("t13i")


def test_more_hellos_than_are_kept_are_counted() -> None:
    reader = NameReader(Limits(flows=2))
    octets = records(client_hello())
    found = [read(reader, tls(octets[:60], kind=TLS, src_port=port)) for port in range(5)]
    assert sum(len(names.rows) for names in found) == 3
    assert (reader.open, reader.discarded["hellos_too_many"]) == (2, 3)


# --- ECH


def test_grease_is_offered_and_named() -> None:
    found = read(NameReader(), tls(with_ech(NAME.encode()), kind=TLS))
    assert (named(found), found.rows["status"].tolist(), ECH[found.rows["ech"][0]]) == ([NAME], [NAMED], "offered")


def test_a_name_that_stands_for_others_is_encrypted() -> None:
    found = read(NameReader(), tls(with_ech(b"cloudflare-ech.com"), kind=TLS))
    assert (found.rows["status"].tolist(), ECH[found.rows["ech"][0]]) == ([ENCRYPTED], "real")


def test_a_configuration_that_dns_gave_out_is_known_again() -> None:
    reader = NameReader()
    contents = (
        bytes((201, 0, 0x20))
        + vector(bytes(32), 2)
        + vector(bytes(4), 2)
        + b"\0"
        + vector(b"public.example", 1)
        + b"\0\0"
    )
    configs = vector(b"\xfe\x0d" + vector(contents, 2), 2)
    query = dns.message.make_query("secret.example", "HTTPS")
    message = dns.message.make_response(query)
    message.answer.append(
        dns.rrset.from_text("secret.example.", 300, "IN", "HTTPS", f'1 . ech="{base64.b64encode(configs).decode()}"')
    )
    asked = Sent(octets=query.to_wire())
    hellos = [tls(with_ech(b"public.example", config), kind=TLS, src_port=config) for config in (201, 202)]
    read(reader, asked.back(message.to_wire()))  # which nobody asked for
    assert read(reader, *hellos).rows["status"].tolist() == [NAMED, NAMED]
    read(reader, asked, asked.back(message.to_wire()))
    again = [replace(hello, src_port=number) for number, hello in enumerate(hellos)]
    assert read(reader, *again).rows["status"].tolist() == [ENCRYPTED, NAMED]


# --- QUIC


@given(st.permutations(range(4)))
def test_crypto_frames_out_of_order_over_four_datagrams(order: list[int]) -> None:
    hello = client_hello(padding=2000)
    sizes = [(0, 700), (700, 1300), (1300, 1900), (1900, len(hello))]
    datagrams = [
        initial(
            crypto(begin + 100, hello[begin + 100 : end]) + b"\1" + crypto(begin, hello[begin : begin + 100]),
            packet_number=number,
        )
        for number, (begin, end) in enumerate(sizes)
    ]
    reader = NameReader()
    found = [names for place in order if (names := read(reader, udp(datagrams[place]))).rows.size]
    assert [(named(names), names.ja4s, names.rows["copies"].tolist()) for names in found] == [
        ([NAME], ["q" + CHROME_JA4], [4])
    ]
    assert (reader.open, reader.unused) == (0, 0)
    read(reader, udp(datagrams[0]))
    assert reader.unused == 1


def test_a_changed_connection_id_keeps_the_first_one_s_keys() -> None:
    hello = client_hello(padding=1500)
    first = initial(crypto(0, hello[:1000]))
    second = initial(crypto(1000, hello[1000:]), destination=b"server's", keys_of=bytes.fromhex("8394c8f03e515708"))
    found = read(NameReader(), udp(first), udp(second))
    assert named(found) == [NAME]


def test_a_retry_changes_the_keys_and_makes_no_second_row() -> None:
    hello = client_hello()
    reader = NameReader()
    again = initial(crypto(0, hello), destination=b"retried!", token=b"token")
    found = read(reader, udp(initial(crypto(0, hello))), udp(again), udp(again))
    assert (named(found), reader.unused) == ([NAME], 2)


def test_what_the_server_sends_is_not_a_name() -> None:
    reader = NameReader()
    sent = udp(initial(crypto(0, client_hello())))
    read(reader, sent)
    found = read(
        reader, sent.back(initial(crypto(0, b"\2 a ServerHello"), destination=b"client's", keys_of=b"the server's key"))
    )
    assert (len(found.rows), reader.unused) == (0, 1)


def test_a_connection_whose_begin_was_not_seen_is_incomplete() -> None:
    found = read(NameReader(), udp(initial(crypto(0, client_hello()), keys_of=b"unseen")))
    assert found.rows["status"].tolist() == [INCOMPLETE]
    assert read(NameReader(), udp(b"\xc3" + bytes(1200))).rows["status"].tolist() == [MALFORMED]


@pytest.mark.parametrize("copied", [512, 900])
def test_a_datagram_that_was_cut_is_read(copied: int) -> None:
    datagram = initial(crypto(0, client_hello()))
    found = read(NameReader(), udp(datagram[:copied], on_wire=len(datagram)))
    assert named(found) == [NAME]


def test_what_comes_twice_in_fragments_is_all_unused() -> None:
    reader, datagram = NameReader(), initial(crypto(0, client_hello()))
    whole = (50_000).to_bytes(2, "big") + (443).to_bytes(2, "big") + bytes(4) + datagram
    parts = [
        Sent(octets=whole[at : at + 800], kind=FRAGMENT, dst_port=443, src_port=50_000, seq=number, fragment_offset=at,
             flags=MORE_FRAGMENTS if not at else 0)
        for number in (1, 2) for at in (0, 800)
    ]  # fmt: skip
    found = read(reader, *parts)
    assert (named(found), found.rows["copies"].tolist(), reader.unused, reader.open) == ([NAME], [2], 2, 0)


def test_a_flood_of_initials_costs_no_more_than_its_budget() -> None:
    reader = NameReader(Limits(initials_per_second=3))
    flood = [udp(initial(crypto(0, client_hello())), time_ns=SECOND + number) for number in range(5)]
    found = read(reader, *flood, udp(initial(crypto(0, client_hello(b"later.example"))), time_ns=2 * SECOND))
    assert (named(found), reader.discarded["initials_over_budget"]) == ([NAME], 2)
    assert int(found.rows["copies"].sum()) + reader.unused + reader.open == 6


# --- HTTP


def test_a_request_is_a_row() -> None:
    reader = NameReader()
    sent = tls(b"POST /x HTTP/1.1\r\nHost: WWW.example.org:8080\r\n\r\n", kind=HTTP)
    found = read(reader, sent, sent)
    row = found.rows[0]
    assert (named(found), METHODS[row["method"]], NAME_KINDS[row["kind"]], found.alpns) == (
        [NAME],
        "POST",
        "http",
        ["http/1.1"],
    )
    assert reader.unused == 1


def test_requests_without_a_name() -> None:
    found = read(
        NameReader(),
        tls(b"GET / HTTP/1.0\r\n\r\n", kind=HTTP, src_port=1),
        tls(b"GET / HTTP/1.1\r\nAccept: text", kind=HTTP, src_port=2),
        tls(b"GET garbage", kind=HTTP, src_port=3),
    )
    assert found.rows["status"].tolist() == [NAMELESS, INCOMPLETE, MALFORMED]


def test_a_kind_that_we_do_not_know_is_unused() -> None:
    reader = NameReader()
    assert len(read(reader, tls(b"whatever", kind=99)).rows) == 0
    assert reader.unused == 1


@given(st.lists(st.sampled_from(range(9)), min_size=1, max_size=40), st.integers(1, 8))
def test_every_copy_is_in_a_row_unused_or_open(which: list[int], each: int) -> None:
    hello = client_hello(padding=1500)
    sent = [
        *segments(records(hello), 500, 500),
        tls(records(client_hello()), kind=TLS, src_port=9),
        tls(b"stray segment", kind=CONTINUATION, src_port=10),
        udp(initial(crypto(0, hello[:900]))),
        udp(initial(crypto(900, hello[900:]))),
        udp(initial(crypto(0, hello), keys_of=b"x")),
        tls(b"GET / HTTP/1.0\r\n\r\n", kind=HTTP, src_port=11),
    ]
    reader, rows = NameReader(Limits(flows=2)), 0
    for at in range(0, len(which), each):
        rows += int(read(reader, *(sent[number] for number in which[at : at + each])).rows["copies"].sum())
    assert rows + reader.unused + reader.open == len(which)
    rows += int(reader.expire(100 * SECOND).rows["copies"].sum())
    assert (rows + reader.unused, reader.open) == (len(which), 0)
