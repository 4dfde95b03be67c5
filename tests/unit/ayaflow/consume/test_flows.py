"""Flow records of some messages, without Kafka: tests/integration/test_consume.py has it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ayaflow.consume import FlowPart, Flows
from schemas.avro.records import decode_record, encode_record
from schemas.avro.registry import HEADER, newest
from tests.unit.ayaflow.consume.fetched import fetched
from tests.unit.schemas.avro.test_flow_decoder import message


def part(reader: Flows, values: list[bytes], memory: Any = None, **where: int) -> FlowPart:
    return reader._part(fetched(memory or reader._memory(), values, **where))


def record_id(number: int) -> str:
    return f"{number:032x}"


def packets(found: FlowPart) -> list[int]:
    return found.table["packets"].to_pylist()  # type: ignore[no-any-return]


def test_a_record_that_comes_twice_is_taken_once_the_first_time() -> None:
    values = [message(record_id=record_id(n % 3), packets=n) for n in range(7)]
    found = part(Flows(), values)
    assert (packets(found), found.duplicates) == ([0, 1, 2], 4)
    assert found.offsets == {0: range(7)}


def test_what_is_only_remembered_is_not_in_the_part_and_not_a_duplicate() -> None:
    values = [message(record_id=record_id(n), packets=n) for n in (1, 2, 1, 3, 2)]
    found = part(Flows(), values, first=10, begin=13)
    assert (packets(found), found.duplicates, found.offsets) == ([3], 1, {0: range(13, 15)})


def test_records_of_a_writer_without_identities_are_all_taken() -> None:
    found = part(Flows(), [message(packets=n) for n in (1, 1, 2)])
    assert (packets(found), found.duplicates) == ([1, 1, 2], 0)


def test_totals_are_right_by_default_and_all_passages_come_when_asked_for() -> None:
    values = [message(record_id=record_id(n), packets=n, primary=n % 2 == 0) for n in range(5)]
    assert packets(part(Flows(), values)) == [0, 2, 4]
    assert packets(part(Flows(primary_only=False), values)) == [0, 1, 2, 3, 4]


def test_windows_of_a_range_begin_in_it() -> None:
    moments = [datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in range(5)]
    values = [message(record_id=record_id(n), packets=n, window_begin=each) for n, each in enumerate(moments)]
    assert packets(part(Flows(since=moments[1], until=moments[3]), values)) == [1, 2]
    assert packets(part(Flows(group="g", since=moments[3]), values)) == [3, 4]


def test_messages_that_are_none_are_told_with_their_offsets() -> None:
    good = message(record_id=record_id(1))
    found = part(Flows(), [b"", good, b"poison", good[:-1]], first=5)
    assert [(each.partition, each.offset) for each in found.skipped] == [(0, 5), (0, 7), (0, 8)]
    assert len(found) == 1
    assert not part(Flows(), [b"", good], first=5, begin=7).skipped, "it was told before"


@pytest.mark.parametrize("text", ["", "x", "0" * 31, "G" * 32, "0123456789ABCDEF" * 2, "é" * 16])
def test_any_text_may_be_an_identity(text: str) -> None:
    found = part(Flows(), [message(record_id=text)] * 2)
    assert found.duplicates == (1 if text else 0)


def test_all_columns_of_a_record_are_there() -> None:
    value = message(record_id=record_id(1), node="näme", src_addr="2001:db8::1")
    (row,) = part(Flows(), [value]).table.to_pylist()
    schema = newest("FlowRecord")
    assert row == decode_record(value[HEADER.size :], schema)
    assert encode_record(row, schema) == value[HEADER.size :]
