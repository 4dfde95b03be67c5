"""Loading operators, what ours find, and what becomes of it; the one of docs/operators.md works as it is printed."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import numpy as np
import pyarrow as pa
import pytest

from common.errors import SettingsError
from common.settings import KafkaSettings
from schemas.asyncapi import document
from schemas.flows import FlowColumns
from streams.operators.burst import Burst
from streams.operators.findings import find, messages
from streams.operators.operator import load
from streams.operators.port_scan import PortScan
from streams.operators.shown import Shown
from streams.partition.storing import KafkaPartition
from streams.store.findings import clickhouse_type
from tests.unit.streams.store_contract import flows

ROOT = Path(__file__).parents[4]
PARTITION = KafkaPartition(0xABC, 3)
RST = 4


def tries(ports: int, hosts: int = 1, **columns: Any) -> FlowColumns:
    """One source, so many ports of so many hosts, refused."""
    n = ports * hosts
    made = flows(1, rows=n)
    target = made.dst_addr.copy()
    target[:, 15] = np.arange(n) // ports + 1
    same = {
        "protocol": 6,
        "src_port": 40_000,
        "packets": 1,
        "packets_rev": 1,
        "tcp_flags_rev": RST,
        "primary": 1,
        "node": 0,
        "interface": 0,
        **columns,
    }
    source = np.repeat(made.src_addr[:1], n, axis=0)
    return replace(
        made,
        src_addr=source,
        dst_addr=target,
        dst_port=(np.arange(n) % ports + 1).astype(np.uint16),
        **{name: np.full(n, value, getattr(made, name).dtype) for name, value in same.items()},
    )


def scans(rows: FlowColumns, targets: int = 50) -> list[tuple[str, int, int]]:
    found = find(PortScan(targets), Shown(rows, PARTITION, 0))
    return [(row["kind"], row["dst_port"], row["targets"]) for row in found.rows.to_pylist()] if found else []


def test_many_ports_of_one_host_are_a_vertical_scan() -> None:
    assert scans(tries(60)) == [("vertical", 0, 60)]
    assert scans(tries(49)) == []


def test_one_port_of_many_hosts_is_a_horizontal_scan() -> None:
    assert scans(tries(1, hosts=70)) == [("horizontal", 1, 70)]


def test_what_was_answered_is_no_scan() -> None:
    assert scans(tries(60, tcp_flags_rev=0x12)) == []
    assert scans(tries(60, packets=9)) == []
    assert scans(tries(60, primary=0)) == []  # it is counted on another interface
    assert scans(tries(60, protocol=17, packets_rev=0, packets=9)) == [("vertical", 0, 60)]


def test_a_burst_is_so_many_packets_to_one_port() -> None:
    rows = tries(1, hosts=1, packets=150_000)
    found = find(Burst(10_000), Shown(rows, PARTITION, 0))
    assert found is not None
    (row,) = found.rows.to_pylist()
    assert (row["packets"], row["sources"], row["packets_per_second"]) == (150_000, 1, 15_000)
    assert find(Burst(15_001), Shown(rows, PARTITION, 0)) is None


def test_what_is_found_has_an_identity_and_is_json() -> None:
    found = find(PortScan(), Shown(tries(60), PARTITION, 2))
    assert found is not None
    begin = found.window_begin
    ((key, value),) = messages(found)
    assert key.decode() == f"abc-3-{begin}-10-2-0"
    told = json.loads(value)
    assert (told["record_id"], told["targets"], told["revision"]) == (key.decode(), 60, 2)
    assert told["window_begin"].endswith("Z")
    assert told["first_seen"].endswith("Z")
    assert messages(found) == messages(find(PortScan(), Shown(tries(60), PARTITION, 2)) or found)
    told_of = document(KafkaSettings(), group="g", registry_url="http://registry:8081", version="1")
    schema = told_of["components"]["messages"]["Finding"]["payload"]
    jsonschema_rs.validate(schema, told, validate_formats=True)
    assert not jsonschema_rs.is_valid(schema, {**told, "window_begin": begin})


class Other:
    """An operator of a user's that does not keep its word."""

    name = "other"
    schema = pa.schema([("x", pa.int64())])

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer

    def window(self, _: pa.Table) -> Any:
        return self._answer


@pytest.mark.parametrize("answer", [7, pa.table({"x": ["text"]}), pa.table({"y": [1]})], ids=str)
def test_other_columns_than_it_said_are_its_fault(answer: Any) -> None:
    with pytest.raises(TypeError, match="the operator other returned other columns than its schema says"):
        find(
            Other(answer if isinstance(answer, pa.Table) else pa.table({"z": [answer]})), Shown(tries(1), PARTITION, 0)
        )


def test_operators_are_loaded_by_name_with_their_options() -> None:
    ours = load(["port_scan", "burst", f"{__name__}:Other"], {"port_scan": {"targets": 7}})
    assert [each.name for each in ours] == ["port_scan", "burst", "other"]


class Named(Other):
    name = "No Table"


class Identified(Other):
    name = "identified"
    schema = pa.schema([("record_id", pa.string())])


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (["scan"], {}, "neither one of burst, port_scan nor written as MODULE:CLASS"),
        (["no.such.module:X"], {}, "cannot be made: ModuleNotFoundError"),
        (["json:Nothing"], {}, "cannot be made: AttributeError"),
        (["json:JSONDecoder"], {}, "lacks one of name, schema"),
        ([f"{__name__}:Named"], {}, "is no name of a table"),
        ([f"{__name__}:Identified"], {}, "columns that each finding has: record_id"),
        (["burst", "burst"], {}, "two of them are called burst"),
        (["burst"], {"burst": {"speed": 1}}, "burst cannot be made: TypeError"),
        (["burst"], {"burst": {"packets_per_second": 0}}, "must be a whole number from 1 on"),
        (["burst"], {"port_scan": {"targets": 9}}, "there is no operator port_scan"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(names: list[str], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load(names, options)


def test_types_of_the_table() -> None:
    assert clickhouse_type(pa.list_(pa.uint16())) == "Array(UInt16)"
    with pytest.raises(TypeError, match="cannot be struct"):
        clickhouse_type(pa.struct([]))


def test_the_example_of_the_page_works(monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/operators.md").read_text(), re.DOTALL)
    assert code is not None
    module = ModuleType("example")
    exec(code[1], module.__dict__)
    monkeypatch.setitem(sys.modules, "example", module)
    (lonely,) = load(["example:Lonely"], {})
    found = find(lonely, Shown(tries(3, packets_rev=0), PARTITION, 0))
    assert found is not None
    assert [row["packets"] for row in found.rows.to_pylist()] == [3]
