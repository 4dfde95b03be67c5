"""The HTTP service, asked over its own ASGI interface; the stages are real HTTP servers of the test."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.errors import EnvironmentProblem
from console import app
from console.api.metrics import HttpMetrics
from console.api.registry import CONTENT_TYPE
from schemas.avro.registry import fixed_schemas
from schemas.topics import TopicNames
from tests.unit.console.answering import answering

NOBODY = "127.0.0.1:1"
SCHEMAS = fixed_schemas(TopicNames.of("ayaflow."))


def client(**values: Any) -> TestClient:
    flags = {
        "kafka.bootstrap_servers": NOBODY,
        "clickhouse.url": f"http://{NOBODY}",
        "producer.metrics_listen": NOBODY,
        "streams.metrics_listen": NOBODY,
        "node": "n1",
        **{name.replace("__", "."): value for name, value in values.items()},
    }
    # Kafka's client waits its time out where nobody listens
    return TestClient(
        app.build_app(settings_module.load(flags=flags), health_timeout_seconds=0.5),
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 50_000),
    )


@pytest.fixture(scope="module")
def registry() -> Iterator[TestClient]:
    with client() as opened:
        yield opened


def stages(opened: TestClient) -> tuple[int, dict[str, dict[str, Any]]]:
    answer = opened.get("/api/health")
    state = answer.json()
    assert state["ok"] is (answer.status_code == 200)
    names = ["kafka", "clickhouse", "producer", "streams", "storing", "console"]
    assert [one["stage"] for one in state["stages"]] == names
    return answer.status_code, {one["stage"]: one for one in state["stages"]}


def test_health_names_each_stage_that_is_away_and_what_to_do() -> None:
    with client() as opened:
        status, found = stages(opened)
    assert status == 503
    assert found["console"]["ok"] is True
    for name, command in (
        ("kafka", "ayaflow kafka"),
        ("clickhouse", "ayaflow clickhouse"),
        ("producer", "ayaflow producer"),
        ("streams", "ayaflow streams"),
    ):
        assert found[name]["ok"] is False
        assert NOBODY in found[name]["message"]
        assert command in found[name]["message"]
    assert "what is not stored yet is not known: Kafka does not tell" in found["storing"]["message"]


def test_what_kafka_holds_is_a_metric_by_partition_and_goes_with_it() -> None:
    metrics = HttpMetrics(lambda: None)
    partition = {"partition": 3, "messages": 7, "oldest_age_seconds": 12.5}
    metrics.take_backlog([partition, {"partition": 4, "messages": 0, "oldest_age_seconds": None}])
    text = generate_latest(metrics.registry).decode()
    assert 'ayaflow_console_oldest_unstored_seconds{partition="3"} 12.5' in text
    assert 'ayaflow_console_oldest_unstored_seconds{partition="4"} 0.0' in text
    assert 'ayaflow_console_unstored_messages{partition="3"} 7.0' in text
    metrics.take_backlog([])
    assert 'partition="3"' not in generate_latest(metrics.registry).decode()


def test_a_probe_may_ask_by_head() -> None:
    with client() as opened:
        for path, status in (("/", 200), ("/api/health", 503), ("/metrics", 200)):
            answer = opened.head(path)
            assert (answer.status_code, answer.content) == (status, b"")
            assert int(answer.headers["content-length"]) > 0


def test_health_passes_on_what_the_components_say() -> None:
    producer = json.dumps({"ok": True, "stage": "producer", "last_ack_age_seconds": 0.4, "queue": 3}).encode()
    streams = json.dumps({"ok": False, "stage": "streams", "error": "ClickHouse is read-only"}).encode()
    with (
        answering(200, producer) as one,
        answering(503, streams) as two,
        answering(200, b"Ok.\n") as three,
        client(producer__metrics_listen=one, streams__metrics_listen=two, clickhouse__url=f"http://{three}") as opened,
    ):
        status, found = stages(opened)
    assert status == 503
    assert (found["producer"]["ok"], found["producer"]["age_seconds"]) == (True, 0.4)
    assert found["producer"]["details"]["queue"] == 3
    assert (found["streams"]["ok"], found["streams"]["message"]) == (False, "ClickHouse is read-only")
    assert found["clickhouse"]["ok"] is True


@pytest.mark.parametrize("body", [b"not json", b"[1]", b""])
def test_health_survives_an_answer_that_is_not_ours(body: bytes) -> None:
    with answering(200, body) as address, client(producer__metrics_listen=address) as opened:
        _, found = stages(opened)
    assert found["producer"]["ok"] is False
    assert found["producer"]["message"]


def test_health_of_a_server_that_is_not_well_is_not_ok() -> None:
    with answering(500, b"no") as address, client(clickhouse__url=f"http://{address}") as opened:
        _, found = stages(opened)
    assert found["clickhouse"]["ok"] is False
    assert "answers 500" in found["clickhouse"]["message"]


def test_the_registry_serves_each_schema_by_id_subject_and_version(registry: TestClient) -> None:
    for schema in SCHEMAS:
        by_id = registry.get(f"/schema-registry/schemas/ids/{schema.schema_id}")
        assert by_id.headers["content-type"] == CONTENT_TYPE
        assert json.loads(by_id.json()["schema"]) == json.loads(schema.schema)
        by_version = registry.get(f"/schema-registry/subjects/{schema.subject}/versions/{schema.version}").json()
        assert by_version["id"] == schema.schema_id
        assert by_version["schema"] == schema.schema
        latest = registry.get(f"/schema-registry/subjects/{schema.subject}/versions/latest").json()
        assert latest["subject"] == schema.subject
        assert schema.version in registry.get(f"/schema-registry/subjects/{schema.subject}/versions").json()
        text = registry.get(f"/schema-registry/subjects/{schema.subject}/versions/{schema.version}/schema").text
        assert text == registry.get(f"/schema-registry/schemas/ids/{schema.schema_id}/schema").text == schema.schema


def test_the_registry_says_what_it_is(registry: TestClient) -> None:
    assert registry.get("/schema-registry/subjects").json() == sorted({schema.subject for schema in SCHEMAS})
    assert registry.get("/schema-registry/schemas/types").json() == ["AVRO"]
    assert registry.get("/schema-registry/config").json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert registry.get("/schema-registry/mode").json() == {"mode": "READONLY"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("schemas/ids/999", 404, 40403),
        ("schemas/ids/x", 404, 40403),
        ("schemas/ids/99999999999999999999", 404, 40403),
        ("schemas/ids/999/schema", 404, 40403),
        ("schemas/ids/999/versions", 404, 40403),
        ("subjects/nope/versions", 404, 40401),
        ("subjects/nope/versions/1", 404, 40401),
        ("subjects/ayaflow.flows-value/versions/99", 404, 40402),
        ("subjects/ayaflow.flows-value/versions/zero", 422, 42202),
        ("subjects/ayaflow.flows-value/versions/0", 422, 42202),
        ("associations/resources/-/ayaflow.flows", 404, 40401),
    ],
)
def test_the_registry_answers_errors_as_confluents_does(
    registry: TestClient, path: str, status: int, code: int
) -> None:
    answer = registry.get(f"/schema-registry/{path}")
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert answer.json()["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_registry_refuses_writes(registry: TestClient, method: str) -> None:
    for path in ("subjects/ayaflow.flows-value/versions", "config", "subjects/ayaflow.flows-value"):
        if method == "POST" and path.count("/") == 1:
            continue  # a look-up
        answer = registry.request(method, f"/schema-registry/{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (405, 42205)


def test_the_topic_prefix_is_in_the_subjects() -> None:
    with client(kafka__topic_prefix="lab.") as opened:
        assert "lab.flows-value" in opened.get("/schema-registry/subjects").json()


def test_topics_and_messages_are_described_with_the_settings() -> None:
    with client(kafka__topic_prefix="lab.", streams__app_id="mine") as opened:
        found = opened.get("/asyncapi.json").json()
    assert found["channels"]["flows"]["address"] == "lab.flows"
    assert found["operations"]["receivePackets"]["bindings"]["kafka"]["groupId"]["enum"] == ["mine"]
    (server,) = found["servers"].values()
    assert server["bindings"]["kafka"]["schemaRegistryUrl"] == "http://127.0.0.1/schema-registry"
    with client(schema_registry__url="http://me:secret@registry:8081") as opened:
        assert "http://registry:8081" in opened.get("/asyncapi.json").text


def test_with_a_real_registry_nothing_is_served_but_where_it_is() -> None:
    with client(schema_registry__url="http://registry:8081") as opened:
        answer = opened.get("/schema-registry/schemas/ids/1")
    assert answer.status_code == 404
    assert "http://registry:8081" in answer.json()["message"]


def test_the_page_is_there_and_nothing_that_loads_from_elsewhere(registry: TestClient) -> None:
    page = registry.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("<!doctype html>", "")
    for path in ("/docs", "/redoc", "/nope"):
        assert registry.get(path).status_code == 404
    assert "/api/health" in registry.get("/openapi.json").json()["paths"]


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentProblem, match=rf"cannot listen on {address}: .*console\.listen"):
            app.run(settings_module.load(flags={"console.listen": address}))
