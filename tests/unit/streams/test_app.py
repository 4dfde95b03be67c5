import ssl
from pathlib import Path

import faust
import pytest

from common.errors import SettingsError
from common.settings import KafkaSettings, StreamsSettings
from streams.app import build, credentials


def test_plain_text_needs_no_credentials() -> None:
    assert credentials(KafkaSettings()) is None
    assert credentials(KafkaSettings(properties={"security.protocol": "plaintext", "linger.ms": "5"})) is None


def test_librdkafkas_security_settings_reach_faust() -> None:
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
    made = credentials(KafkaSettings(properties={**properties, "sasl.username": "u", "sasl.password": "p"}))
    assert isinstance(made, faust.SASLCredentials)
    assert (made.username, made.password, made.mechanism.value, made.protocol.value) == (
        "u",
        "p",
        "SCRAM-SHA-512",
        "SASL_SSL",
    )
    assert isinstance(made.ssl_context, ssl.SSLContext)
    assert isinstance(credentials(KafkaSettings(properties={"security.protocol": "ssl"})), faust.SSLCredentials)


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"security.protocol": "magic"}, "security.protocol"),
        ({"sasl.oauthbearer.config": "x"}, "sasl.oauthbearer.config"),
        ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "HOPE"}, "HOPE"),
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}, "certificates"),
    ],
)
def test_what_streams_cannot_use_is_said(properties: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        credentials(KafkaSettings(properties=properties))


def test_the_app_reads_from_the_oldest_message_and_makes_no_topics() -> None:
    app = build(StreamsSettings(), KafkaSettings(bootstrap_servers="a:1, b:2"), Path("unused"))
    assert [str(url) for url in app.conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert app.conf.consumer_auto_offset_reset == "earliest"
    assert not app.conf.topic_allow_declare
    assert app.conf.topic_disable_leader
    assert not app.conf.web_enabled
    assert app.conf.consumer_max_fetch_size > 8 << 20
