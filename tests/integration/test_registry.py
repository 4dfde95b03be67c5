"""`schema_registry.url`: ids from a real registry that is not ours (Apicurio Registry, Confluent's API)."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given, settings

from common.errors import DecodeError, ServiceUnavailable
from schemas.avro.codec import Codec
from schemas.avro.registry import HEADER
from schemas.packets import PacketBatch
from schemas.topics import TopicNames
from tests.fix_registry import running_registry
from tests.unit.schemas.strategies import batches
from tests.waiting import HANG_SECONDS

TOPICS = TopicNames.of("registry-test.")


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with running_registry() as url:
        yield url


def put(url: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=HANG_SECONDS).close()


@given(batches())
@settings(max_examples=3, deadline=None)
def test_our_schemas_are_registered_once_and_read_by_confluents_deserializer(registry: str, batch: PacketBatch) -> None:
    put(f"{registry}/config", {"compatibility": "BACKWARD_TRANSITIVE"})
    with Codec(registry, TOPICS) as first, Codec(registry, TOPICS) as second:
        message = first.encode_packet_batch(batch)
        again = second.encode_packet_batch(batch)
    assert message == again, "the second time the registry gives the id that it gave before"

    client = SchemaRegistryClient({"url": registry})
    try:
        assert client.get_versions("registry-test.packets-value") == [1]
        read = AvroDeserializer(client)(message, SerializationContext(TOPICS.packets, MessageField.VALUE))
    finally:
        client.close()
    assert isinstance(read, dict)
    assert (read["node"], read["bytes"]) == (batch.node, batch.bytes.tolist())


@given(batches())
@settings(max_examples=3, deadline=None)
def test_a_reader_that_knows_nothing_asks_the_registry(registry: str, batch: PacketBatch) -> None:
    with Codec(registry, TOPICS) as writer, Codec(registry, TOPICS) as reader:
        back = reader.decode_packet_batch(writer.encode_packet_batch(batch))
    assert back.counters == batch.counters


def test_an_id_that_nobody_knows_is_a_decode_error(registry: str) -> None:
    with Codec(registry, TOPICS) as codec, pytest.raises(DecodeError, match=r"the schema registry at .* says"):
        codec.decode_packet_batch(HEADER.pack(0, 424_242) + b"x")


def test_a_registry_that_is_away_is_a_sentence_and_not_a_decode_error() -> None:
    with socket.socket() as closed:  # bound, not listening: refused at once
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with (
            Codec(url, TOPICS) as codec,
            pytest.raises(ServiceUnavailable, match=r"does not answer .*; start it or correct schema_registry\.url"),
        ):
            codec.decode_packet_batch(HEADER.pack(0, 1) + b"x")
