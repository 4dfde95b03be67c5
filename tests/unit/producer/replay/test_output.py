import csv
import io
import json
from typing import Any

import pyarrow as pa
import pytest

from console.show.records import WRITERS
from schemas.avro import arrow
from schemas.avro.registry import newest
from schemas.flows import FlowColumns
from streams.windowing.offline import OfflineWindows
from streams.windowing.spill import Spill
from tests.unit.streams.batches import SECOND, Packet, batch

NAMES = [field.name for field in arrow.arrow_schema(newest("FlowRecord"))]
STRANGE = 'a "quoted", \\ name\n\x01é'


def flows() -> list[FlowColumns]:
    windows = OfflineWindows(window_seconds=10, store=Spill())
    start = 1_700_000_000 * SECOND
    windows.add(
        batch(
            [
                Packet(time_ns=start + 123_456_789, tcp_flags=2, bytes=74),
                Packet(
                    time_ns=start + 200_000_000,
                    src="10.0.0.2",
                    dst="10.0.0.1",
                    src_port=443,
                    dst_port=40000,
                    direction=1,
                ),
                Packet(time_ns=start + 300_000_000, src="2001:db8::1", dst="2001:db8::2", interface=STRANGE, vlan_id=7),
                Packet(time_ns=start + 11 * SECOND, protocol=1, src_port=0, dst_port=0, icmp_type=8),
            ]
        )
    )
    return list(windows.flows())


def written(form: str, windows: list[FlowColumns]) -> bytes:
    out = io.BytesIO()
    writer = WRITERS[form](out)
    for each in windows:
        writer.write(each)
    writer.close()
    assert writer.rows == sum(len(each) for each in windows)
    return out.getvalue()


def test_json_is_one_flow_record_a_line_with_the_fields_of_the_schema() -> None:
    records = [json.loads(line) for line in written("json", flows()).decode().splitlines()]
    assert all(list(record) == NAMES for record in records)
    first = records[0]
    assert first["src_addr"] == "10.0.0.1"
    assert (first["packets"], first["bytes"], first["packets_rev"]) == (1, 74, 1)
    assert first["window_begin"] == "2023-11-14T22:13:20.000000Z"
    assert first["first_seen"] == "2023-11-14T22:13:20.123456Z"
    assert first["last_seen"] == "2023-11-14T22:13:20.200000Z"
    assert first["community_id"].startswith("1:")
    assert records[1]["interface"] == STRANGE
    assert records[1]["src_addr"] == "2001:db8::1"
    assert [record["window_begin"][17:19] for record in records] == ["20", "20", "30"]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_csv_and_arrow_say_the_same_as_json() -> None:
    records = [json.loads(line) for line in written("json", flows()).decode().splitlines()]
    text = list(csv.DictReader(io.StringIO(written("csv", flows()).decode(), newline="")))
    assert [{name: _text(value) for name, value in record.items()} for record in records] == text
    table = pa.ipc.open_stream(written("arrow", flows())).read_all()
    assert table.schema.names == NAMES

    def shown(value: Any) -> Any:
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if hasattr(value, "isoformat") else value

    assert [{name: shown(value) for name, value in row.items()} for row in table.to_pylist()] == records


@pytest.mark.parametrize(("form", "rest"), [("json", 0), ("csv", 1)])
def test_no_flows_are_no_records(form: str, rest: int) -> None:
    assert len(written(form, []).splitlines()) == rest
    assert pa.ipc.open_stream(written("arrow", [])).read_all().num_rows == 0


def test_an_interface_is_no_formula_in_csv_and_itself_in_json() -> None:
    windows = OfflineWindows(window_seconds=10, store=Spill())
    windows.add(batch([Packet(time_ns=1_700_000_000 * SECOND, interface="=cmd|' /C calc'!A0")]))
    found = list(windows.flows())
    (row,) = csv.DictReader(io.StringIO(written("csv", found).decode(), newline=""))
    assert row["interface"] == "'=cmd|' /C calc'!A0"
    assert json.loads(written("json", found))["interface"] == "=cmd|' /C calc'!A0"
