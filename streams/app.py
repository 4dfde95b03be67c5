"""The Faust app: consumer group, partitions, offsets. What is done with a message is streams.worker's.

Faust's own windows and tables are not used (docs/decisions/0009), nor its acknowledgements (0015): an agent takes raw
messages, the worker says up to which offset all is stored, and that is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.auth import OAuthCredentials
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka
from faust.types import TP

from common import logs
from common.security.login import Login
from common.settings import KafkaSettings, StreamsSettings
from streams.kafka.offsets import METADATA
from streams.kafka.token import TokenProvider
from streams.worker.neighbours import Message

log = logs.get("streams")

_FETCH_BYTES = 9 << 20  # of one partition: the largest message, with room
_METADATA_MS = 3_000  # partitions that are added are read after this
_SESSION_SECONDS = 6.0  # a worker that was killed gives its partitions up after this; brokers take no less


def build(settings: StreamsSettings, kafka: KafkaSettings, data_dir: Path) -> Any:
    """A Faust app that is not started. Raises SettingsError."""
    app = faust.App(
        settings.app_id,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials(kafka),
        broker_client_id=kafka.properties.get("client.id", settings.app_id),
        broker_session_timeout=_SESSION_SECONDS,
        broker_heartbeat_interval=2.0,
        broker_request_timeout=30.0,
        broker_rebalance_timeout=30.0,
        broker_commit_interval=0.5,
        broker_max_poll_interval=3600.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=_FETCH_BYTES,
        consumer_metadata_max_age_ms=_METADATA_MS,
        # acknowledgements wait for their window, so a rebalance must not wait for them
        stream_wait_empty=False,
        stream_buffer_maxsize=16,
        broker_max_poll_records=16,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        datadir=data_dir / "faust",
        autodiscover=False,
        value_serializer="raw",
        key_serializer="raw",
        processing_guarantee="at_least_once",
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app


class Committing(aiokafka.Consumer):
    """Faust's consumer, which commits what it is told and nothing else.

    Faust's own way, from acknowledgements of single messages, does not hold where Kafka has offsets without a message
    (docs/decisions/0015): it commits a message over, falls behind, or never commits again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: dict[TP, int] = {}  # since the last commit: everything below is stored

    def _filter_committable_offsets(self, _: Iterable[TP]) -> dict[TP, int]:
        """What Faust commits now; of partitions that are no longer ours it commits nothing."""
        told, self.told = self.told, {}
        return told

    def _new_consumer_thread(self) -> aiokafka.AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def verify_all_partitions_active(self) -> None:
        """Nothing: Faust would log what the worker tells, and crash where Kafka has forgotten what was to come next."""


class _Thread(aiokafka.AIOKafkaConsumerThread):
    """Faust's, whose commits say that they are ours."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        consumer.commit = partial(_commit, consumer.commit)
        return consumer


async def _commit(commit: Callable[[Any], Awaitable[None]], offsets: Mapping[Any, Any]) -> None:
    await commit({place: each._replace(metadata=METADATA) for place, each in offsets.items()})


class _Transport(aiokafka.Transport):
    Consumer = Committing


class Consumer(Protocol):
    """The worker, as the app needs it."""

    def take(self, message: Message) -> None:
        """Add a message."""

    async def release_all(self) -> None:
        """No partition is ours any more."""


def connect(app: Any, workers: Mapping[str, Consumer]) -> None:
    """Let workers take the app's messages, each those of a topic, and hear of its partitions."""

    def take_of(worker: Consumer) -> Callable[[Any], Awaitable[None]]:
        async def take(stream: Any) -> None:
            await take_all(stream, worker)

        return take

    for name, worker in workers.items():
        topic = app.topic(name, key_serializer="raw", value_serializer="raw", acks=False)
        app.agent(topic, name=name)(take_of(worker))

    async def revoked(_: Any, *__: Any, **___: Any) -> None:
        # Faust reads even those that we keep from their committed offset
        await asyncio.gather(*(worker.release_all() for worker in workers.values()))

    app.on_partitions_revoked.connect(revoked, weak=False)


async def take_all(stream: Any, worker: Consumer) -> None:
    """Hand a stream's messages to the worker, which has a queue for each partition."""
    async for event in stream.noack().events():
        worker.take(event.message)


class Member:
    """Our membership in the consumer group, of which Faust takes care.

    Not pause_partitions(): with that Faust throws away, without a word, what it has fetched and not handed over yet.
    """

    def __init__(self, app: Any, topic: str) -> None:
        """Of the partitions of one topic."""
        self._app, self._topic = app, topic

    def pause(self, partition: int) -> None:
        """Fetch no more of it."""
        self._app.consumer.on_buffer_full(TP(self._topic, partition))

    def resume(self, partition: int) -> None:
        """Fetch it again."""
        self._app.consumer.on_buffer_drop(TP(self._topic, partition))

    def assigned(self) -> set[int]:
        """The partitions that the group gave us."""
        try:
            ours = self._app.consumer.assignment() if self._app.consumer else ()
        except ConsumerNotStarted:
            return set()
        return {tp.partition for tp in ours if tp.topic == self._topic}

    def acknowledge(self, partition: int, offset: int) -> None:
        """Everything of its messages below this offset is stored: it is committed within half a second."""
        self._app.consumer.told[TP(self._topic, partition)] = offset


def credentials(settings: KafkaSettings) -> Any:
    """Faust's credentials from librdkafka's properties; None: plain text. Raises SettingsError."""
    login = Login.of(settings, "streams")
    tls = login.tls()
    if login.mechanism is None:
        return faust.SSLCredentials(tls) if tls else None
    if login.oauth is not None:
        return OAuthCredentials(oauth_cb=TokenProvider(login.oauth), ssl_context=tls)
    return faust.SASLCredentials(
        username=login.username, password=login.password, mechanism=login.mechanism, ssl_context=tls
    )
