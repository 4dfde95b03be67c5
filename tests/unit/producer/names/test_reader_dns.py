"""DNS through NameReader: queries and answers find each other, and every copy is accounted for."""

import dns.message
import dns.rrset
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.kernel.abi import MORE_FRAGMENTS
from producer.names.columns import INCOMPLETE, MALFORMED, NAMED, NAMELESS, Names
from producer.names.copies import FRAGMENT, TCP, TCP_DNS
from producer.names.limits import Limits
from producer.names.reader import NameReader, ready
from schemas.names import NAME_KINDS
from tests.unit.producer.names.copying import CLIENT, SECOND, SERVER, Sent, address, heads, named, read


def query(name: str = "www.example.org", kind: str = "A", number: int = 7) -> bytes:
    return dns.message.make_query(name, kind, id=number).to_wire()


def answer(name: str = "www.example.org", *addresses: str, number: int = 7, ttl: int = 60) -> bytes:
    kind = "AAAA" if addresses and ":" in addresses[0] else "A"
    message = dns.message.make_response(dns.message.make_query(name, kind, id=number))
    if addresses:
        message.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *addresses))
    return message.to_wire()


def test_this_machine_has_the_compiled_parsers() -> None:
    ready()


def test_an_answer_makes_a_row_with_its_latency() -> None:
    reader, asked = NameReader(), Sent(octets=query("WWW.Example.org"))
    assert len(read(reader, asked).rows) == 0
    assert reader.open == 1
    found = read(reader, asked.back(answer("www.example.org", "192.0.2.80", "192.0.2.81"), after_ns=2_500_000))
    row = found.rows[0]
    assert named(found) == ["www.example.org"]
    assert (row["latency_us"], row["rcode"], row["ttl"], row["qtype"]) == (2_500, 0, 60, 1)
    assert (row["copies"], row["copy"], row["count"], row["status"], NAME_KINDS[row["kind"]]) == (2, 0, 1, NAMED, "dns")
    assert (bytes(row["client"]), bytes(row["server"])) == (address(CLIENT), address(SERVER))
    assert (row["client_port"], row["server_port"], row["interface"], row["direction"]) == (40_000, 53, 3, 1)
    assert row["time_ns"] == SECOND + 2_500_000
    said = found.answer_sets[row["answers"]]
    assert sorted(said) == ["192.0.2.80", "192.0.2.81"]
    assert [bytes(one) for one in found.address] == [address(one) for one in said]
    assert found.address_row.tolist() == [0, 0]
    assert (reader.open, reader.unused) == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"octets": query(number=8)},
        {"octets": query("other.example.org")},
        {"octets": query(kind="AAAA")},
        {"octets": query(), "src": "192.0.2.2"},
        {"octets": query(), "dst": "198.51.100.54"},
        {"octets": query(), "src_port": 40_001},
        {"octets": query(), "protocol": TCP},
    ],
    ids=lambda other: next(reversed(other)),
)
def test_an_answer_to_somebody_elses_query_has_no_latency(other: dict[str, object]) -> None:
    reader = NameReader()
    read(reader, Sent(**other))  # type: ignore[arg-type]
    found = read(reader, Sent(octets=query()).back(answer(), after_ns=1))
    assert found.rows["latency_us"].tolist() == [-1]
    assert reader.open == 1


def test_a_query_that_nobody_answers_is_a_row_after_ten_seconds() -> None:
    reader = NameReader()
    read(reader, Sent(octets=query()))
    assert len(reader.expire(11 * SECOND).rows) == 0
    found = reader.expire(11 * SECOND + 1)
    row = found.rows[0]
    assert named(found) == ["www.example.org"]
    assert (row["rcode"], row["latency_us"], row["copy"], row["copies"], row["time_ns"]) == (-1, -1, -1, 1, SECOND)
    assert reader.open == 0
    late = read(reader, Sent(octets=query(), time_ns=12 * SECOND).back(answer()))
    assert late.rows["latency_us"].tolist() == [-1]


def test_what_is_asked_and_answered_twice_is_one_transaction() -> None:
    reader, asked = NameReader(), Sent(octets=query())
    again = Sent(octets=query(), time_ns=SECOND + 1_000_000)
    found = read(
        reader, asked, again, asked.back(answer(), after_ns=3_000_000), asked.back(answer(), after_ns=3_000_001)
    )
    assert found.rows["latency_us"].tolist() == [3_000]
    assert found.rows["copies"].tolist() == [2]
    assert (reader.open, reader.unused) == (0, 2)


def test_a_port_and_id_that_are_used_again_are_other_transactions() -> None:
    reader, asked = NameReader(), Sent(octets=query())
    later = Sent(octets=query(), time_ns=2 * SECOND)
    found = read(reader, asked, asked.back(answer(), after_ns=1_000), later, later.back(answer(), after_ns=9_000))
    assert found.rows["latency_us"].tolist() == [1, 9]


def test_the_oldest_queries_go_when_there_are_too_many() -> None:
    reader = NameReader(Limits(queries=3))
    read(reader, *(Sent(octets=query(f"h{number}.example.org"), time_ns=number) for number in range(5)))
    found = reader.expire(5)
    assert named(found) == ["h0.example.org", "h1.example.org"]
    assert (reader.open, reader.discarded["queries_too_many"]) == (3, 2)


def test_mdns_and_llmnr_are_rows_at_once() -> None:
    reader = NameReader()
    asked = Sent(octets=query("printer.local"), dst="224.0.0.251", src_port=5353, dst_port=5353)
    said = Sent(
        octets=answer("printer.local", "192.0.2.9"), src="192.0.2.9", dst="224.0.0.251", src_port=5353, dst_port=5353
    )
    other = Sent(octets=query("desk"), dst="224.0.0.252", dst_port=5355)
    found = read(reader, asked, said, other)
    assert named(found) == ["printer.local", "printer.local", "desk"]
    assert [NAME_KINDS[kind] for kind in found.rows["kind"]] == ["mdns", "mdns", "llmnr"]
    assert found.rows["rcode"].tolist() == [-1, 0, -1]
    assert reader.open == 0


def test_a_client_of_dns_may_have_the_port_of_mdns() -> None:
    found = read(NameReader(), Sent(octets=answer(), src=SERVER, dst=CLIENT, src_port=53, dst_port=5353))
    assert [NAME_KINDS[kind] for kind in found.rows["kind"]] == ["dns"]


def test_copies_that_cannot_be_read_are_rows_without_a_name() -> None:
    reader = NameReader()
    whole = query()
    found = read(
        reader,
        Sent(octets=b"\0" * 20),
        Sent(octets=whole[:20], on_wire=len(whole)),
        Sent(octets=b"\0\0\x80\0" + bytes(8)),
    )
    assert found.rows["status"].tolist() == [MALFORMED, INCOMPLETE, NAMELESS]
    assert found.rows["name"].tolist() == [-1, -1, -1]
    assert found.rows["copies"].tolist() == [1, 1, 1]


def segments(octets: bytes, *sizes: int, back: bool = False) -> list[Sent]:
    found, at = [], 0
    for size in (*sizes, len(octets)):
        part = octets[at : at + size]
        one = Sent(octets=part, kind=TCP_DNS, protocol=TCP, seq=(2**32 - 10 + at) % 2**32, time_ns=SECOND + at)
        found += [one.back(part) if back else one] if part else []
        at += size
    return found


def behind_length(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets


@pytest.mark.parametrize("sizes", [(), (2,), (1,), (2, 20), (40,), (1, 1, 30)], ids=str)
def test_messages_over_tcp_are_put_together(sizes: tuple[int, ...]) -> None:
    reader = NameReader()
    asked = segments(behind_length(query()), *sizes)
    said = segments(behind_length(answer("www.example.org", "192.0.2.80")), *sizes, back=True)
    found = read(reader, *asked, *said)
    assert named(found) == ["www.example.org"]
    assert found.rows["latency_us"][0] >= 0
    assert int(found.rows["copies"][0]) + reader.unused + reader.open == len(asked) + len(said)
    assert reader.open == reader.unused == 0


def test_several_messages_of_a_connection_and_the_begin_of_the_next() -> None:
    reader = NameReader()
    octets = b"".join(behind_length(query(f"h{number}.example.org", number=number)) for number in range(4))
    first, second = segments(octets, 100)
    read(reader, first)
    assert reader.open == 1
    read(reader, second, second)
    assert (reader.open, reader.unused) == (2, 1)
    assert sorted(named(reader.expire(60 * SECOND))) == [f"h{number}.example.org" for number in range(4)]


def test_a_message_too_long_to_keep_is_passed_and_what_follows_is_read() -> None:
    reader = NameReader()
    names = [f"{'x' * 60}{number:03}.example.org" for number in range(300)]
    long = dns.message.make_response(dns.message.make_query("zone.example.org", "NS"))
    long.answer.append(dns.rrset.from_text("zone.example.org.", 60, "IN", "NS", *(f"{name}." for name in names)))
    octets = behind_length(long.to_wire()) + behind_length(answer("next.example.org"))
    found = read(reader, *segments(octets, *[1448] * (len(octets) // 1448)))
    assert named(found) == ["zone.example.org", "next.example.org"]
    assert int(found.rows["copies"].sum()) + reader.unused == len(octets) // 1448 + 1


def test_a_segment_that_is_missing_costs_its_message() -> None:
    reader = NameReader()
    first, _, third = segments(behind_length(query()), 10, 10)
    found = read(reader, first, third)
    assert set(found.rows["status"].tolist()) <= {MALFORMED, INCOMPLETE}
    reader.expire(60 * SECOND)
    assert (reader.open, reader.discarded["messages_unfinished"]) == (0, 1)


def fragments(octets: bytes, size: int = 24, number: int = 99) -> list[Sent]:
    datagram = (
        (40_000).to_bytes(2, "big") + (53).to_bytes(2, "big") + (8 + len(octets)).to_bytes(2, "big") + b"\0\0" + octets
    )
    return [
        Sent(octets=datagram[at : at + size], kind=FRAGMENT, seq=number, fragment_offset=at,
             flags=MORE_FRAGMENTS if at + size < len(datagram) else 0)
        for at in range(0, len(datagram), size)
    ]  # fmt: skip


@given(st.permutations(range(3)))
def test_fragments_in_any_order_make_a_message(order: list[int]) -> None:
    reader, parts = NameReader(), fragments(query(), 16)
    assert len(parts) == 3
    read(reader, *(parts[place] for place in order))
    assert (reader.open, reader.unused) == (3, 0)
    found = reader.expire(60 * SECOND)
    assert named(found) == ["www.example.org"]
    assert found.rows["copies"].tolist() == [3]


def test_what_is_there_of_a_datagram_is_read_when_the_rest_does_not_come() -> None:
    reader = NameReader()
    first, second, _ = fragments(answer("a.example", "192.0.2.1", "192.0.2.2"))
    read(reader, first, second)
    assert reader.open == 2
    found = reader.expire(60 * SECOND)
    assert named(found) == ["a.example"]
    assert found.rows["copies"].tolist() == [2]
    assert (reader.open, reader.unused) == (0, 0)


def test_more_datagrams_than_are_kept_are_counted() -> None:
    reader = NameReader(Limits(flows=2))
    for number in range(5):
        read(reader, fragments(query(), number=number)[0])
    assert (reader.open, reader.unused, reader.discarded["datagrams_too_many"]) == (2, 3, 3)


@given(st.lists(st.sampled_from(range(8)), min_size=1, max_size=60), st.integers(1, 10))
def test_every_copy_is_in_a_row_unused_or_open(which: list[int], each: int) -> None:
    reader, kinds = NameReader(Limits(queries=4, flows=2)), [
        Sent(octets=query()),
        Sent(octets=query()).back(answer(), after_ns=5),
        Sent(octets=query("b.example", number=9)),
        Sent(octets=b"\xff" * 40),
        *segments(behind_length(query("tcp.example")), 9),
        *fragments(query(), 40),
    ]  # fmt: skip
    rows = 0
    for at in range(0, len(which), each):
        batch = [kinds[number] for number in which[at : at + each]]
        rows += int(read(reader, *batch).rows["copies"].sum())
        rows += int(reader.expire(SECOND + 10).rows["copies"].sum())
    assert rows + reader.unused + reader.open == len(which)
    rows += int(reader.expire(100 * SECOND).rows["copies"].sum())
    assert reader.open == 0
    assert rows + reader.unused == len(which)


def test_the_same_copies_give_the_same_rows_however_they_are_cut() -> None:
    sent = []
    for number in range(50):
        asked = Sent(octets=query(f"h{number % 7}.example.org", number=number), src_port=2000 + number, time_ns=number)
        sent += [asked, asked.back(answer(f"h{number % 7}.example.org", "192.0.2.1", number=number), after_ns=1000)]

    def rows(step: int) -> list[tuple[object, ...]]:
        reader, found = NameReader(), []
        for at in range(0, len(sent), step):
            part = read(reader, *sent[at : at + step])
            found += [
                (name, int(row["time_ns"]), int(row["client_port"]), int(row["copies"]), int(row["latency_us"]))
                for name, row in zip(named(part), part.rows, strict=True)
            ]
        return sorted(found, key=repr)

    assert rows(1) == rows(7) == rows(len(sent))


def test_a_copy_behind_the_span_is_refused() -> None:
    with pytest.raises(ValueError, match="behind"):
        NameReader().read(heads([Sent(octets=query())]), memoryview(b"abc"), np.zeros(1, np.int64))


def test_nothing_is_nothing() -> None:
    found = read(NameReader())
    assert isinstance(found, Names)
    assert len(found.rows) == 0
