from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ayaflow.consume import DecodeError, SettingsError, read_flows
from console.show.records import ArrowStream
from schemas.avro.arrow import flow_schema
from schemas.avro.flow_encoder import arrow_rows
from streams.partition.storing import WindowId
from tests.unit.streams.store_contract import flows

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


def window(number: int) -> WindowId:
    return WindowId(int(BEGIN.timestamp()) + 10 * number, 10)


@pytest.fixture
def replayed(tmp_path: Path) -> Path:
    """What `ayaflow replay --output` writes."""
    path = tmp_path / "flows.arrow"
    with path.open("wb") as out:
        writer = ArrowStream(out)
        for number in range(3):
            writer.write(flows(3, window(number), rows=4))
        writer.close()
    return path


def test_a_file_of_replay_is_read_with_the_columns_of_the_topic(replayed: Path) -> None:
    tables = list(read_flows(replayed))
    assert [len(table) for table in tables] == [4, 4, 4]
    assert all(table.schema.equals(flow_schema()) for table in tables)
    naive = arrow_rows(flows(3, window(1), rows=4))
    assert tables[1].to_pylist() == naive.cast(flow_schema()).to_pylist()


def test_a_part_of_the_time_and_what_is_primary(replayed: Path) -> None:
    ten = timedelta(seconds=10)
    assert sum(map(len, read_flows(replayed, since=BEGIN + ten, until=BEGIN + 2 * ten))) == 4
    table = pa.concat_tables(read_flows(replayed))
    place = table.schema.get_field_index("primary")
    other = table.set_column(place, flow_schema().field("primary"), pa.array([n % 4 == 0 for n in range(len(table))]))
    with pa.OSFile(str(replayed), "wb") as out, pa.ipc.new_file(out, other.schema) as writer:
        writer.write_table(other)
    assert sum(map(len, read_flows(replayed))) == 3
    assert sum(map(len, read_flows(replayed, primary_only=False))) == 12


def test_a_file_that_is_none_is_said(tmp_path: Path, replayed: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        next(read_flows(tmp_path / "none"))
    for octets in (b"", b"hello, world", replayed.read_bytes()[:900]):
        (tmp_path / "wrong").write_bytes(octets)
        with pytest.raises(DecodeError):
            list(read_flows(tmp_path / "wrong"))
    with pa.OSFile(str(replayed), "wb") as out, pa.ipc.new_stream(out, pa.schema([("a", pa.int32())])) as writer:
        writer.write_table(pa.table({"a": pa.array([1], pa.int32())}))
    with pytest.raises(DecodeError, match="no columns window_begin"):
        list(read_flows(replayed))
