import socket
from pathlib import Path

import pytest

from common import kafka
from common.errors import ServiceUnavailable, SettingsError
from common.settings import FIXED_PROPERTIES, KafkaSettings, load


def test_the_users_properties_win_over_our_defaults_and_lose_to_what_is_fixed() -> None:
    settings = KafkaSettings(bootstrap_servers="a:1", properties={"linger.ms": "7", "client.id": "x", "debug": "all"})
    made = kafka.properties(
        settings, defaults={"linger.ms": 5, "log_level": 3}, ours={"acks": "all", "client.id": "ours"}
    )
    assert made["linger.ms"] == "7"
    assert made["debug"] == "all"
    assert made["log_level"] == 3
    assert made["acks"] == "all"
    assert made["client.id"] == "ours"
    assert made["bootstrap.servers"] == "a:1"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("enable.idempotence", "totals are exact only"),
        ("topic.acks", "topic.acks cannot be set there, because totals are exact only"),
        ("group.id", "Set that"),
        ("bootstrap.servers", "kafka.bootstrap_servers"),
        ("enable.auto.commit", "Remove it"),
    ],
)
def test_a_setting_that_would_cost_exactness_is_refused(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / "ayaflow.yaml"
    path.write_text(f"kafka: {{properties: {{{name}: 'x', sasl.password: hush}}}}\n")
    with pytest.raises(SettingsError, match=rf"^kafka\.properties: {name} cannot be set there") as error:
        load(path)
    assert says in str(error.value)
    assert "hush" not in str(error.value)


def test_all_that_we_fix_is_refused() -> None:
    """What a client is given after the user's properties, the user must not believe to have set."""
    fixed = {**kafka.PRODUCER, **kafka.CONSUMER, "bootstrap.servers": "", "group.id": "", "auto.offset.reset": ""}
    assert fixed.keys() <= FIXED_PROPERTIES.keys()


@pytest.mark.parametrize("name", FIXED_PROPERTIES)
def test_librdkafka_knows_what_is_refused(name: str) -> None:
    """A name that is mistyped in our list would protect nothing."""
    said = ""
    try:
        kafka.producer(KafkaSettings(), on_error=print, ours={name: "wrong"})
    except SettingsError as error:  # that it is wrong
        said = str(error)
    assert "No such configuration property" not in said


def test_a_property_that_librdkafka_does_not_know_is_a_settings_error() -> None:
    settings = KafkaSettings(properties={"linger.sm": "5"})
    for make in (
        lambda: kafka.admin(settings),
        lambda: kafka.consumer(settings, group="x"),
        lambda: kafka.producer(settings, on_error=print),
    ):
        with pytest.raises(SettingsError, match=r"kafka\.properties: .*linger\.sm"):
            make()


def test_a_kafka_that_does_not_answer_is_said_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServiceUnavailable, match="does not tell the id"):
            kafka.topic_id(settings, "x", timeout_seconds=0.2)
        with pytest.raises(ServiceUnavailable, match="did not answer"):
            kafka.create_missing(settings, [], timeout_seconds=0.2)
