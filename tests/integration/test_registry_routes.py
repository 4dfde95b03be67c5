"""The console's schema registry with clients that are not ours, and its health over HTTP."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.avro.codec import Codec
from schemas.topics import TopicNames
from tests.fix_local import REPOSITORY, environment, free_port
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def console_url() -> Iterator[str]:
    """A console process on a free port; ends with 0 on SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "console", "--set", f"console.listen=127.0.0.1:{port}"],
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert "serving" in process.stderr.readline()
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0
        assert "stopped" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


LIVE = {
    "node": "n1",
    "interval_ms": 1000,
    "active_flows": 3,
    "open_windows": 1,
    "lag_messages": 0,
    "interfaces": [
        {
            "interface": "eth0",
            "direction": "egress",
            "packets": 5,
            "bytes": 500,
            "primary_packets": 5,
            "primary_bytes": 500,
            "non_ip_packets": 0,
            "malformed_packets": 0,
            "unknown_link_packets": 0,
            "ring_full_packets": 0,
            "coalesced_packets": 0,
            "copied_packets": 0,
        }
    ],
    "top": [],
}


def test_confluents_deserializer_reads_our_messages(console_url: str) -> None:
    topics = TopicNames.of("ayaflow.")
    message = Codec().encode_live_stats({**LIVE, "time": datetime(2027, 1, 15, tzinfo=UTC)})
    with SchemaRegistryClient({"url": f"{console_url}/schema-registry"}) as registry:
        found = AvroDeserializer(registry)(message, SerializationContext(topics.live, MessageField.VALUE))
    assert found is not None
    assert (found["node"], found["active_flows"], found["time"]) == ("n1", 3, datetime(2027, 1, 15, tzinfo=UTC))
    assert (found["interface"], found["interface_packets"], found["top_src_addr"]) == (["eth0"], [5], [])


def test_confluents_registry_client_finds_what_there_is(console_url: str) -> None:
    with SchemaRegistryClient({"url": f"{console_url}/schema-registry"}) as registry:
        assert "ayaflow.flows-value" in registry.get_subjects()
        latest = registry.get_latest_version("ayaflow.flows-value")
        assert latest.schema_id is not None
        assert registry.get_schema(latest.schema_id).schema_str == latest.schema.schema_str
        assert registry.get_versions("ayaflow.flows-value") == [latest.version] == [1]
        with pytest.raises(SchemaRegistryError) as caught:
            registry.get_schema(999)
        assert caught.value.error_code == 40403
        with pytest.raises(SchemaRegistryError) as caught:
            registry.register_schema("ayaflow.flows-value", latest.schema)
        assert (caught.value.http_status_code, caught.value.error_code) == (405, 42205)


def test_what_serializers_and_user_interfaces_ask_is_answered(console_url: str) -> None:
    subject = "ayaflow.flows-value"
    with SchemaRegistryClient({"url": f"{console_url}/schema-registry"}) as registry:
        latest = registry.get_latest_version(subject)
        assert registry.lookup_schema(subject, latest.schema).schema_id == latest.schema_id
        spaced = Schema(json.dumps(json.loads(latest.schema.schema_str or ""), indent=2, sort_keys=True), "AVRO")
        assert registry.lookup_schema(subject, spaced).version == latest.version
        for other, code in ((Schema('"string"', "AVRO"), 40403), (Schema("{", "AVRO"), 42201)):
            with pytest.raises(SchemaRegistryError) as caught:
                registry.lookup_schema(subject, other)
            assert caught.value.error_code == code
        assert registry.get_compatibility() == "BACKWARD_TRANSITIVE"

    def get(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{console_url}/schema-registry{path}", timeout=HANG_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)["error_code"]

    assert latest.schema_id is not None
    assert {each["subject"] for each in get("/schemas")} == set(get("/subjects"))
    assert [each["id"] for each in get("/schemas?subjectPrefix=ayaflow.fl&latestOnly=true")] == [latest.schema_id]
    assert len(get("/schemas?limit=1&offset=1")) == len(get("/subjects?limit=1")) == 1
    assert get(f"/schemas/ids/{latest.schema_id}/subjects") == [subject]
    assert get(f"/subjects/:.:{subject}/versions/latest")["id"] == latest.schema_id
    assert get(f"/subjects/{subject}/versions/latest/referencedby") == []
    assert get("/subjects/nobodys/versions/latest/referencedby") == 40401
    assert (get("/contexts"), get("/v1/metadata/id")["id"]) == (["."], "")
    assert (get(f"/config/{subject}"), get(f"/mode/{subject}")) == (40408, 40409)
    assert get(f"/config/{subject}?defaultToGlobal=true") == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert get(f"/mode/{subject}?defaultToGlobal=true") == {"mode": "READONLY"}
    for kind in ("contentIds", "globalIds"):  # as Apicurio's converter for Kafka Connect asks
        path = f"/apis/registry/v2/ids/{kind}/{latest.schema_id}"
        assert (get(path), get(f"{path}/references")) == (json.loads(latest.schema.schema_str or ""), [])
    assert get("/apis/registry/v2/ids/contentIds/999") == get("/apis/registry/v2/ids/others/1/references") == 40403


READ = """
import sys
import chdb
answer = chdb.query(
    "SELECT node, active_flows FROM file('" + sys.argv[1] + "', AvroConfluent, 'node String, active_flows Int64')"
    " SETTINGS format_avro_schema_registry_url = '" + sys.argv[2] + "'", "CSV"
)
print(answer.bytes().decode(), end="")
"""


def test_clickhouse_reads_our_messages_through_the_registry(console_url: str, tmp_path: Path) -> None:
    """Somebody's own: the one of `ayaflow clickhouse` asks nobody (SECURITY.md)."""
    message = tmp_path / "message"
    message.write_bytes(Codec().encode_live_stats({**LIVE, "time": datetime(2027, 1, 15, tzinfo=UTC)}))
    command = [sys.executable, "-c", READ, str(message), f"{console_url}/schema-registry"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=HANG_SECONDS)
    assert done.stdout == '"n1",3\n'


def test_health_over_http_is_503_while_a_stage_is_away(console_url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{console_url}/api/health", timeout=HANG_SECONDS)
    with caught.value as answer:
        assert answer.code == 503
        assert [stage["stage"] for stage in json.load(answer)["stages"]][-1] == "console"
