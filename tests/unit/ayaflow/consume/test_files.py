import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastavro
import pyarrow as pa
import pytest

from ayaflow.consume import DecodeError, Packets, SettingsError, read_flows, read_packets
from console.show.records import ArrowStream
from schemas.avro.arrow import flow_schema
from schemas.avro.flow_encoder import arrow_rows
from schemas.avro.registry import HEADER, newest
from streams.partition.storing import WindowId
from tests.unit.ayaflow.consume.test_packets import CODEC, packets_of, part
from tests.unit.streams.batches import STRIDE, Packet, batch
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


def avro(path: Path, name: str, messages: Sequence[bytes], codec: str = "deflate") -> Path:
    """A file as a sink writes it: by fastavro."""
    schema = fastavro.parse_schema(json.loads(newest(name)))
    records = [fastavro.schemaless_reader(io.BytesIO(message[HEADER.size :]), schema) for message in messages]
    with path.open("wb") as out:
        fastavro.writer(out, schema, records, codec=codec, sync_interval=4000)
    return path


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_flow_records_of_an_avro_file_are_those_of_the_topic_each_once(tmp_path: Path, codec: str) -> None:
    messages = [
        message
        for number in range(3)
        for message in CODEC.encode_flow_records(
            flows(3, window(number), rows=40), topic_id=7, kafka_partition=1, revision=0
        )[1]
    ]
    first = avro(tmp_path / "1.avro", "FlowRecord", messages[:70], codec)
    second = avro(tmp_path / "2.avro", "FlowRecord", messages[50:], codec)
    table = pa.concat_tables(read_flows(first, second))
    assert table.to_pylist() == pa.Table.from_batches([CODEC.decode_flow_records(messages).rows]).to_pylist()
    assert sum(map(len, read_flows(first, until=BEGIN + timedelta(seconds=10)))) == 40


def test_packets_of_avro_files_are_those_of_the_topic_each_once(tmp_path: Path) -> None:
    batches = [batch(packets_of(5)), batch(packets_of(5), node="other"), batch(packets_of(7), ring_start=5 * STRIDE)]
    messages = [CODEC.encode_packet_batch(each) for each in batches]
    poison = CODEC.encode_packet_batch(batch([Packet(time_ns=2**62)]))
    first = avro(tmp_path / "1.avro", "PacketBatch", [*messages[:2], poison])
    second = avro(tmp_path / "2.avro", "PacketBatch", messages[1:])
    parts = list(read_packets(first, second))
    table = pa.concat_tables(each.table() for each in parts)
    assert table.to_pylist() == part(Packets(), batches).table().to_pylist()
    assert [(each.duplicates, len(each.skipped), each.offsets, each.commit()) for each in parts] == [
        (0, 1, {0: range(3)}, True),
        (5, 0, {0: range(2)}, True),
    ]
    begin = datetime.fromtimestamp(1, UTC)
    assert sum(map(len, read_packets(first, since=begin, until=begin + timedelta(microseconds=1)))) == 10


def test_an_avro_file_that_is_harmed_or_something_else_is_said(tmp_path: Path, replayed: Path) -> None:
    whole = avro(tmp_path / "whole", "PacketBatch", [CODEC.encode_packet_batch(batch(packets_of(5)))]).read_bytes()
    for octets in (b"Obj\x01", whole[:100], whole[:-20], whole.replace(b"deflate", b"nothing")):
        (tmp_path / "wrong").write_bytes(octets)
        with pytest.raises(DecodeError, match=r"wrong is not a file that is read here: ."):
            list(read_packets(tmp_path / "wrong"))
    with pytest.raises(DecodeError, match="a PacketBatch where a FlowRecord is expected"):
        list(read_flows(tmp_path / "whole"))
    with pytest.raises(DecodeError, match="does not begin as an Avro"):
        list(read_packets(replayed))
    with pytest.raises(SettingsError, match="cannot read"):
        list(read_packets(tmp_path / "none"))
