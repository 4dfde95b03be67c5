"""Flow records read by columns: as fastavro reads them one by one, or told to be none."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DecodeError
from schemas.avro import reader
from schemas.avro.arrow import flow_schema
from schemas.avro.codec import Codec
from schemas.avro.flow_decoder import DecodedFlows, decode_flows
from schemas.avro.records import decode_record, encode_record
from schemas.avro.registry import HEADER, FixedRegistry, newest
from schemas.flows import FlowColumns
from tests.unit.schemas.strategies import flow_columns

CODEC = Codec()
REGISTRY = FixedRegistry()
SCHEMA = newest("FlowRecord")
OURS = HEADER.pack(0, REGISTRY.schema_id("FlowRecord"))
TIMES = ("window_begin", "first_seen", "last_seen")


class Known(FixedRegistry):
    """Our schemas and others."""

    def __init__(self, others: dict[int, str]) -> None:
        self._others = others

    def schema(self, schema_id: int) -> str:
        return self._others.get(schema_id) or super().schema(schema_id)


def values_of(flows: FlowColumns) -> list[bytes]:
    return CODEC.encode_flow_records(flows, topic_id=7, kafka_partition=3, revision=2)[1]


def without_anything_compiled(messages: list[bytes]) -> DecodedFlows:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_read_rows", None)
        return decode_flows(REGISTRY, messages)


def record(**changes: Any) -> dict[str, Any]:
    fields = {field["name"]: field["default"] for field in json.loads(SCHEMA)["fields"]}
    return {**fields, "node": "n1", "packets": 3, **changes}


def message(schema: str = SCHEMA, header: bytes = OURS, /, **changes: Any) -> bytes:
    names = {field["name"] for field in json.loads(schema)["fields"]}
    return header + encode_record({name: value for name, value in record(**changes).items() if name in names}, schema)


@given(flow_columns())
def test_records_are_what_fastavro_reads(flows: FlowColumns) -> None:
    messages = values_of(flows)
    found = decode_flows(REGISTRY, messages)
    assert (found.problems, found.numbers.tolist()) == ({}, list(range(len(messages))))
    assert found.rows.schema.equals(flow_schema())
    assert found.rows.to_pylist() == [decode_record(each[HEADER.size :], SCHEMA) for each in messages]
    found.rows.validate(full=True)


@given(flow_columns())
def test_without_anything_compiled_the_result_is_the_same(flows: FlowColumns) -> None:
    messages = values_of(flows)
    assert without_anything_compiled(messages).rows.equals(decode_flows(REGISTRY, messages).rows)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_texts_of_any_alphabet_come_back(nodes: list[str]) -> None:
    found = decode_flows(REGISTRY, [message(node=node) for node in nodes])
    assert found.rows["node"].to_pylist() == nodes


def told_as_python_tells(texts: list[bytes]) -> None:
    """Each as the name of a node."""
    empty = message(node="")
    place = empty.index(b"\0", HEADER.size + 1)  # behind the empty record_id
    found = decode_flows(REGISTRY, [empty[:place] + bytes([2 * len(t)]) + t + empty[place + 1 :] for t in texts])
    assert found.numbers.tolist() == [number for number, text in enumerate(texts) if is_text(text)]


def is_text(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=40))
def test_octets_that_are_no_text_are_a_problem(texts: list[bytes]) -> None:
    told_as_python_tells(texts)


BOUNDS = "c3a9 e282ac f09f9880 f48fbfbf ed9fbf c2 c1bf c080 e08080 eda080 f4908080 f8888080 80 e282 f09f98 f08fbfbf"


@pytest.mark.parametrize("octets", BOUNDS.split())
@pytest.mark.parametrize("around", [b"", b"12345678"])
def test_the_bounds_of_utf_8(octets: str, around: bytes) -> None:
    told_as_python_tells([around + bytes.fromhex(octets), bytes.fromhex(octets) + around])


@given(flow_columns(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_damaged_records_are_told_and_the_others_are_right(flows: FlowColumns, seed: int) -> None:
    random_ = random.Random(seed)
    messages = []
    for each in values_of(flows):
        damaged = bytearray(each)
        for _ in range(random_.randint(0, 3)):
            damaged[random_.randrange(HEADER.size, len(damaged))] = random_.randrange(256)
        messages.append(bytes(damaged[: random_.choice([len(damaged), random_.randrange(5, len(damaged) + 1)])]))
    found, expected = decode_flows(REGISTRY, messages), without_anything_compiled(messages)
    assert {*found.numbers.tolist()} | found.problems.keys() == {*range(len(messages))}
    assert not {*found.numbers.tolist()} & found.problems.keys()
    for number in {*expected.numbers.tolist()} - {*found.numbers.tolist()}:
        octets = messages[number][HEADER.size :]  # fastavro takes any octet for a boolean, and numbers of any length
        assert encode_record(decode_record(octets, SCHEMA), SCHEMA) != octets
    rows = dict(zip(expected.numbers.tolist(), expected.rows.to_pylist(), strict=True))
    assert [rows[number] for number in found.numbers.tolist()] == found.rows.to_pylist()
    found.rows.validate(full=True)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by fastavro"])
def test_what_is_no_flow_record_is_told_and_left_out(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(reader, "_read_rows", None)
    good = message()
    foreign = {
        "no Confluent framing": b"",
        "schema id 99": HEADER.pack(0, 99) + good[5:],
        "a PacketBatch where": HEADER.pack(0, REGISTRY.schema_id("PacketBatch")) + good[5:],
        "not an Avro record": OURS,
        "octets are left behind": good + b"x",
        "src_port is out of range": message(src_port=2**40),
        "window_begin is out of range": message(window_begin=2**61),
    }
    found = decode_flows(REGISTRY, [good, *foreign.values(), good, b"{}"])
    assert found.numbers.tolist() == [0, len(foreign) + 1]
    assert found.rows["packets"].to_pylist() == [3, 3]
    if compiled:
        for (words, _), (_, why) in zip(foreign.items(), sorted(found.problems.items()), strict=False):
            assert words in why


def test_records_of_several_schemas_keep_their_order() -> None:
    older = json.loads(SCHEMA)
    lacking = {"record_id", "primary", "tunnel_type", "bytes"}
    older["fields"] = [field for field in older["fields"] if field["name"] not in lacking]
    newer = json.loads(SCHEMA)
    newer["fields"].insert(4, {"name": "cost", "type": ["null", "double"], "default": None})
    plain = json.loads(SCHEMA)
    plain["fields"].insert(2, {"name": "path", "type": {"type": "array", "items": "string"}, "default": []})
    plain["fields"].append({"name": "zone", "type": "string", "default": ""})
    others = {number: json.dumps(each) for number, each in enumerate((older, newer, plain), 50)}
    ids = [3, 50, 51, 3, 52, 51, 50]
    messages = [message(others.get(each, SCHEMA), HEADER.pack(0, each), packets=n) for n, each in enumerate(ids)]
    found = decode_flows(Known(others), messages)
    assert (found.problems, found.numbers.tolist()) == ({}, list(range(len(ids))))
    assert found.rows["packets"].to_pylist() == list(range(len(ids)))
    assert found.rows.schema.equals(flow_schema())
    first = found.rows.to_pylist()[1]
    assert {name: first[name] for name in lacking} == {
        "record_id": "",
        "primary": True,
        "tunnel_type": "none",
        "bytes": 0,
    }


def test_a_field_of_another_type_is_a_problem_of_each_message() -> None:
    other = json.loads(SCHEMA)
    other["fields"] = [{"name": "packets", "type": "string"} if f["name"] == "packets" else f for f in other["fields"]]
    text = json.dumps(other)
    found = decode_flows(Known({60: text}), [message(text, HEADER.pack(0, 60), packets="3"), message()])
    assert found.numbers.tolist() == [1]
    assert "packets is a field of another type" in found.problems[0]


def test_times_are_utc_with_the_milliseconds_that_were_sent() -> None:
    moment = datetime(2026, 3, 1, 12, 30, 0, 7000, UTC)
    (row,) = decode_flows(REGISTRY, [message(**dict.fromkeys(TIMES, moment))]).rows.to_pylist()
    assert {row[name] for name in TIMES} == {moment}


def test_nothing_is_an_empty_table() -> None:
    assert decode_flows(REGISTRY, []).rows.schema.equals(flow_schema())
    assert len(decode_flows(REGISTRY, [b""]).rows) == 0


@given(flow_columns())
@settings(max_examples=20)
def test_more_than_fits_into_a_column_of_texts_is_read_in_parts(flows: FlowColumns) -> None:
    messages = [b"", *values_of(flows), OURS, message()]
    expected = decode_flows(REGISTRY, messages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_AT_A_TIME", 700)
        found = decode_flows(REGISTRY, messages)
    assert found.rows.equals(expected.rows)
    assert (found.numbers.tolist(), found.problems) == (expected.numbers.tolist(), expected.problems)


def test_a_registry_that_knows_nothing_is_told_of_each_message() -> None:
    class Nobody(FixedRegistry):
        def schema(self, schema_id: int) -> str:
            raise DecodeError(f"never heard of {schema_id}")

    assert decode_flows(Nobody(), [message()] * 3).problems == dict.fromkeys(range(3), "never heard of 3")
