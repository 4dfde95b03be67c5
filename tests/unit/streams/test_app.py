import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from common.errors import SettingsError
from common.settings import KafkaSettings, StreamsSettings
from schemas.topics import TopicNames
from streams.app import Acknowledgement, Fetching, build, connect, credentials, take_all
from streams.worker.neighbours import Acknowledge, Message


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
    assert app.conf.consumer_metadata_max_age_ms <= 5_000


@dataclass
class Worker:
    """Takes messages."""

    taken: list[bytes | None] = field(default_factory=list)
    acknowledge: Acknowledge | None = None
    released: int = 0

    def take(self, message: Message, acknowledge: Acknowledge) -> None:
        self.taken.append(message.value)
        self.acknowledge = acknowledge

    async def release_all(self) -> None:
        self.released += 1


@dataclass
class Stream:
    """A stream of Faust."""

    messages: list[Any]
    acknowledges: bool = True  # by itself, when a message was taken

    def noack(self) -> "Stream":
        return Stream(self.messages, acknowledges=False)

    async def events(self) -> AsyncIterator[Any]:
        assert not self.acknowledges
        for message in self.messages:
            yield SimpleNamespace(message=message)


class Kept:
    """A message of Faust, and the consumers that it was acknowledged to."""

    def __init__(self, value: bytes) -> None:
        self.value: bytes | None = value
        self.acked: list[object] = []

    def ack(self, consumer: object) -> None:
        self.acked.append(consumer)


async def test_messages_are_handed_over_and_not_acknowledged() -> None:
    app, worker, messages = SimpleNamespace(consumer="consumer"), Worker(), [Kept(b"1"), Kept(b"2")]
    await take_all(app, Stream(messages), worker)
    assert worker.taken == [b"1", b"2"]
    assert [message.acked for message in messages] == [[], []]
    assert isinstance(worker.acknowledge, Acknowledgement)
    worker.acknowledge()
    assert [message.acked for message in messages] == [[], ["consumer"]]


def test_a_partition_is_paused_in_the_way_that_loses_nothing_that_was_fetched() -> None:
    calls: list[tuple[str, TP]] = []
    consumer = SimpleNamespace(
        on_buffer_full=lambda tp: calls.append(("full", tp)), on_buffer_drop=lambda tp: calls.append(("drop", tp))
    )
    fetching = Fetching(SimpleNamespace(consumer=consumer), "t.packets")
    fetching.pause(3)
    fetching.resume(3)
    assert calls == [("full", TP("t.packets", 3)), ("drop", TP("t.packets", 3))]


async def test_partitions_that_are_revoked_are_released() -> None:
    app, worker = build(StreamsSettings(), KafkaSettings(), Path("data")), Worker()
    connect(app, TopicNames.of("t."), worker)
    assert [str(agent.channel) for agent in app.agents.values()] == ["t.packets"]
    await app.on_partitions_revoked.send(set())
    assert worker.released == 1
