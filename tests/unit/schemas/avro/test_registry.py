"""What is released stays readable: compatibility of each schema with all before it, and ids that never move."""

import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import pytest

from common.errors import DecodeError, ServiceUnavailable, SettingsError
from schemas.avro import registry
from schemas.avro.codec import Codec
from schemas.avro.registry import HEADER, UNKNOWN_SECONDS, ConfluentRegistry, FixedRegistry, fixed_schemas, newest
from schemas.topics import TopicNames

ALL = fixed_schemas(TopicNames.of("ayaflow."))


def test_ids_are_fixed() -> None:
    assert [(s.schema_id, s.subject, s.version) for s in ALL] == [
        (1, "ayaflow.packets-value", 1),
        (2, "ayaflow.packet-events-value", 1),
        (3, "ayaflow.flows-value", 1),
        (4, "ayaflow.live-value", 1),
        (5, "ayaflow.names-value", 1),
    ]
    assert FixedRegistry().schema_id("FlowRecord") == 3


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


@pytest.mark.parametrize("name", ["PacketBatch", "PacketEvent", "FlowRecord", "LiveStats", "NameBatch"])
def test_every_field_says_what_it_is(name: str) -> None:
    for field in json.loads(newest(name))["fields"]:
        assert field.get("doc"), field["name"]


@pytest.mark.parametrize("name", ["PacketBatch", "PacketEvent", "FlowRecord", "LiveStats", "NameBatch"])
def test_every_engine_reads_every_type(name: str) -> None:
    """docs/decisions/0013: what an engine could not read, or took for something else, is not there."""
    plain = {"string", "int", "long", "boolean"}
    for field in json.loads(newest(name))["fields"]:
        kind, column = field["type"], field["name"]
        if isinstance(kind, dict) and kind["type"] == "array":
            kind = kind["items"]  # of which none has a logical type
        elif isinstance(kind, dict):
            assert kind == {"type": "long", "logicalType": "timestamp-millis"}, column
            continue
        assert kind in plain, column
        assert column not in {"window_start", "window_end", "window_time", "rowtime", "proctime"}
        assert not column.endswith("_ns") or column in {"time_offset_ns", "duration_ns", "time_remainder_ns"}


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A registry of one's own -> its URL. `answer` gets each connection, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_registry_that_accepts_and_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TIMEOUT_SECONDS", 0.1)
    held: list[socket.socket] = []
    with server(held.append) as url, contextlib.closing(ConfluentRegistry(url, TopicNames.of("t."))) as asked:
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            asked.schema_id("PacketBatch")
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            asked.schema(7)
    for connection in held:
        connection.close()


def test_a_password_in_the_url_of_a_registry_is_not_shown() -> None:
    assert registry.shown("https://me:secret@a:1,https://b:2/x@y") == "https://a:1,https://b:2/x@y"
    with contextlib.closing(ConfluentRegistry("http://me:secret@127.0.0.1:1", TopicNames.of("t."))) as asked:
        with pytest.raises(ServiceUnavailable) as caught:
            asked.schema_id("PacketBatch")
        assert "secret" not in str(caught.value)


def test_what_is_no_url_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match="http://HOST:PORT"):
        ConfluentRegistry("registry1", TopicNames.of("t."))


def test_what_needs_no_answer_of_a_registry_is_at_hand() -> None:
    with Codec() as fixed:
        assert fixed.at_hand(HEADER.pack(0, 99))
    with Codec("http://127.0.0.1:1") as asked:
        assert not asked.at_hand(HEADER.pack(0, 9) + b"anything")
        assert asked.at_hand(b"")
        assert asked.at_hand(HEADER.pack(1, 9))  # nobody's framing: it is refused as it is


def test_an_id_that_nobody_knows_is_not_asked_for_with_each_message() -> None:
    requests: list[bytes] = []
    body = b'{"error_code": 40403, "message": "Schema 99 not found"}'

    def unknown(connection: socket.socket) -> None:
        with connection:
            requests.append(connection.recv(65_536))
            head = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    now = [0.0]
    with server(unknown) as url:
        asked = ConfluentRegistry(url, TopicNames.of("t."), monotonic=lambda: now[0])
        with contextlib.closing(asked):
            assert not asked.at_hand(99)
            for _ in range(3):
                with pytest.raises(DecodeError):
                    asked.schema(99)
                assert asked.at_hand(99)
            once = len(requests)
            now[0] = UNKNOWN_SECONDS + 1  # it may have been registered since
            assert not asked.at_hand(99)
            with pytest.raises(DecodeError):
                asked.schema(99)
    assert once == len(requests) // 2 > 0
