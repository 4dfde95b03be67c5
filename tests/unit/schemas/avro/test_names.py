"""Batches of names, to messages and back."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DecodeError
from schemas.addresses import to_text
from schemas.avro import native, plain
from schemas.avro.codec import Codec
from schemas.avro.names import NameEncoder
from schemas.avro.packet_encoder import Writer
from schemas.avro.records import decode_record, encode_record
from schemas.avro.registry import HEADER, FixedRegistry, newest
from schemas.names import NAME_COLUMNS, NameBatch, no_rows
from tests.unit.schemas.strategies import NAMES, SEEDS, addresses

CODEC = Codec()
PLACES = 2**50


@st.composite
def batches(draw: st.DrawFn) -> NameBatch:
    rng = np.random.default_rng(draw(SEEDS))
    rows, start, size = draw(st.integers(0, 20)), int(rng.integers(PLACES)), int(rng.integers(PLACES))
    lists: dict[str, Any] = {
        name: tuple(draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))
        for name in ("interface_names", "names", "answer_sets", "ja4s", "alpns")
    }
    lists |= {name: addresses(rng, draw(st.integers(1, 4))) for name in ("clients", "servers")}
    columns = {
        column.name: rng.integers(
            column.lowest, len(lists[column.list_of]) if column.list_of else min(column.highest, size) + 1, rows
        ).astype(column.numpy)
        for column in NAME_COLUMNS
    }
    if rows:  # only what is used comes back
        numbers, columns["interface"] = np.unique(columns["interface"], return_inverse=True)
        lists["interface_names"] = tuple(lists["interface_names"][number] for number in numbers.tolist())
        first = columns["interface"].tolist()
        order = list(dict.fromkeys(first))
        columns["interface"] = np.array([order.index(each) for each in first], np.int32)
        lists["interface_names"] = tuple(lists["interface_names"][number] for number in order)
    else:
        lists["interface_names"] = ()
    copies = rng.integers(0, 1000, draw(st.integers(0, 3)))
    return NameBatch(
        node=draw(NAMES),
        ring_id=int(rng.integers(PLACES)),
        ring_start=start,
        ring_end=start + size,
        sequence=int(rng.integers(PLACES)),
        clock_ns=int(rng.integers(PLACES)) * 1000,
        base_ns=int(rng.integers(PLACES)) * 1000,
        copies=int(copies.sum()),
        open_copies=int(rng.integers(100)),
        unused_copies=int(rng.integers(100)),
        epoch=np.arange(len(copies)) + 5,
        epoch_copies=copies,
        **lists,
        **columns,
    )


def record(batch: NameBatch) -> dict[str, Any]:
    """As a reader of Avro sees it."""
    found = {name: getattr(batch, name) for name in NameBatch.__dataclass_fields__}
    found = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}
    for column in NAME_COLUMNS:
        if column.texts:
            found[column.name] = [column.texts[number] for number in found[column.name]]
    found["interface"] = [batch.interface_names[number] for number in batch.interface.tolist()]
    for name in ("clients", "servers"):
        found[name] = to_text(getattr(batch, name))
    for name in ("names", "answer_sets", "ja4s", "alpns"):
        found[name] = list(found[name])
    rest = batch.base_ns % 1000
    return found | {
        "clock_us": batch.clock_ns // 1000,
        "base_us": batch.base_ns // 1000,
        "time_offset_ns": (batch.time_offset_ns + rest).tolist(),
    }


@pytest.mark.parametrize("writer", [native, plain], ids=["compiled", "numpy"])
@given(batch=batches(), rest=st.integers(0, 999))
def test_the_bytes_are_those_of_fastavro(writer: Writer, batch: NameBatch, rest: int) -> None:
    batch = dataclasses.replace(batch, base_ns=batch.base_ns + rest)
    message = NameEncoder(FixedRegistry(), writer).encode(batch)
    assert message[:5] == HEADER.pack(0, FixedRegistry().schema_id("NameBatch"))
    own = encode_record(record(batch), newest("NameBatch"))
    assert decode_record(message[5:], newest("NameBatch")) == decode_record(own, newest("NameBatch"))


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: NameBatch) -> None:
    back = CODEC.decode_name_batch(CODEC.encode_name_batch(batch))
    for name in NameBatch.__dataclass_fields__:
        was, found = getattr(batch, name), getattr(back, name)
        if isinstance(was, np.ndarray):
            np.testing.assert_array_equal(found, was, name)
        else:
            assert found == was, name


def one(**changes: Any) -> dict[str, Any]:
    """A message of one row, as fastavro writes it."""
    row = {column.name: [column.texts[0] if column.texts else 0] for column in NAME_COLUMNS} | {"interface": ["eth0"]}
    lists = {
        "names": ["a"],
        "clients": ["10.0.0.1"],
        "servers": ["::1"],
        "answer_sets": ["b c"],
        "ja4s": [""],
        "alpns": [""],
    }
    return {"node": "n", "ring_end": 8, **row, **lists, **changes}


def read(columns: dict[str, Any]) -> NameBatch:
    header = HEADER.pack(0, FixedRegistry().schema_id("NameBatch"))
    return CODEC.decode_name_batch(header + encode_record(columns, newest("NameBatch")))


def test_what_somebody_else_writes_is_read() -> None:
    batch = read(one())
    assert (batch.names, batch.answer_sets, to_text(batch.servers)) == (("a",), ("b c",), ["::1"])
    assert len(read({"node": "n"})) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"node": ""},
        {"ring_start": 9},
        {"ring_start": -1},
        {"ring_offset": [9]},
        {"ring_offset": [-1]},
        {"name": [1]},
        {"name": [-2]},
        {"client": [-1]},
        {"clients": []},
        {"clients": ["nobody"]},
        {"kind": ["gopher"]},
        {"kind": []},
        {"qtype": [65_536]},
        {"rcode": [-2]},
        {"row_copies": [-1]},
        {"copies": -1},
        {"epoch": [1]},
        {"copies": 5, "epoch": [1], "epoch_copies": [4]},
        {"epoch": [-1], "epoch_copies": [0]},
        {"names": ["a" * 1025]},
        {"clock_us": 2**62},
    ],
    ids=str,
)
def test_a_batch_that_cannot_be_is_a_decode_error(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read(one(**changes))


def test_a_message_of_another_topic_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="a PacketBatch where a NameBatch is expected"):
        CODEC.decode_name_batch(HEADER.pack(0, 1) + b"x")


def test_no_rows_are_no_rows() -> None:
    assert {len(values) for values in no_rows().values()} == {0}
