from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.topics import DEAD_LETTER_HEADERS
from streams.kafka.publisher import KafkaPublisher
from streams.partition.storing import KafkaPartition, WindowId
from tests.unit.streams.store_contract import WINDOW, flows

START = WINDOW.start
NOW = 1_800_000_000.0  # seconds since the Unix epoch
Report = Callable[[KafkaError | None, Any], None]
PARTITION = KafkaPartition(1, 0)
STATS: dict[str, Any] = {
    "node": "n1",
    "time": datetime.fromtimestamp(NOW, UTC),
    "interval_ms": 1000,
    "interfaces": [],
    "active_flows": 0,
    "open_windows": 0,
    "lag_messages": 0,
    "top": [],
}


class Client:
    """librdkafka's producer: a queue with little room, and a broker that may take nothing or not answer."""

    def __init__(self, room: int = 100, most: int | None = None) -> None:
        self.room, self.most = room, most  # octets of a value that the broker takes
        self.queue: list[tuple[str, dict[str, Any], Report | None]] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.refuses: KafkaError | None = None
        self.refuses_stamps: Callable[[int], bool] = lambda stamp: False
        self.silent = False
        self.connected = 0
        self.properties: dict[str, Any] = {}
        self.on_error: Callable[[KafkaError], None] | None = None

    def __call__(self, settings: KafkaSettings, *, on_error: Any, ours: Any, defaults: Any) -> "Client":
        self.properties, self.on_error = {**defaults, **ours}, on_error
        self.connected += 1
        return self

    def __len__(self) -> int:
        return len(self.queue)  # as librdkafka's: one with nothing to do is false

    def produce(self, topic: str, *, on_delivery: Report | None = None, **message: Any) -> None:
        if len(message["value"] or b"") > self.properties["message.max.bytes"]:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if len(self.queue) >= self.room:
            raise BufferError
        self.queue.append((topic, message, on_delivery))

    def poll(self, seconds: float) -> int:
        if self.silent:
            return 0
        queue, self.queue = self.queue, []
        for topic, message, report in queue:
            large = self.most is not None and len(message["value"] or b"") > self.most
            refused = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if large else self.refuses
            if self.refuses_stamps(message.get("timestamp", kafka.NOW)):
                refused = KafkaError(KafkaError.INVALID_TIMESTAMP)
            if refused is None:
                self.taken.append((topic, message))
            if report is not None:
                report(refused, None)
        return len(queue)

    def flush(self, seconds: float) -> int:
        self.poll(seconds)
        return len(self.queue)

    def purge(self) -> None:
        self.queue = []

    def list_topics(self, timeout: float) -> None:
        if self.silent:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def publisher(client: Client) -> KafkaPublisher:
    return KafkaPublisher(KafkaSettings(topic_prefix="t."), Codec(), client, now=lambda: NOW)


def test_each_row_is_a_message() -> None:
    client = Client()
    publisher(client).flows(flows(3), PARTITION, 2)
    ((topic, message),) = client.taken
    assert topic == "t.flows"
    assert message["key"].startswith(b"1:")
    assert message["value"]


def test_a_queue_that_is_full_is_waited_for() -> None:
    client = Client(room=2)
    publisher(client).flows(flows(1, rows=5), PARTITION, 0)
    assert len({message["key"] for _, message in client.taken}) == len(client.taken) == 5


def test_a_message_that_can_never_be_sent_is_told() -> None:
    client = Client()
    sends = publisher(client)
    client.properties["message.max.bytes"] = 1
    with pytest.raises(ServiceUnavailable, match="Kafka did not take a message"):
        sends.flows(flows(1), PARTITION, 0)


def test_what_the_broker_does_not_take_is_told() -> None:
    client = Client()
    client.refuses = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    sends = publisher(client)
    with pytest.raises(ServiceUnavailable, match="Kafka did not take a message"):
        sends.flows(flows(1), PARTITION, 0)
    client.refuses = None
    sends.flows(flows(1), PARTITION, 0)  # an old failure is not told of a new message
    assert len(client.taken) == 1


def test_a_client_that_gave_a_message_up_is_not_used_again() -> None:
    client = Client()
    sends = publisher(client)
    before = client.connected
    sends.dead_letter(b"poison", b"n1", partition=3, offset=7, error="why")
    assert client.connected == before
    client.refuses = KafkaError(KafkaError._PURGE_QUEUE)  # as librdkafka does after a fatal error
    with pytest.raises(ServiceUnavailable, match="Kafka did not take a message"):
        sends.dead_letter(b"poison", b"n1", partition=3, offset=8, error="why")
    client.refuses = None
    sends.dead_letter(b"poison", b"n1", partition=3, offset=8, error="why")
    assert client.connected == before + 1


def test_live_statistics_that_wait_are_not_a_dead_letters_concern() -> None:
    client, waiting = Client(), Client()
    clients = iter([client, client, client, waiting])  # the live statistics' comes last
    sends = KafkaPublisher(KafkaSettings(), Codec(), lambda *args, **ours: next(clients)(*args, **ours))  # noqa: PLW0108  another each time
    waiting.silent = True
    sends.live(STATS)
    sends.dead_letter(b"poison", b"n1", partition=3, offset=7, error="why")
    assert (len(client.taken), len(waiting.queue)) == (1, 1)


def test_what_is_not_acknowledged_in_time_is_taken_back_and_told() -> None:
    client = Client()
    client.silent = True
    with pytest.raises(ServiceUnavailable, match="not acknowledged 1 messages in 30 s"):
        publisher(client).flows(flows(1), PARTITION, 0)
    assert client.queue == []  # else it would come twice


def test_a_dead_letter_tells_where_it_is_from() -> None:
    client = Client()
    publisher(client).dead_letter(b"poison", b"n1", partition=3, offset=7, error="why")
    ((topic, message),) = client.taken
    assert (topic, message["value"], message["key"]) == ("t.dead-letter", b"poison", b"n1")
    assert dict(message["headers"]) == {
        "source-topic": "t.packets",
        "source-partition": "3",
        "source-offset": "7",
        "error": "why",
    }


@pytest.mark.parametrize(("limit", "kept"), [(2 << 20, 1 << 20), (100_000, 1 << 14), (2_000, 256), (100, 0)])
def test_a_dead_letter_is_cut_until_it_fits_and_says_how_long_it_was(limit: int, kept: int) -> None:
    client = Client(most=limit)
    publisher(client).dead_letter(bytes(12 << 20), bytes(50_000), partition=3, offset=7, error="why" * 10_000)
    ((_, message),) = client.taken
    headers = dict(message["headers"])
    assert headers.keys() == DEAD_LETTER_HEADERS.keys()
    assert (len(message["value"]), len(message["key"])) == (kept, min(kept, 4096))
    assert (headers["original-length"], headers["original-key-length"]) == (str(12 << 20), "50000")
    assert len(headers["error"]) == 1000


def test_where_not_even_the_headers_fit_reading_goes_on_and_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(most=-1)
    publisher(client).dead_letter(b"poison", b"n1", partition=3, offset=7, error="why")
    assert not client.taken
    assert "max.message.bytes" in caplog.text


def test_live_statistics_that_nobody_takes_are_lost() -> None:
    client = Client(room=0)
    publisher(client).live(STATS)
    assert client.taken == []


def test_a_broker_that_is_away_is_told_until_it_answers() -> None:
    client = Client()
    sends = publisher(client)
    assert sends.check() is None
    assert client.on_error is not None
    client.on_error(KafkaError(KafkaError._TRANSPORT))  # one connection; others may be there
    assert sends.check() is None
    client.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    client.silent = True
    assert sends.check() == "no broker of kafka.bootstrap_servers answers"
    client.silent = False
    assert sends.check() is None


def test_a_flow_carries_its_windows_begin_and_live_statistics_their_nodes_clock() -> None:
    client, now = Client(), START + 12.0
    sends = KafkaPublisher(KafkaSettings(topic_prefix="t."), Codec(), client, now=lambda: now)
    sends.flows(flows(1, rows=2), PARTITION, 0)
    sends.live({**STATS, "time": datetime.fromtimestamp(now - 1.5, UTC)})
    assert [(topic, message["timestamp"]) for topic, message in client.taken] == [
        *[("t.flows", START * 1000)] * 2,
        ("t.live", START * 1000 + 10_500),
    ]


def test_what_is_old_or_ahead_is_sent_with_the_time_of_sending() -> None:
    client = Client()
    sends = publisher(client)
    sends.flows(flows(1, WindowId(1_262_304_000, 10)), PARTITION, 0)
    sends.live({**STATS, "time": datetime.fromtimestamp(NOW + 365 * 86_400, UTC)})
    assert [message["timestamp"] for _, message in client.taken] == [NOW * 1000] * 2


@pytest.mark.parametrize("kept", ["sending", "none"])
def test_a_time_that_the_broker_refuses_is_no_reason_not_to_send(kept: str) -> None:
    client, now = Client(), START + 12.0
    sends = KafkaPublisher(KafkaSettings(topic_prefix="t."), Codec(), client, now=lambda: now)
    client.refuses_stamps = (lambda stamp: stamp > 0) if kept == "sending" else (lambda stamp: stamp >= 0)
    expected = kafka.NOW if kept == "sending" else kafka.TIMELESS
    sends.flows(flows(1, rows=2), PARTITION, 0)
    sends.dead_letter(b"poison", b"n1", partition=3, offset=7, error="why")
    for _ in range(3):  # those that are refused are lost
        sends.live(STATS)
    assert [(topic, message["timestamp"]) for topic, message in client.taken] == [
        *[("t.flows", expected)] * 2,
        ("t.dead-letter", expected),
        *[("t.live", expected)] * (2 if kept == "sending" else 1),
    ]


def test_several_live_statistics_that_are_refused_at_a_time_are_one_step() -> None:
    client = Client()
    sends = publisher(client)
    client.refuses_stamps = lambda stamp: stamp > 0
    client.silent = True
    for _ in range(3):
        sends.live(STATS)
    client.silent = False
    client.poll(0)
    sends.live(STATS)
    assert [message["timestamp"] for _, message in client.taken] == [kafka.NOW]


def test_closing_waits_for_what_is_on_its_way() -> None:
    client = Client()
    sends = publisher(client)
    client.produce("t.live", value=b"x")
    sends.close()
    assert client.queue == []
