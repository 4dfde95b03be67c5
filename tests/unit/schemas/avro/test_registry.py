"""What is released stays readable: compatibility of each schema with all before it, and ids that never move."""

import io
import json
from typing import Any

import fastavro
import pytest

from schemas.avro.registry import FixedRegistry, fixed_schemas, newest
from schemas.topics import TopicNames

ALL = fixed_schemas(TopicNames.of("ayaflow."))


def test_ids_are_fixed() -> None:
    assert [(s.schema_id, s.subject, s.version) for s in ALL] == [
        (1, "ayaflow.packets-value", 1),
        (2, "ayaflow.packet-events-value", 1),
        (3, "ayaflow.flows-value", 1),
        (4, "ayaflow.live-value", 1),
        (5, "ayaflow.packets-value", 2),
        (6, "ayaflow.packet-events-value", 2),
        (7, "ayaflow.live-value", 2),
        (8, "ayaflow.flows-value", 2),
    ]
    assert FixedRegistry().schema_id("FlowRecord") == 8


def default_record(schema: str) -> Any:
    """The record that a writer without any of the fields leaves: every field takes its default."""
    empty = json.dumps({"type": "record", "name": json.loads(schema)["name"], "namespace": "ayaflow", "fields": []})
    return fastavro.schemaless_reader(
        io.BytesIO(b""), fastavro.parse_schema(json.loads(empty)), fastavro.parse_schema(json.loads(schema))
    )


@pytest.mark.parametrize("schema", ALL, ids=lambda s: f"{s.name}.{s.version}")
def test_every_field_has_a_default(schema: Any) -> None:
    assert default_record(schema.schema)


@pytest.mark.parametrize(
    ("old", "new"),
    [(old, new) for old in ALL for new in ALL if old.name == new.name and old.version <= new.version],
    ids=lambda s: f"{s.name}.{s.version}",
)
def test_a_newer_schema_reads_what_every_older_one_wrote(old: Any, new: Any) -> None:
    """BACKWARD_TRANSITIVE."""
    writer, reader = (fastavro.parse_schema(json.loads(s.schema)) for s in (old, new))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, writer, default_record(old.schema))
    buffer.seek(0)
    read: Any = fastavro.schemaless_reader(buffer, writer, reader)
    assert read.keys() == default_record(new.schema).keys()


@pytest.mark.parametrize("name", ["PacketBatch", "PacketEvent", "FlowRecord", "LiveStats"])
def test_every_field_says_what_it_is(name: str) -> None:
    def walk(schema: Any) -> None:
        for field in schema["fields"]:
            assert field.get("doc"), field["name"]
            kind = field["type"]
            if isinstance(kind, dict) and isinstance(kind.get("items"), dict):
                walk(kind["items"])

    walk(json.loads(newest(name)))
