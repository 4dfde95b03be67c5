"""PacketBatch is written as fastavro writes it, octet for octet, whatever stands in it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer.capture.testing import counters
from schemas.addresses import to_text
from schemas.avro import native, plain
from schemas.avro.columns import addresses, booleans, choices, long, string, texts
from schemas.avro.columns import longs as longs_of
from schemas.avro.packet_encoder import BatchEncoder, Writer, records
from schemas.avro.records import encode_record
from schemas.avro.registry import HEADER, FixedRegistry, newest
from schemas.fields import (
    DIRECTIONS,
    DOMAIN_SOURCES,
    KEYS,
    NAMED,
    PACKET_COLUMNS,
    TUNNEL_TYPES,
    Field,
    Kind,
    PacketColumn,
)
from schemas.packets import EpochCounters, FlowKeys, PacketBatch
from tests.unit.streams.batches import batch as made

both = pytest.mark.parametrize("writer", [native, plain], ids=["compiled", "numpy"])

longs = st.integers(-(2**63), 2**63 - 1)
addresses_16 = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=4, max_size=4).map(lambda octets: bytes(10) + b"\xff\xff" + octets),
    st.sampled_from([bytes(16), bytes(15) + b"\1", bytes(12) + b"\1\2\3\4", bytes(10) + b"\xff\xff" + bytes(4)]),
)


def _values(field: Field) -> st.SearchStrategy[Any]:
    match field.kind:
        case Kind.NAME:
            return st.integers(0, 1)
        case Kind.ADDRESS:
            return addresses_16
        case Kind.CHOICE:
            return st.integers(0, len(field.choices) - 1)
    return st.integers(field.smallest, field.largest)


_KEYS = {field.name: field for field in KEYS if field.name != "node"}
_NAMED = {field.name: field for field in NAMED}
_NAMED_VALUES = {name: st.integers(-1, 1) if field.listed else _values(field) for name, field in _NAMED.items()}
flow = st.fixed_dictionaries(
    {name: _values(field) for name, field in _KEYS.items()} | {"epoch": st.integers(0, 2**62)} | _NAMED_VALUES
)
_TYPES = {name: field.type.numpy for name, field in (_KEYS | _NAMED).items()} | {"epoch": "<i8"}
NUMBERS = [name for name in EpochCounters.__dataclass_fields__ if name not in {"interface", "direction", "primary"}]
rows = st.lists(
    st.fixed_dictionaries(dict.fromkeys(NUMBERS, longs)).flatmap(
        lambda numbers: st.integers(0, 1).map(
            lambda d: counters(**numbers, direction=d, primary=d == 1, interface="ü0")
        )
    ),
    max_size=3,
)


@st.composite
def batches(draw: st.DrawFn) -> PacketBatch:
    flows = draw(st.lists(flow, max_size=5))
    packets = draw(
        st.lists(
            st.tuples(longs, st.integers(-(2**31), 2**31 - 1), longs, st.integers(0, 511)), max_size=30 if flows else 0
        )
    )

    named = draw(st.booleans())

    def column(name: str) -> Any:
        if name in _NAMED and not named:
            return np.zeros(0, _TYPES[name])
        if name.endswith("_addr"):
            there = [f["tunnel_type"] > 0 or not name.startswith("outer_") for f in flows]
            octets: list[Any] = [f[name] if present else bytes(16) for f, present in zip(flows, there, strict=True)]
            return np.frombuffer(b"".join(octets), np.uint8).reshape(-1, 16)
        return np.array([f[name] for f in flows], _TYPES[name])

    def values(column: PacketColumn) -> Any:
        """As many as there are packets; where a column may be empty, perhaps fewer."""
        rows = [p for p in packets if not column.may_be_empty or draw(st.booleans())]
        return np.array([p[2] for p in rows], np.int64).astype(column.numpy)

    return PacketBatch(
        node=draw(st.text(min_size=1, max_size=70).filter(lambda t: t.isprintable())),
        ring_id=draw(longs),
        ring_start=draw(longs),
        ring_end=draw(longs),
        sequence=draw(longs),
        clock_ns=draw(longs),
        base_ns=draw(longs),
        interface_names=("eth0", "a-much-longer-name"),
        flows=FlowKeys(**{name: column(name) for name in FlowKeys.__dataclass_fields__}),
        flow=np.array([draw(st.integers(0, len(flows) - 1)) for _ in packets], np.int32),
        time_offset_ns=np.array([p[0] % 2**62 for p in packets], np.int64),
        coalesced_start=draw(longs),
        coalesced_end=draw(longs),
        **({"domains": ("www.example", "ü" * 300), "ja4s": ("a", "b"), "alpns": ("h2", "")} if named else {}),
        **{column.name: values(column) for column in PACKET_COLUMNS},
        counters=tuple(draw(rows)),
    )


def record(batch: PacketBatch) -> dict[str, Any]:
    """As a reader of Avro sees it."""
    members = {name: getattr(batch, name) for name in PacketBatch.__dataclass_fields__}
    columns = {name: value.tolist() for name, value in members.items() if isinstance(value, np.ndarray)}
    columns["time_offset_ns"] = (batch.time_offset_ns + batch.base_ns % 1000).tolist()
    for name in FlowKeys.__dataclass_fields__:
        columns[f"flow_{name}"] = [value_of(batch, name, i) for i in range(len(getattr(batch.flows, name)))]
    columns |= {name: list(members[name]) for name in ("domains", "ja4s", "alpns")}
    rows = [dataclasses.asdict(row) | {"direction": DIRECTIONS[row.direction]} for row in batch.counters]
    for name in EpochCounters.__dataclass_fields__:
        columns[f"counter_{name}"] = [row[name] for row in rows]
    found = members | columns
    for name in [name for name in found if name.endswith("_ns")]:
        value = found[name]
        in_us = [each // 1000 for each in value] if isinstance(value, list) else value // 1000
        found[f"{name.removesuffix('_ns')}_us"] = in_us
    return found


def value_of(batch: PacketBatch, name: str, flow: int) -> Any:
    value = getattr(batch.flows, name)[flow]
    if name == "interface":
        return batch.interface_names[value]
    if name.startswith("outer_") and not batch.flows.tunnel_type[flow]:
        return ""
    if name.endswith("_addr"):
        return to_text(value[None])[0]
    if name in {"tunnel_type", "domain_source"}:
        return (TUNNEL_TYPES if name == "tunnel_type" else DOMAIN_SOURCES)[value]
    if name == "primary":
        return bool(value)
    return DIRECTIONS[value] if name == "direction" else value.item()


@both
@given(batch=batches())
def test_the_bytes_are_those_of_fastavro(writer: Writer, batch: PacketBatch) -> None:
    message = BatchEncoder(FixedRegistry(), writer).encode(batch)
    assert message[:5] == HEADER.pack(0, FixedRegistry().schema_id("PacketBatch"))
    assert message[5:] == encode_record(record(batch), newest("PacketBatch"))


@both
@given(octets=st.lists(addresses_16, min_size=1, max_size=5))
@example(octets=[bytes(16), bytes(12) + b"\0\0\0\1", bytes(12) + b"\0\1\0\0", bytes(12) + b"\1\2\3\4"])
def test_addresses_are_written_as_everywhere_else(writer: Writer, octets: list[bytes]) -> None:
    columns = np.frombuffer(b"".join(octets), np.uint8).reshape(-1, 16)
    texts = [text.encode() for text in to_text(columns)]
    assert writer.rows([addresses(columns)], len(columns)) == b"".join(bytes([2 * len(text)]) + text for text in texts)


@both
@given(
    values=st.lists(longs, min_size=1, max_size=9),
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]),
)
def test_numbers_of_any_type_and_place(writer: Writer, values: list[int], dtype: str) -> None:
    table = np.zeros(len(values), [("other", "u1"), ("value", dtype)])  # not aligned, not side by side
    table["value"] = np.array(values).astype(dtype)
    signed = table["value"].astype(np.int64).tolist()
    assert writer.rows([longs_of(table["value"])], len(values)) == b"".join(long(value) for value in signed)


@both
def test_each_record_ends_where_the_next_one_begins(writer: Writer) -> None:
    columns = [longs_of(np.array([1, 300, 70_000])), choices(("a", "long"), np.array([1, 0, 1], np.int32))]
    found = records(b"head", columns, 3, writer)
    assert found == [
        b"head" + long(number) + string(text) for number, text in ((1, "long"), (300, "a"), (70_000, "long"))
    ]
    assert records(b"head", columns, 0, writer) == []


@both
def test_a_node_without_interfaces_tells_its_clock(writer: Writer) -> None:
    idle = dataclasses.replace(made([]), interface_names=(), clock_ns=5_000)
    message = BatchEncoder(FixedRegistry(), writer).encode(idle)
    assert message[5:] == encode_record(record(idle), newest("PacketBatch"))


@both
def test_texts_of_one_length(writer: Writer) -> None:
    assert bytes(writer.rows([texts(np.array([b"abc", b"xyz"]))], 2)) == b"\x06abc\x06xyz"


@both
@given(octets=st.lists(addresses_16, max_size=20), present=st.booleans())
def test_arrays_are_their_items_with_their_number_before_and_a_zero_behind(
    writer: Writer, octets: list[bytes], present: bool
) -> None:
    n = len(octets)
    there = np.arange(n) % 3 > 0 if present else None
    columns = [
        addresses(np.frombuffer(b"".join(octets), np.uint8).reshape(-1, 16), there),
        choices(("one",), np.zeros(n, np.int32)),
        choices(("one", "other"), (np.arange(n) % 2).astype(np.uint8)),
        booleans((np.arange(n) % 2).astype(np.uint8)),
        longs_of(np.arange(n) * 100),
    ]
    expected = [b"".join([long(n), bytes(plain.rows([column], n)), b"\0"]) if n else b"\0" for column in columns]
    assert bytes(writer.arrays([(column, n) for column in columns])) == b"".join(expected)
