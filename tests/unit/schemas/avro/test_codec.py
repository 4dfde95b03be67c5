import dataclasses
import io
import json
import random
from datetime import UTC, datetime
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings

from common.errors import DecodeError
from schemas.addresses import to_text
from schemas.avro import arrow
from schemas.avro.codec import Codec
from schemas.avro.registry import HEADER, FixedRegistry, newest, schema_text
from schemas.defaults import durations, highest_ttl, packet_sizes
from schemas.fields import DIRECTIONS, TUNNEL_TYPES
from schemas.flows import FlowColumns
from schemas.packets import COUNTS, PacketBatch, PacketEvents
from tests.unit.schemas.strategies import batches, flow_columns
from tests.unit.streams.batches import Packet, batch, coalesced

CODEC = Codec()


def by_fastavro(message: bytes, name: str) -> dict[str, Any]:
    schema = fastavro.parse_schema(json.loads(newest(name)))
    record = fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)
    assert isinstance(record, dict)
    return record


def assert_same(left: object, right: object) -> None:
    """Dataclasses of arrays and plain values are equal, also when a dictionary of names is ordered otherwise."""
    for field in dataclasses.fields(left):  # type: ignore[arg-type]
        a, b = getattr(left, field.name), getattr(right, field.name)
        if dataclasses.is_dataclass(a):
            continue
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


def names_of(batch: PacketBatch) -> list[str]:
    return [batch.interface_names[i] for i in batch.flows.interface]


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: PacketBatch) -> None:
    back = CODEC.decode_packet_batch(CODEC.encode_packet_batch(batch))
    assert names_of(back) == names_of(batch)
    same_names = {"interface_names": batch.interface_names}
    assert_same(dataclasses.replace(back, **same_names), batch)
    assert_same(dataclasses.replace(back.flows, interface=batch.flows.interface), batch.flows)


@given(batches())
def test_a_reader_that_is_not_ours_finds_every_packet(batch: PacketBatch) -> None:
    record = by_fastavro(CODEC.encode_packet_batch(batch), "PacketBatch")
    assert record["node"] == batch.node
    assert record["bytes"] == batch.bytes.tolist()
    assert [flow["src_addr"] for flow in record["flows"]] == to_text(batch.flows.src_addr)
    assert [flow["direction"] for flow in record["flows"]] == [DIRECTIONS[d] for d in batch.flows.direction]
    assert [flow["tunnel_type"] for flow in record["flows"]] == [TUNNEL_TYPES[t] for t in batch.flows.tunnel_type]
    outer = [
        address if tunnel else ""
        for address, tunnel in zip(to_text(batch.flows.outer_src_addr), batch.flows.tunnel_type, strict=True)
    ]
    assert [flow["outer_src_addr"] for flow in record["flows"]] == outer
    assert record["counters"] == [
        {**dataclasses.asdict(c), "direction": DIRECTIONS[c.direction]} for c in batch.counters
    ]


@given(batches())
def test_fastavro_writes_the_same_bytes(batch: PacketBatch) -> None:
    message = CODEC.encode_packet_batch(batch)
    assert arrow.encode_record(by_fastavro(message, "PacketBatch"), newest("PacketBatch")) == message[5:]


@given(batches())
def test_without_pyruhvro_the_result_is_the_same(batch: PacketBatch) -> None:
    message = CODEC.encode_packet_batch(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "pyruhvro", None)
        assert CODEC.encode_packet_batch(batch) == message
        back = CODEC.decode_packet_batch(message)
    assert_same(back, CODEC.decode_packet_batch(message))
    assert_same(back.flows, CODEC.decode_packet_batch(message).flows)


@given(batches())
def test_packet_events_are_the_entries_of_the_batch(batch: PacketBatch) -> None:
    positions = np.arange(len(batch), dtype=np.int64) * 80
    records = [
        by_fastavro(message, "PacketEvent")
        for message in CODEC.encode_packet_events(PacketEvents(batch=batch, ring_position=positions))
    ]
    assert [r["ring_position"] for r in records] == positions.tolist()
    assert [r["time_ns"] for r in records] == (batch.base_ns + batch.time_offset_ns).tolist()
    assert [r["dst_port"] for r in records] == batch.flows.dst_port[batch.flow].tolist()
    assert [r["interface"] for r in records] == [names_of(batch)[i] for i in batch.flow]
    assert {r["coalesced"] for r in records} <= {batch.coalesced}
    assert [r["duration_ns"] for r in records] == durations(batch).tolist()
    assert [r["max_ttl"] for r in records] == highest_ttl(batch).tolist()
    assert [(r["min_packet_bytes"], r["max_packet_bytes"]) for r in records] == list(zip(*packet_sizes(batch)))  # noqa: B905  of one length
    assert [r["tunnel_id"] for r in records] == batch.flows.tunnel_id[batch.flow].tolist()


@given(flow_columns())
def test_flow_records_carry_every_column(flows: FlowColumns) -> None:
    keys, values = CODEC.encode_flow_records(flows, revision=2)
    records = [by_fastavro(value, "FlowRecord") for value in values]
    assert [r["community_id"].encode() for r in records] == keys
    assert {r["revision"] for r in records} == {2}
    assert {r["window_start"] for r in records} == {datetime.fromtimestamp(flows.window_start, UTC)}
    for name in ("packets", "bytes_rev", "tcp_flags", "src_port", "icmp_type", "vlan_id"):
        assert [r[name] for r in records] == getattr(flows, name).tolist(), name
    assert [r["src_addr"] for r in records] == to_text(flows.src_addr)
    assert [r["node"] for r in records] == [flows.node_names[i] for i in flows.node]
    seen = [round((r["last_seen"] - r["window_start"]).total_seconds() * 1e6) for r in records]
    assert seen == flows.last_offset_us.tolist()


def test_live_stats_come_back_as_they_were() -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
    stats = {
        "node": "n",
        "time": now,
        "interval_ms": 1000,
        "active_flows": 3,
        "top": [{"src_addr": "::1", "first_seen": now}],
    }
    back = CODEC.decode_live_stats(CODEC.encode_live_stats(stats))
    assert (back["node"], back["time"], back["active_flows"]) == ("n", now, 3)
    assert back["top"][0]["src_addr"] == "::1"
    assert back["interfaces"] == []


@given(batches())
@settings(max_examples=30)
def test_damaged_bytes_are_an_error_and_nothing_else(batch: PacketBatch) -> None:
    message, random_ = CODEC.encode_packet_batch(batch), random.Random(len(batch))
    for _ in range(100):
        damaged = bytearray(message)
        for _ in range(random_.randint(1, 4)):
            damaged[random_.randrange(5, len(damaged))] = random_.randrange(256)
        cut = damaged[: random_.randrange(5, len(damaged) + 1)]
        try:
            decoded = CODEC.decode_packet_batch(bytes(cut))
        except DecodeError:
            continue
        assert all(0 <= i < len(decoded.flows) for i in decoded.flow)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        b"hello, world",
        HEADER.pack(0, 99) + b"x",
        HEADER.pack(0, 3) + b"x",
        HEADER.pack(1, 1) + b"x",
        HEADER.pack(0, 1),
    ],
    ids=["empty", "short", "text", "unknown id", "another schema", "another magic", "no record"],
)
def test_a_foreign_message_is_a_decode_error(message: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode_packet_batch(message)


@given(batches())
def test_a_batch_of_version_1_is_read_as_one_from_the_ring(batch: PacketBatch) -> None:
    old = schema_text("PacketBatch", 1)
    record = by_fastavro(CODEC.encode_packet_batch(batch), "PacketBatch")
    back = CODEC.decode_packet_batch(HEADER.pack(0, 1) + arrow.encode_record(record, old))
    assert (back.coalesced, len(back.duration_ns), len(back.max_ttl), len(back.min_packet_bytes)) == (False, 0, 0, 0)
    assert not back.flows.tunnel_type.any()
    assert not back.flows.outer_src_addr.any()
    assert np.array_equal(back.bytes, batch.bytes)
    unknown: dict[str, Any] = {
        name: 0 for name in COUNTS if name.startswith(("coalesced", "unknown_link", "device", "unseen"))
    }
    assert list(back.counters) == [dataclasses.replace(row, **unknown, ended=False) for row in batch.counters]


@pytest.mark.parametrize(
    "change",
    [
        {"coalesced_start": 5, "coalesced_end": 4},
        {"coalesced_start": -1},
        {"coalesced_end": 3},
        {"coalesced_end": 2, "ring_end": 80},
        {"duration_ns": np.array([0, -1])},
        {"duration_ns": np.array([0])},
        {"max_ttl": np.zeros(3, np.uint8)},
    ],
    ids=", ".join,
)
def test_coalesced_entries_that_cannot_be_are_a_decode_error(change: dict[str, Any]) -> None:
    good = coalesced([Packet(time_ns=5), Packet(time_ns=6)])
    assert CODEC.decode_packet_batch(CODEC.encode_packet_batch(good)).coalesced
    with pytest.raises(DecodeError):
        CODEC.decode_packet_batch(CODEC.encode_packet_batch(dataclasses.replace(good, **change)))


@pytest.mark.parametrize(("name", "value"), [("icmp_type", -2), ("icmp_type", 256), ("vlan_id", 4096)])
def test_a_key_that_cannot_be_is_a_decode_error(name: str, value: int) -> None:
    good = batch([Packet(time_ns=5, protocol=1, icmp_type=-1)])
    assert CODEC.decode_packet_batch(CODEC.encode_packet_batch(good)).flows.icmp_type.tolist() == [-1]
    getattr(good.flows, name)[0] = value
    with pytest.raises(DecodeError, match=f"{name} is out of range"):
        CODEC.decode_packet_batch(CODEC.encode_packet_batch(good))


def test_a_kind_of_tunnel_that_we_do_not_know_is_none() -> None:
    newer = newest("PacketBatch").replace('"gtpu"]', '"gtpu", "l2tp"]')
    record = {"node": "n1", "flows": [{"src_addr": "1.2.3.4", "dst_addr": "::1", "tunnel_type": "l2tp"}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("schemas.avro.registry.FixedRegistry.schema", lambda self, schema_id: newer)
        back = Codec().decode_packet_batch(HEADER.pack(0, 77) + arrow.encode_record(record, newer))
    assert back.flows.tunnel_type.tolist() == [0]


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [('["egress", "ingress"]', [0, 1]), ('["ingress", "egress", "both"]', None)],
    ids=["in another order", "one that we do not have"],
)
def test_a_direction_is_read_by_its_name(symbols: str, expected: list[int] | None) -> None:
    other = newest("PacketBatch").replace('["ingress", "egress"]', symbols)
    flow = {"src_addr": "1.2.3.4", "dst_addr": "::1"}
    flows = [{**flow, "direction": "ingress"}, {**flow, "direction": "egress" if expected else "both"}]
    message = HEADER.pack(0, 77) + arrow.encode_record({"node": "n1", "flows": flows}, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("schemas.avro.registry.FixedRegistry.schema", lambda self, schema_id: other)
        if expected:
            assert Codec().decode_packet_batch(message).flows.direction.tolist() == expected
        else:
            with pytest.raises(DecodeError, match="direction is none of"):
                Codec().decode_packet_batch(message)


@pytest.mark.parametrize("place", [b"\x04", b"\x01"], ids=["2", "-1"])
def test_a_place_without_a_symbol_is_a_decode_error(place: bytes) -> None:
    record = {"node": "n1", "flows": [{"interface": "if0", "src_addr": "1.2.3.4", "dst_addr": "::1"}]}
    message = HEADER.pack(0, FixedRegistry().schema_id("PacketBatch")) + arrow.encode_record(
        record, newest("PacketBatch")
    )
    at = message.index(b"if0") + 3
    assert message[at] == 0
    with pytest.raises(DecodeError, match="direction is none of"):
        CODEC.decode_packet_batch(message[:at] + place + message[at + 1 :])


def test_a_message_of_an_older_schema_takes_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    old = json.loads(newest("PacketBatch"))
    old["fields"] = [f for f in old["fields"] if f["name"] not in {"counters", "clock_ns", "tcp_flags"}]
    message = HEADER.pack(0, 77) + arrow.encode_record({"node": "n1", "base_ns": 5}, json.dumps(old))
    monkeypatch.setattr("schemas.avro.registry.FixedRegistry.schema", lambda self, schema_id: json.dumps(old))
    batch = Codec().decode_packet_batch(message)
    assert (batch.node, batch.base_ns, batch.clock_ns, batch.counters, len(batch)) == ("n1", 5, 0, (), 0)
