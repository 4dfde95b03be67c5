"""Packets of some messages, without Kafka: tests/integration/test_consume.py has it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ayaflow.consume import PacketPart, Packets
from ayaflow.consume.packets import Places
from common.errors import DecodeError
from schemas.avro.codec import Codec
from schemas.batches import Extent
from schemas.fields import KEYS, PACKET_COLUMNS
from schemas.packets import PacketBatch, PacketEvents
from streams.partition.rings import Rings
from tests.unit.ayaflow.consume.fetched import fetched
from tests.unit.schemas.avro.test_codec import by_fastavro
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, coalesced

CODEC = Codec()


def part(
    reader: Packets, batches: Sequence[PacketBatch | bytes], memory: Places | None = None, **where: int
) -> PacketPart:
    values = [each if isinstance(each, bytes) else CODEC.encode_packet_batch(each) for each in batches]
    return reader._part(fetched(memory or Places(), values, **where))


def packets_of(count: int, **more: Any) -> list[Packet]:
    return [Packet(time_ns=SECOND + n, src_port=n % 3, bytes=60 + n, ttl=10 + n, **more) for n in range(count)]


def test_a_row_of_the_table_is_what_a_single_packets_message_says() -> None:
    """Several nodes, directions, interfaces and tunnels, super-packets and coalesced entries."""
    super_packet = Packet(time_ns=SECOND, interface="eth1", direction=1, packets=3, bytes=4000, segment_bytes=1514)
    tunnelled = Packet(time_ns=SECOND, tunnel_type=1, tunnel_id=7, outer_src="192.0.2.1", outer_dst="2001:db8::2")
    batches = [
        batch([*packets_of(5), super_packet], node="a"),
        batch([tunnelled, super_packet, *packets_of(2, direction=1)], node="b"),
        coalesced(packets_of(3, duration_ns=5, max_ttl=99, max_packet_bytes=70), node="a", ring_id=8),
    ]
    table = part(Packets(), batches).table()
    rows, moments = table.drop(["time"]).to_pylist(), table["time"].cast("int64").to_pylist()
    events = [
        by_fastavro(message, "PacketEvent")
        for each in batches
        for message in CODEC.encode_packet_events(PacketEvents(batch=each, ring_position=range(len(each))))
    ]
    assert len(rows) == len(events) == 13
    assert moments == [event["time_us"] * 1000 + event["time_remainder_ns"] for event in events]
    assert rows == [{name: event[name] for name in row} for row, event in zip(rows, events, strict=True)]


def test_columns_are_those_of_the_contract() -> None:
    found = part(Packets(), [batch(packets_of(4))])
    for column in PACKET_COLUMNS:
        assert getattr(found, column.name).dtype == np.dtype(column.numpy), column.name
    assert found.flows.column_names == [field.name for field in KEYS]
    assert found.time_ns.tolist() == [SECOND + n for n in range(4)]


def test_sums_by_flow_need_no_table() -> None:
    found = part(Packets(), [batch(packets_of(6)), batch(packets_of(6), node="other")])
    octets = np.bincount(found.flow, found.bytes, minlength=len(found.flows))
    by_port: dict[int, float] = {}
    for flow, size in zip(found.flows.to_pylist(), octets.tolist(), strict=True):
        by_port[flow["src_port"]] = by_port.get(flow["src_port"], 0) + size
    assert by_port == {port: 2 * (120 + 3 + 2 * port) for port in range(3)}


def test_totals_are_right_by_default_and_all_passages_come_when_asked_for() -> None:
    mixed = [*packets_of(3), *packets_of(4, primary=0, interface="eth1")]
    assert len(part(Packets(), [batch(mixed)])) == 3
    assert len(part(Packets(primary_only=False), [batch(mixed)])) == 7
    assert len(part(Packets(), [batch(mixed[3:])])) == 0


def test_a_range_is_of_packets_not_of_messages() -> None:
    begin = datetime.fromtimestamp(1, UTC)
    batches = [batch(packets_of(5)), batch([Packet(time_ns=3 * SECOND)], ring_start=5 * STRIDE)]
    found = part(Packets(since=begin, until=begin + timedelta(microseconds=1)), batches)
    assert found.time_ns.tolist() == [SECOND + n for n in range(5)]


def test_nothing_new_is_a_part_without_rows() -> None:
    memory, one = Places(), batch(packets_of(3))
    assert len(part(Packets(), [one], memory)) == 3
    again = part(Packets(), [one], memory, first=1)
    assert (len(again), again.duplicates, again.table().num_rows, len(again.flows)) == (0, 3, 0, 0)


def test_what_is_only_remembered_is_known_and_not_in_the_part() -> None:
    all_packets = packets_of(10)
    batches = [batch(all_packets[:6]), batch(all_packets[3:], ring_start=3 * STRIDE)]
    found = part(Packets(), batches, first=4, begin=5)
    assert found.bytes.tolist() == [each.bytes for each in all_packets[6:]]
    assert (found.duplicates, found.offsets) == (3, {0: range(5, 6)})


def test_messages_that_are_none_are_told_and_change_nothing() -> None:
    late = batch([Packet(time_ns=2**62)])
    backwards = batch(packets_of(2))
    poison: list[PacketBatch | bytes] = [b"", b"hello", late, CODEC.encode_packet_batch(backwards)[:-1]]
    found = part(Packets(), [*poison, backwards])
    assert (len(found), [each.offset for each in found.skipped]) == (2, [0, 1, 2, 3])


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    begin, count, ring = draw(st.integers(0, 12)), draw(st.integers(0, 5)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        return Extent("n", ring, 10 * begin, 10 * (begin + count), sent := draw(st.integers(0, 6)), sent, count)
    position = 10 * draw(st.integers(0, 12))
    return Extent("n", ring, position, position, begin, begin + count, count)


@given(st.lists(extents(), max_size=20))
@settings(max_examples=300)
def test_packets_are_judged_as_streams_judges_them(made: list[Extent]) -> None:
    places, rings = Places(), Rings()
    for offset, extent in enumerate(made):
        try:
            expected = rings.judge(extent, offset, 0.0).begin
        except DecodeError:
            expected = -1
        try:
            known = places.known(extent)
        except DecodeError:
            known = -1
        assert known == expected
