"""The files that are written by hand, .avsc and .sql, say what the table of fields says."""

import json
import re
from typing import Any

import numpy as np
import pytest

from common.settings import ClickHouseSettings
from schemas.avro.registry import newest
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.rollups import BY_TIME, PLACE, ROLLUPS
from schemas.clickhouse.rollups import SUMS as SUMS_OF_ROLLUPS
from schemas.fields import FIELDS, KEYS, LIVE_KEYS, NAMED, PACKET_COLUMNS, STORED, Field, Kind, Merge, Role, names
from schemas.packets import EpochCounters

BOOKKEEPING = {"topic_id", "kafka_partition", "kafka_offset_end", "revision", "inserted"}
"""Columns of flows that say where a row is from."""
_TYPE = r"[A-Z]\w+(?:\((?:[^()]|\([^()]*\))*\))?"
_COLUMN = re.compile(rf"^ +(?:ADD COLUMN IF NOT EXISTS )?([a-z]\w*)\s+({_TYPE})(?![\w(]|\s+ALIAS)", re.MULTILINE)


def avro(record: str, prefix: str = "") -> dict[str, Any]:
    """The types of a record's fields, or, of the columns whose names begin so, of their items."""

    def plain(kind: Any) -> Any:
        if isinstance(kind, dict) and kind["type"] == "array":
            return ("array", kind["items"])
        return kind.get("logicalType") or kind["type"] if isinstance(kind, dict) else kind

    found = {field["name"]: plain(field["type"]) for field in json.loads(newest(record))["fields"]}
    return (
        {name.removeprefix(prefix): kind[1] for name, kind in found.items() if name.startswith(prefix)}
        if prefix
        else found
    )


def columns(table: str) -> dict[str, str]:
    """The stored columns of a table by the migrations of one server, with their types."""
    found: dict[str, str] = {}
    for migration in migrations(ClickHouseSettings()):
        for statement in migration.statements:
            if re.match(rf"(CREATE TABLE IF NOT EXISTS|ALTER TABLE) ayaflow\.{table}\s", statement):
                found |= dict(_COLUMN.findall(statement.partition("ENGINE =")[0]))
    return found


def expected(fields: tuple[Field, ...]) -> dict[str, str]:
    return {name: field.type.avro for field in fields for name in field.names}


def test_a_flow_record_is_the_fields() -> None:
    assert avro("FlowRecord") == expected(FIELDS) | {"revision": "int"}


def test_a_live_flow_is_the_live_fields() -> None:
    live = tuple(field for field in FIELDS if field.live and field.name != "node")
    wanted = {f"{name}_us" if kind == "timestamp-millis" else name: kind for name, kind in expected(live).items()}
    found = avro("LiveStats", "top_")
    assert found == {name: "long" if kind == "timestamp-millis" else kind for name, kind in wanted.items()}
    assert {*names(LIVE_KEYS)} <= {*names(live)}


def test_the_flow_columns_of_a_batch_are_the_keys() -> None:
    own = tuple(field for field in KEYS if field.name != "node")
    named = {field.name: "int" if field.listed else field.type.avro for field in NAMED}
    assert avro("PacketBatch", "flow_") == expected(own) | named | {"epoch": "long"}


def test_the_counters_of_a_batch_are_those_of_the_kernel() -> None:
    wanted = {name.replace("_ns", "_us") for name in EpochCounters.__dataclass_fields__}
    assert avro("PacketBatch", "counter_").keys() == wanted


def test_a_batch_has_the_packet_columns() -> None:
    record = {n: kind for n, kind in avro("PacketBatch").items() if not n.startswith(("flow_", "counter_"))}
    arrays = {name: kind[1] for name, kind in record.items() if isinstance(kind, tuple)}
    fits = {column.name: np.iinfo(column.numpy).max <= 2**31 - 1 for column in PACKET_COLUMNS}
    wanted = {name: "int" if small else "long" for name, small in fits.items()}
    lists = {f"{field.name}s": "string" for field in NAMED if field.listed}
    assert arrays == wanted | lists | {"flow": "int", "time_offset_ns": "long"}


def test_the_flows_table_has_the_stored_fields() -> None:
    found = columns("flows")
    assert {name: found[name] for name in found if name not in BOOKKEEPING} == {
        name: field.type.clickhouse for field in STORED for name in field.names
    }
    assert found.keys() >= BOOKKEEPING


@pytest.mark.parametrize("table", ROLLUPS)
def test_the_rollups_have_the_columns_that_they_are_said_to_have(table: str) -> None:
    rollup = ROLLUPS[table]
    stored = {name: field.type.clickhouse for field in FIELDS for name in field.names}
    stored |= {"addr": "IPv6", "role": "Enum8('initiator' = 0, 'responder' = 1, 'both' = 2)", "records": "UInt64"}
    stored |= dict.fromkeys(("first_seen", "last_seen"), "DateTime('UTC')")
    merged = dict.fromkeys(SUMS_OF_ROLLUPS, "sum") | rollup.others
    wanted = {"time": "DateTime('UTC')"} | {name: stored[name] for name in rollup.keys}
    wanted |= {name: f"SimpleAggregateFunction({merge}, {stored[name]})" for name, merge in merged.items()}
    assert columns(table) == wanted


def test_the_rollups_by_time_have_the_fields_that_say_so() -> None:
    functions = {Merge.SUM: "sum", Merge.OR: "groupBitOr"}
    for table in BY_TIME:
        rollup = ROLLUPS[table]
        merged = dict.fromkeys(SUMS_OF_ROLLUPS, "sum") | rollup.others
        for field in FIELDS:
            for name in field.names if field.in_rollups else ():
                assert merged[name] == functions[field.merge] if field.merge else name in {*rollup.keys} | PLACE
    assert [{*ROLLUPS[table].keys} >= PLACE for table in BY_TIME] == [True, False]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_row_of_the_table_makes_sense(field: Field) -> None:
    assert (field.merge is not None) == (field.role is Role.MEASURE)
    assert bool(field.choices) == (field.kind is Kind.CHOICE)
    assert not field.both_ways or field.packet in {column.name for column in PACKET_COLUMNS}
    assert field.stored or field.role in {Role.DERIVED, Role.RECORD}
    assert field.largest or field.kind not in {Kind.NUMBER, Kind.PORT, Kind.PROTOCOL, Kind.FLAG}
    if field.merge is Merge.FIRST:  # is packed beside a time of 42 bits
        assert np.dtype(field.type.numpy).itemsize <= 2


def test_names_are_used_once() -> None:
    assert len(names(FIELDS)) == len({*names(FIELDS)})
