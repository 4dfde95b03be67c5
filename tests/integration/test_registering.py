"""`ayaflow schemas register`: our schemas in a real registry that is not ours (Apicurio Registry), and in our own."""

import contextlib
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from cli.main import main
from common.settings import load
from console.app import build_app
from schemas.avro import registering
from schemas.avro.registry import ConfluentRegistry, fixed_schemas
from schemas.topics import TopicNames
from tests.fix_local import free_port
from tests.fix_registry import running_registry
from tests.integration.fix_console import served
from tests.waiting import HANG_SECONDS

PREFIX = "registering."


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with running_registry() as url:
        yield url


def run(capsys: pytest.CaptureFixture[str], *words: str, prefix: str = PREFIX) -> tuple[int, str, str]:
    """`ayaflow schemas …` -> exit code, standard output, standard error."""
    code = main(["schemas", *words, "--set", f"kafka.topic_prefix={prefix}"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def compatibility(url: str, subject: str) -> Any:
    with urllib.request.urlopen(f"{url}/config/{subject}", timeout=HANG_SECONDS) as answer:
        return json.load(answer)["compatibilityLevel"]


def test_all_versions_of_all_schemas_are_registered_once(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "register", "--url", registry)
    assert (code, err) == (0, "")
    code, again, _ = run(capsys, "register", "--set", f"schema_registry.url={registry}")
    assert (code, again) == (0, out), "the second time nothing is new"

    wanted: dict[str, list[Any]] = {}
    for schema in sorted(fixed_schemas(TopicNames.of(PREFIX)), key=lambda each: each.version):
        wanted.setdefault(schema.subject, []).append(json.loads(schema.schema))
    with SchemaRegistryClient({"url": registry}) as client:
        found = {
            subject: [client.get_version(subject, number) for number in client.get_versions(subject)]
            for subject in client.get_subjects()
            if subject.startswith(PREFIX)
        }
    assert {
        subject: [json.loads(each.schema.schema_str or "") for each in versions] for subject, versions in found.items()
    } == wanted
    assert {compatibility(registry, subject) for subject in wanted} == {"BACKWARD_TRANSITIVE"}
    assert [line.split() for line in out.splitlines()] == [
        ["subject", "version", "id", "compatibility"],
        *(
            [subject, str(each.version), str(each.schema_id), "BACKWARD_TRANSITIVE"]
            for subject, versions in sorted(found.items())
            for each in versions
        ),
    ]


def test_json_is_one_document(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "register", "--url", registry, "--format", "json", prefix="json.")
    document = json.loads(out)
    assert (code, document["ok"]) == (0, True)
    ours = fixed_schemas(TopicNames.of("json."))
    assert [(each["subject"], each["name"], each["version"]) for each in document["schemas"]] == sorted(
        (schema.subject, schema.name, schema.version) for schema in ours
    )


def test_a_subject_that_somebody_else_has_is_a_sentence(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    subject = "taken.live-value"
    with SchemaRegistryClient({"url": registry}) as client:
        client.register_schema(subject, Schema('{"type": "record", "name": "Other", "fields": []}', "AVRO"))
        client.set_compatibility(subject, "FULL")
        code, out, err = run(capsys, "register", "--url", registry, prefix="taken.")
        assert client.get_versions(subject) == [1]
    assert code == 1
    assert "taken.flows-value" in out, "what was registered before is shown"
    assert err.startswith("ayaflow: error: the schema registry at ")
    assert f"refused LiveStats under {subject}" in err
    assert "set another kafka.topic_prefix, or delete the subject" in err


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://me:secret@127.0.0.1:{listening.getsockname()[1]}"


def test_a_registry_that_is_silent_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "PATIENCE_SECONDS", 0.2)
    with silent() as url:
        code, out, err = run(capsys, "register", "--url", url)
    assert (code, out) == (1, "")
    assert "does not answer" in err
    assert "secret" not in err


@pytest.mark.clickhouse
def test_a_registry_that_takes_no_schemas_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Our own: it is read-only."""
    port = free_port()
    flags = {"kafka.bootstrap_servers": "127.0.0.1:1", "clickhouse.url": "http://127.0.0.1:1"}
    with served(build_app(load(flags=flags), health_timeout_seconds=0.2), host="127.0.0.1", port=port):
        code, _, err = run(capsys, "register", "--url", f"http://127.0.0.1:{port}/schema-registry")
    assert code == 1
    assert "this registry is read-only" in err
    assert "--url" in err


def test_what_is_no_registry_is_a_sentence(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "register", "--url", registry.removesuffix("/apis/ccompat/v7") + "/nowhere")
    assert code == 1
    assert "Apicurio's ends in /apis/ccompat/v7" in err
    code, _, err = run(capsys, "register", "--url", "registry1:8081")
    assert code == 1
    assert "write it as http://HOST:PORT" in err
    code, _, err = run(capsys, "register")
    assert code == 2
    assert "set schema_registry.url, or give --url" in err


def test_many_that_register_a_schema_at_one_moment_get_one_id(registry: str) -> None:
    for number in range(5):
        topics = TopicNames.of(f"at_once_{number}.")
        gate = threading.Barrier(8)

        def schema_id(topics: TopicNames = topics, gate: threading.Barrier = gate) -> int:
            with contextlib.closing(ConfluentRegistry(registry, topics)) as ours:
                gate.wait(HANG_SECONDS)
                return ours.schema_id("PacketBatch")

        with ThreadPoolExecutor(8) as threads:
            assert len({each.result() for each in [threads.submit(schema_id) for _ in range(8)]}) == 1
