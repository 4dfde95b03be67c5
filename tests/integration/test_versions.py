"""A field is added to a schema: readers of the version before and of the one after read each other's messages.

With a real registry that is not ours, Confluent's serializer and deserializer, Apache Avro of Java, and our own reader.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.avro import reader
from schemas.avro.codec import Codec
from schemas.avro.records import decode_record
from schemas.avro.registry import HEADER, newest
from schemas.topics import TopicNames
from streams.partition.storing import WindowId
from tests.fix_registry import RUNNER, running_registry
from tests.lacking import cannot_run
from tests.unit.streams.batches import Packet, batch
from tests.unit.streams.store_contract import flows
from tests.waiting import HANG_SECONDS

TOPICS = TopicNames.of("versions.")
OURS, SECOND = "ours", 1_000_000_000
LACKING = {"FlowRecord": "vlan_id", "PacketBatch": "flow_vlan_id"}
ADDED: dict[str, list[dict[str, Any]]] = {
    "FlowRecord": [{"name": "app", "type": "string", "default": "?"}, {"name": "drops", "type": "long", "default": 7}],
    "PacketBatch": [
        {"name": "flow_app", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "drops", "type": "long", "default": 7},
    ],
}
VALUES = {"app": "dns", "flow_app": ["dns", "http"], "drops": 5}
NAMES = pytest.mark.parametrize("name", ADDED)
CROSSED = [("before", OURS), (OURS, "before"), (OURS, "after"), ("after", OURS), ("after", "before")]
Messages = dict[tuple[str, str], bytes]


def schema_of(name: str, version: str) -> str:
    """Ours; as it was before a field of it was added; as it is when two more are, in the middle and at the end."""
    schema = json.loads(newest(name))
    if version == "before":
        schema["fields"] = [field for field in schema["fields"] if field["name"] != LACKING[name]]
    if version == "after":
        one, other = ADDED[name]
        schema["fields"] = [*schema["fields"][:3], one, *schema["fields"][3:], other]
    return json.dumps(schema)


def fields(name: str, version: str) -> dict[str, Any]:
    """Name of a field -> its default."""
    return {field["name"]: field["default"] for field in json.loads(schema_of(name, version))["fields"]}


def record(name: str, version: str) -> dict[str, Any]:
    """What our encoders make, and what a version after them adds."""
    codec = Codec()
    if name == "PacketBatch":
        packets = [Packet(time_ns=SECOND, bytes=60, vlan_id=12), Packet(time_ns=2 * SECOND, bytes=70, src_port=9)]
        octets = codec.encode_packet_batch(batch(packets))
    else:
        rows = flows(3, WindowId(1_700_000_000, 10), rows=1)
        (octets,) = codec.encode_flow_records(rows, topic_id=9, kafka_partition=0, revision=0)[1]
    known: dict[str, Any] = {**decode_record(octets[HEADER.size :], newest(name)), **VALUES}
    return {field: known[field] for field in fields(name, version)}


def expected(name: str, written: str, read: str) -> dict[str, Any]:
    """What a reader of one version has of a message of another: the default where the writer knew nothing."""
    known = record(name, written)
    return {field: known.get(field, default) for field, default in fields(name, read).items()}


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with running_registry() as url:
        yield url


def context(name: str) -> SerializationContext:
    return SerializationContext(TOPICS.by_schema()[name], MessageField.VALUE)


@pytest.fixture(scope="module")
def messages(registry: str) -> Messages:
    """(schema, version) -> what Confluent's serializer writes, in the order in which the registry takes them."""
    found = {}
    with SchemaRegistryClient({"url": registry}) as client:
        client.set_compatibility(level="FULL_TRANSITIVE")  # more than we promise: each reads all others
        for name in ADDED:
            for version in ("before", OURS, "after"):
                schema = schema_of(name, version)
                client.register_schema(f"{TOPICS.by_schema()[name]}-value", Schema(schema, "AVRO"))
                write = AvroSerializer(client, schema, conf={"auto.register.schemas": False})
                found[name, version] = write(record(name, version), context(name)) or b""
            assert client.get_versions(f"{TOPICS.by_schema()[name]}-value") == [1, 2, 3]
    return found


@NAMES
@pytest.mark.parametrize(("written", "read"), CROSSED)
def test_confluents_deserializer(registry: str, messages: Messages, name: str, written: str, read: str) -> None:
    with SchemaRegistryClient({"url": registry}) as client:
        found = AvroDeserializer(client, schema_of(name, read))(messages[name, written], context(name))
    assert found == expected(name, written, read)


def test_apache_avro_of_java(messages: Messages, tmp_path: Path) -> None:
    if not shutil.which("javac"):
        cannot_run("no javac: install a JDK")
    paths, wanted = list[Path](), list[dict[str, Any]]()
    for name in ADDED:
        for written, read in CROSSED:
            triple = [tmp_path / f"{name}-{written}-{read}.{end}" for end in ("writer", "reader", "record")]
            triple[0].write_text(schema_of(name, written))
            triple[1].write_text(schema_of(name, read))
            triple[2].write_bytes(messages[name, written][HEADER.size :])
            paths += triple
            wanted.append(expected(name, written, read))
    jars = ("avro.avro", "jackson-core", "jackson-databind", "jackson-annotations", "slf4j-api")
    found = [jar for part in jars for jar in (RUNNER / "lib").glob(f"*.{part}-[0-9]*.jar")]
    done = subprocess.run(
        ["java", "-cp", ":".join(map(str, found)), str(Path(__file__).with_name("Versions.java")), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    times = {"window_begin", "first_seen", "last_seen"}  # Java prints these as it likes
    for line, of in zip(done.stdout.splitlines(), wanted, strict=True):
        record_of_java = json.loads(line)
        assert record_of_java.keys() == of.keys()
        assert {key: record_of_java[key] for key in of.keys() - times} == {key: of[key] for key in of.keys() - times}


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by fastavro"])
def test_ours(registry: str, messages: Messages, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(reader, "_read_rows", None)
        monkeypatch.setattr(reader, "_scan", None)
    written = ("after", "before", OURS)
    with Codec(registry, TOPICS) as codec:
        found = codec.decode_flow_records([messages["FlowRecord", version] for version in written])
        batches = [codec.decode_packet_batch(messages["PacketBatch", version]) for version in written]
    assert found.problems == {}
    assert found.rows.to_pylist() == [expected("FlowRecord", version, OURS) for version in written]
    assert [each.flows.vlan_id.tolist() for each in batches] == [[12, 0], [0, 0], [12, 0]]
    assert [each.bytes.tolist() for each in batches] == [[60, 70]] * 3
    assert [each.flows.src_port.tolist() for each in batches] == [batches[0].flows.src_port.tolist()] * 3
