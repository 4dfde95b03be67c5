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
from schemas.avro import reader
from schemas.avro.codec import Codec
from schemas.avro.columns import long
from schemas.avro.flow_encoder import arrow_rows
from schemas.avro.records import encode_record
from schemas.avro.registry import HEADER, newest
from schemas.defaults import durations, highest_ttl, packet_sizes
from schemas.fields import DIRECTIONS, NAMED, TUNNEL_TYPES
from schemas.flows import FlowColumns
from schemas.packets import PacketBatch, PacketEvents
from schemas.record_id import record_ids
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
    assert record["flow_src_addr"] == to_text(batch.flows.src_addr)
    assert record["flow_direction"] == [DIRECTIONS[d] for d in batch.flows.direction]
    assert record["flow_tunnel_type"] == [TUNNEL_TYPES[t] for t in batch.flows.tunnel_type]
    outer = [
        address if tunnel else ""
        for address, tunnel in zip(to_text(batch.flows.outer_src_addr), batch.flows.tunnel_type, strict=True)
    ]
    assert record["flow_outer_src_addr"] == outer
    assert record["counter_seen_packets"] == [c.seen_packets for c in batch.counters]
    assert record["counter_direction"] == [DIRECTIONS[c.direction] for c in batch.counters]
    assert record["counter_end_us"] == [c.end_ns // 1000 for c in batch.counters]


@given(batches())
def test_fastavro_writes_the_same_bytes(batch: PacketBatch) -> None:
    message = CODEC.encode_packet_batch(batch)
    assert encode_record(by_fastavro(message, "PacketBatch"), newest("PacketBatch")) == message[5:]


@given(batches())
def test_without_anything_compiled_the_result_is_the_same(batch: PacketBatch) -> None:
    message = CODEC.encode_packet_batch(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_scan", None)
        back = CODEC.decode_packet_batch(message)
    assert_same(back, CODEC.decode_packet_batch(message))
    assert_same(back.flows, CODEC.decode_packet_batch(message).flows)


def test_the_nanoseconds_of_a_base_are_in_the_offsets() -> None:
    odd = dataclasses.replace(batch([Packet(time_ns=5)]), base_ns=1_000_007)
    back = CODEC.decode_packet_batch(CODEC.encode_packet_batch(odd))
    assert back.base_ns == 1_000_000
    assert (back.base_ns + back.time_offset_ns).tolist() == (odd.base_ns + odd.time_offset_ns).tolist()


@given(batches())
def test_packet_events_are_the_entries_of_the_batch(batch: PacketBatch) -> None:
    positions = np.arange(len(batch), dtype=np.int64) * 80
    records = [
        by_fastavro(message, "PacketEvent")
        for message in CODEC.encode_packet_events(PacketEvents(batch=batch, ring_position=positions))
    ]
    assert [r["ring_position"] for r in records] == positions.tolist()
    times = [r["time_us"] * 1000 + r["time_remainder_ns"] for r in records]
    assert times == (batch.base_ns + batch.time_offset_ns).tolist()
    assert [r["dst_port"] for r in records] == batch.flows.dst_port[batch.flow].tolist()
    assert [r["interface"] for r in records] == [names_of(batch)[i] for i in batch.flow]
    assert {r["coalesced"] for r in records} <= {batch.coalesced}
    assert [r["duration_ns"] for r in records] == durations(batch).tolist()
    assert [r["max_ttl"] for r in records] == highest_ttl(batch).tolist()
    assert [(r["min_packet_bytes"], r["max_packet_bytes"]) for r in records] == list(zip(*packet_sizes(batch)))  # noqa: B905  of one length
    assert [r["tunnel_id"] for r in records] == batch.flows.tunnel_id[batch.flow].tolist()


@given(flow_columns())
def test_flow_records_carry_every_column(flows: FlowColumns) -> None:
    keys, values = CODEC.encode_flow_records(flows, topic_id=7, kafka_partition=3, revision=2)
    records = [by_fastavro(value, "FlowRecord") for value in values]
    assert [r["community_id"].encode() for r in records] == keys
    assert {r["revision"] for r in records} == {2}
    assert {r["window_begin"] for r in records} == {datetime.fromtimestamp(flows.window_begin, UTC)}
    for name in ("packets", "bytes_rev", "tcp_flags", "src_port", "icmp_type", "vlan_id", "last_offset_us"):
        assert [r[name] for r in records] == getattr(flows, name).tolist(), name
    assert [r["src_addr"] for r in records] == to_text(flows.src_addr)
    assert [r["node"] for r in records] == [flows.node_names[i] for i in flows.node]
    seen = [round((r["last_seen"] - r["window_begin"]).total_seconds() * 1e3) for r in records]
    assert seen == (flows.last_offset_us // 1000).tolist()
    ids = record_ids(flows, topic_id=7, kafka_partition=3, revision=2)
    assert [r["record_id"].encode() for r in records] == ids.tolist()


@given(flow_columns())
def test_arrow_has_the_same_columns_as_the_topic(flows: FlowColumns) -> None:
    _, values = CODEC.encode_flow_records(flows, topic_id=0, kafka_partition=0, revision=0)
    rows = [{n: _milliseconds(v) for n, v in row.items()} for row in arrow_rows(flows).to_pylist()]
    naive = [
        {
            n: v.replace(tzinfo=None) if isinstance(v, datetime) else v
            for n, v in by_fastavro(each, "FlowRecord").items()
        }
        for each in values
    ]
    assert rows == naive


def _milliseconds(value: Any) -> Any:
    return value.replace(microsecond=value.microsecond // 1000 * 1000) if isinstance(value, datetime) else value


def test_live_stats_come_back_as_they_were() -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, 123000, UTC)
    seen = datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
    stats = {
        "node": "n",
        "time": now,
        "interval_ms": 1000,
        "active_flows": 3,
        "interfaces": [{"interface": "eth0", "direction": "egress", "packets": 5}],
        "top": [{"src_addr": "::1", "first_seen": seen}],
    }
    back = CODEC.decode_live_stats(CODEC.encode_live_stats(stats))
    assert (back["node"], back["time"], back["active_flows"]) == ("n", now, 3)
    assert (back["top"][0]["src_addr"], back["top"][0]["first_seen"]) == ("::1", seen)
    assert back["top"][0]["tunnel_type"] == "none"
    assert back["interfaces"][0] == {"interface": "eth0", "direction": "egress", "packets": 5} | {
        name: 0 for name in back["interfaces"][0] if name.endswith(("_packets", "bytes"))
    }
    assert CODEC.decode_live_stats(CODEC.encode_live_stats({"node": "n"}))["top"] == []


@pytest.mark.parametrize(
    "change", [{"top_src_addr": ["::1"]}, {"top_first_seen_us": [2**62]}, {"interface": ["a", "b"]}]
)
def test_live_stats_that_cannot_be_are_a_decode_error(change: dict[str, Any]) -> None:
    record = by_fastavro(CODEC.encode_live_stats({"node": "n", "interfaces": [{}], "top": [{}, {}]}), "LiveStats")
    first = {name: value[:1] if name.startswith("top_") else value for name, value in record.items()}
    good = record if "top_src_addr" in change else first
    message = CODEC.encode_live_stats({})[:5] + encode_record(good | change, newest("LiveStats"))
    with pytest.raises(DecodeError):
        CODEC.decode_live_stats(message)


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


FLOW = {
    "flow_interface": ["if0", "if0"],
    "flow_direction": ["ingress", "egress"],
    "flow_protocol": [6, 17],
    "flow_src_addr": ["1.2.3.4", "::1"],
    "flow_dst_addr": ["::ffff:1.2.3.4", "fe80::1"],
}


def of_columns(columns: dict[str, Any], schema: str | None = None) -> PacketBatch:
    """A message of two flows, written by somebody else, and read by us."""
    keys = [name for name in json.loads(newest("PacketBatch"))["fields"] if name["name"].startswith("flow_")]
    plain = {each["name"]: 2 * [_default(each["name"], each["type"]["items"])] for each in keys}
    record = {"node": "n1", **plain, **FLOW, **columns}
    with pytest.MonkeyPatch.context() as patch:
        written = schema or newest("PacketBatch")
        patch.setattr("schemas.avro.registry.FixedRegistry.schema", lambda self, schema_id: written)
        return Codec().decode_packet_batch(HEADER.pack(0, 77) + encode_record(record, written))


def _default(name: str, kind: str) -> Any:
    if name in {"flow_domain", "flow_ja4", "flow_alpn"}:
        return -1
    return "none" if name == "flow_tunnel_type" else {"string": "", "boolean": True}.get(kind, 0)


def test_a_kind_of_tunnel_that_we_do_not_know_is_none() -> None:
    assert of_columns({"flow_tunnel_type": ["l2tp", "gre"]}).flows.tunnel_type.tolist() == [0, 3]


def test_a_source_of_names_that_we_do_not_know_keeps_the_name_and_is_none() -> None:
    batch = of_columns({"domains": ["a.example"], "flow_domain": [0, -1], "flow_domain_source": ["tarot", ""]})
    assert (batch.flows.domain.tolist(), batch.flows.domain_source.tolist()) == ([0, -1], [0, 0])


def test_a_writer_that_knows_domains_and_nothing_else_of_names_is_understood() -> None:
    only: dict[str, list[Any]] = {
        name: [] for name in ("flow_domain_source", "flow_domain_count", "flow_ja4", "flow_alpn")
    }
    batch = of_columns({"domains": ["a.example"], "flow_domain": [0, -1], **only})
    found = [getattr(batch.flows, field.name).tolist() for field in NAMED]
    assert found == [[0, -1], [0, 0], [0, 0], [-1, -1], [-1, -1]]


@pytest.mark.parametrize(
    "columns",
    [
        {"flow_domain": [0, -1]},
        {"flow_domain": [-2, -1], "domains": ["a"]},
        {"flow_ja4": [-1], "ja4s": ["a"]},
        {"flow_domain_count": [0, 65_536]},
        {"flow_direction": ["ingress", "both"]},
        {"flow_protocol": [6, 256]},
        {"flow_protocol": [-1, 6]},
        {"flow_src_addr": ["1.2.3.4", ""]},
        {"flow_src_addr": ["1.2.3.4", "1.2.3"]},
        {"flow_src_addr": ["1.2.3.4", "1.2.3.4.5"]},
        {"flow_src_addr": ["1.2.3.4", "1.2.3.256"]},
        {"flow_src_addr": ["1.2.3.4", "1..3.4"]},
        {"flow_src_addr": ["1.2.3.4", "1.2.3.4 "]},
        {"flow_src_addr": ["1.2.3.4", "0001.2.3.4"]},
        {"flow_src_addr": ["1.2.3.4", "::1\0"]},
        {"flow_src_addr": ["1.2.3.4", ":" * 60]},
        {"flow_src_addr": ["1.2.3.4"]},
        {"flow_interface": ["if0"]},
        {"flow_epoch": [1, 2, 3]},
        {"counter_epoch": [1], "counter_interface": ["a", "b"]},
        {"clock_us": 2**62},
        {"flow": [2], "packets": [1]},
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by fastavro"])
def test_columns_that_cannot_be_are_a_decode_error(
    columns: dict[str, Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(reader, "_scan", None)
    assert len(of_columns({}).flows) == 2
    with pytest.raises(DecodeError):
        of_columns(columns)


def test_a_message_of_an_older_schema_takes_the_defaults() -> None:
    old = json.loads(newest("PacketBatch"))
    lacking = {"counter_epoch", "clock_us", "tcp_flags", "flow_vlan_id", "flow_primary", "flow_tunnel_type"}
    old["fields"] = [f for f in old["fields"] if f["name"] not in lacking]
    found = of_columns({"base_us": 5}, json.dumps(old))
    assert (found.node, found.base_ns, found.clock_ns, found.counters, len(found)) == ("n1", 5000, 0, (), 0)
    assert (found.flows.vlan_id.tolist(), found.flows.primary.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize(
    "kind",
    ["double", "bytes", ["null", "string"], {"type": "array", "items": "double"}, {"type": "map", "values": "int"}],
    ids=str,
)
def test_a_message_of_a_newer_schema_is_read_whatever_it_adds(kind: Any) -> None:
    newer = json.loads(newest("PacketBatch"))
    newer["fields"].insert(3, {"name": "new", "type": kind})
    value = {"double": 1.5, "bytes": b"x"}.get(
        str(kind), [2.5] if "items" in str(kind) else {"a": 1} if "map" in str(kind) else None
    )
    found = of_columns({"new": value}, json.dumps(newer))
    assert (found.node, found.flows.protocol.tolist()) == ("n1", [6, 17])


def test_a_field_of_another_type_is_a_decode_error() -> None:
    other = json.loads(newest("PacketBatch"))
    other["fields"] = [{"name": "ring_id", "type": "string"} if f["name"] == "ring_id" else f for f in other["fields"]]
    with pytest.raises(DecodeError, match="ring_id is a field of another type"):
        of_columns({"ring_id": "7"}, json.dumps(other))


def test_an_array_in_several_blocks_is_one_array() -> None:
    message = CODEC.encode_packet_batch(batch([Packet(time_ns=5), Packet(time_ns=6)]))
    expected = CODEC.decode_packet_batch(message)
    one_block, tos = long(2) + long(0) + long(0) + long(0), 0
    for blocks in (long(1) + long(0) + long(1) + long(0) + long(0), long(-2) + long(2) + long(0) + long(0) + long(0)):
        tos = message.index(one_block)
        other = CODEC.decode_packet_batch(message[:tos] + blocks + message[tos + len(one_block) :])
        assert_same(dataclasses.replace(other, flows=expected.flows), expected)
    assert tos
