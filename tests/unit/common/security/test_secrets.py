from pathlib import Path

import pytest

from common import kafka
from common.errors import SettingsError
from common.security.secrets import reveal, reveal_all
from common.settings import KafkaSettings, load
from schemas.avro import registry

SECRET = "p4ss w/rd"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def test_a_files_text_is_taken_without_the_lines_end(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_KAFKA", SECRET)
    for text in (f"${{file:{secret}}}", "${env:OF_KAFKA}"):
        assert reveal(text, "x") == SECRET
        assert reveal(f"a {text} b {text}", "x") == f"a {SECRET} b {SECRET}"
    secret.write_text(f"{SECRET}\r\n")
    assert reveal_all({"sasl.password": f"${{file:{secret}}}", "a": "${other:x} $1"}, "kafka.properties") == {
        "sasl.password": SECRET,
        "a": "${other:x} $1",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * (1 << 16) + b"y", "too large for a secret"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_one_is_a_sentence(tmp_path: Path, text: bytes | None, message: str) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SettingsError, match=rf"^clickhouse\.password: .*{message}"):
        reveal(f"${{file:{path}}}", "clickhouse.password")


def test_a_variable_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(
        SettingsError, match=r"^kafka\.properties: sasl\.password: there is no environment variable NO_SUCH"
    ):
        reveal_all({"sasl.password": "${env:NO_SUCH}"}, "kafka.properties")


def test_clients_are_given_the_secret_and_settings_have_its_name(secret: Path) -> None:
    settings = load(
        flags={
            "kafka.properties": f"{{sasl.password: '${{file:{secret}}}'}}",
            "clickhouse.password": f"${{file:{secret}}}",
            "schema_registry.url": f"https://me:${{file:{secret}}}@registry:8081",
        }
    )
    assert kafka.properties(settings.kafka, ours={})["sasl.password"] == SECRET
    for shown in (repr(settings), str(settings.model_dump(mode="json"))):  # the last is what `ayaflow up` writes
        assert SECRET not in shown
    url = settings.schema_registry.url
    assert url is not None
    assert registry.shown(url) == "https://registry:8081"
    client = registry.connect(url)
    assert client._rest_client.auth == ("me", SECRET)  # it was quoted, and is unquoted by Confluent's client
    client.close()


def test_a_secret_that_changes_is_read_when_a_client_is_made_anew(secret: Path) -> None:
    settings = KafkaSettings(properties={"sasl.password": f"${{file:{secret}}}"})
    secret.write_text("another")
    assert kafka.properties(settings, ours={})["sasl.password"] == "another"


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {properties: {sasl.password: 40414243}}",
        "clickhouse: {password: [40414243]}",
        "clickhouse: {password: 40414243}",
        "schema_registry: {url: {https: 40414243}}",
        "kafka: {properties: [40414243]}",
        "kafka:\n  properties: {sasl.password: 'a40414243}\n",
        "kafka:\n  properties: {sasl.password: @40414243}\n",
        "clickhouse: {password: x, nope: 1, url: '40414243'}\n",
    ],
)
def test_a_mistake_in_the_settings_does_not_show_what_stands_beside_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ayaflow.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        load(path)
    assert "40414243" not in str(error.value)
    assert error.value.__cause__ is None  # --log-level debug shows it


def test_properties_of_the_environment_that_are_no_yaml_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYAFLOW_KAFKA_PROPERTIES", "{sasl.password: @hush}")
    with pytest.raises(SettingsError, match=r"^kafka\.properties: .*write it as YAML") as error:
        load()
    assert "hush" not in str(error.value)
