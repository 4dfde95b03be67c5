import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from common.errors import SettingsError
from common.settings import KafkaSettings, StreamsSettings
from streams.app import Member, build, connect, credentials, take_all
from streams.worker.neighbours import Message

EARLIEST = -2  # aiokafka's word for it


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
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}, "ssl.ca.location: /nowhere cannot be used"),
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
    released: int = 0

    def take(self, message: Message) -> None:
        self.taken.append(message.value)

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


async def test_messages_are_handed_over_and_not_acknowledged() -> None:
    worker = Worker()
    await take_all(Stream([SimpleNamespace(value=b"1"), SimpleNamespace(value=b"2")]), worker)
    assert worker.taken == [b"1", b"2"]


async def test_faust_commits_what_it_is_told_once_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build(StreamsSettings(), KafkaSettings(), Path("unused"))
    connect(app, {"t.packets": Worker()})
    consumer, member, tp = app.consumer, Member(app, "t.packets"), TP("t.packets", 3)
    committed: list[dict[TP, int]] = []

    async def commit(offsets: dict[TP, int], **_: bool) -> bool:
        committed.append(offsets)
        return True

    monkeypatch.setattr(consumer, "_commit_offsets", commit)
    assert not await consumer.commit()
    member.acknowledge(3, 5)
    member.acknowledge(3, 7_000_000_007)
    assert await consumer.commit()
    assert not await consumer.commit()
    assert committed == [{tp: 7_000_000_007}]
    consumer._thread.thread_loop.close()  # it was never started


async def test_a_partition_whose_next_message_kafka_has_forgotten_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build(StreamsSettings(), KafkaSettings(), Path("unused"))
    connect(app, {"t.packets": Worker()})
    consumer, tp = app.consumer, TopicPartition("t.packets", 3)
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([tp])
    state = subscriptions.subscription.assignment.state_value(tp)
    state.highwater, state.timestamp = 9, time.monotonic() * 1000  # it was fetched
    state.await_reset(EARLIEST)  # as aiokafka does until Kafka has said where the partition begins
    fetcher = SimpleNamespace(_subscriptions=subscriptions)
    monkeypatch.setattr(consumer._thread, "_consumer", SimpleNamespace(_fetcher=fetcher))
    monkeypatch.setattr(consumer._thread, "time_started", 0.0, raising=False)
    monkeypatch.setattr(consumer, "assignment", lambda: {TP(*tp)})
    await consumer.verify_all_partitions_active()
    consumer._thread.thread_loop.close()  # it was never started


def test_a_partition_is_paused_in_the_way_that_loses_nothing_that_was_fetched() -> None:
    calls: list[tuple[str, TP]] = []
    consumer = SimpleNamespace(
        on_buffer_full=lambda tp: calls.append(("full", tp)), on_buffer_drop=lambda tp: calls.append(("drop", tp))
    )
    member = Member(SimpleNamespace(consumer=consumer), "t.packets")
    member.pause(3)
    member.resume(3)
    assert calls == [("full", TP("t.packets", 3)), ("drop", TP("t.packets", 3))]


async def test_partitions_that_are_revoked_are_released() -> None:
    app, worker = build(StreamsSettings(), KafkaSettings(), Path("data")), Worker()
    connect(app, {"t.packets": worker})
    assert [str(agent.channel) for agent in app.agents.values()] == ["t.packets"]
    assert not any(agent.channel.acks for agent in app.agents.values())  # Faust would count what it never commits
    await app.on_partitions_revoked.send(set())
    assert worker.released == 1
