"""One partition's trouble is its own, and partitions and topics may come and go, with a real Kafka and ClickHouse."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from common import kafka
from common.settings import KafkaSettings
from schemas.avro.registry import HEADER, FixedRegistry
from schemas.topics import topics
from tests import waiting
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

UNKNOWN = 999


class Registry:
    """A schema registry that knows our schemas and is silent about another until it is let go."""

    def __init__(self) -> None:
        self.speaks = threading.Event()
        fixed, speaks = FixedRegistry(), self.speaks

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                schema_id = int(self.path.partition("?")[0].rpartition("/")[2])
                if schema_id == UNKNOWN:
                    speaks.wait(HANG_SECONDS)
                    self._answer(404, {"error_code": 40403, "message": "Schema not found"})
                else:
                    self._answer(200, {"schema": fixed.schema(schema_id)})

            def do_POST(self) -> None:
                name = {"live-value": "LiveStats", "flows-value": "FlowRecord"}[self.path.split("/")[2].split(".")[-1]]
                self._answer(200, {"id": fixed.schema_id(name)})

            def _answer(self, status: int, body: dict[str, object]) -> None:
                content = json.dumps(body).encode()
                with contextlib.suppress(OSError):  # it was given up
                    self.send_response(status)
                    self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Not in the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.speaks.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


class Node:
    """Sends a packet each time it is asked, of now."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline, self.name, self.sent = pipeline, name, 0

    def send(self, partition: int, packets: int = 1) -> None:
        now = time.time_ns()
        made = batch(
            [Packet(time_ns=now - SECOND + n) for n in range(packets)],
            node=self.name,
            ring_start=self.sent * STRIDE,
            clock_ns=now,
        )
        self.sent += packets
        self.pipeline.send([made], partition)

    def stored(self) -> bool:
        """Whether all that was sent is stored; the node goes on saying what time it is."""
        return self.pipeline.count(f"SELECT sum(packets) FROM flows WHERE node = '{self.name}'") == self.sent


def test_a_message_that_waits_for_the_registry_holds_no_other_partition(
    kafka_broker: str, clickhouse_server: str, registry: Registry
) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=2, schema_registry_url=registry.url) as p:
        p.start()
        p.until(lambda: bool(p.health().get("ok")))
        p.send([HEADER.pack(0, UNKNOWN) + b"anything"], partition=1)
        held, free = Node(p, "held"), Node(p, "free")
        held.send(1)
        p.until(lambda: bool(p.health().get("troubles")))
        for _ in range(5):
            free.send(0)
            p.until(free.stored)
            health = p.health()
            assert not health["ok"]
            assert "does not answer" in health["registry"]
            assert [trouble["partition"] for trouble in health["troubles"]] == [1]
        assert not held.stored()
        registry.speaks.set()
        p.until(held.stored)
        (letter,) = p.messages(p.topics.dead_letter)
        assert dict(letter.headers())["source-partition"] == b"1"
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0


def test_partitions_that_are_added_under_traffic_are_read_within_seconds(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        node = Node(p, "n1")
        node.send(0)
        p.until(node.stored)
        admin = kafka.admin(KafkaSettings(bootstrap_servers=kafka_broker))
        admin.create_partitions([NewPartitions(p.topics.packets, 4)])[p.topics.packets].result(HANG_SECONDS)
        begun = time.monotonic()
        p.connect()
        node.send(3)  # its key is another partition's now
        p.until(node.stored)
        assert time.monotonic() - begun < 120  # Kafka's clients look by themselves each five minutes
        p.until(lambda: p.health()["watermark_delay_seconds"] is None)  # it is silent, and was in partition 0 before
        assert p.stop() == 0


def test_a_partition_that_gets_stuck_is_named_while_the_others_go_on(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=2) as p:
        p.start()
        stuck, free = Node(p, "stuck"), Node(p, "free")
        stuck.send(1)
        free.send(0)
        p.until(lambda: stuck.stored() and free.stored())
        p.command("ALTER TABLE flows ADD CONSTRAINT no CHECK node != 'stuck'")
        p.command("ALTER TABLE refused ADD CONSTRAINT no CHECK NOT has(nodes, 'stuck')")  # nor can it be set aside
        stuck.send(1)
        p.until(lambda: bool(p.health()["troubles"]))
        for _ in range(3):
            free.send(0)
            p.until(free.stored)
            health = p.health()
            assert not health["ok"]
            assert {trouble["partition"] for trouble in health["troubles"]} == {1}
            assert all(trouble["window_begin"] for trouble in health["troubles"])
        p.until(lambda: {each["partition"] for each in p.health()["backlog"]} >= {1})
        assert 'ayaflow_streams_oldest_unstored_seconds{partition="1"}' in p.metrics_page()
        p.command("ALTER TABLE flows DROP CONSTRAINT no")
        p.command("ALTER TABLE refused DROP CONSTRAINT no")
        p.until(stuck.stored)
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0


@pytest.mark.parametrize(
    "which", ["flows", *(pytest.param(name, marks=pytest.mark.wide) for name in ("live", "dead_letter"))]
)
def test_an_output_topic_that_is_deleted_is_made_anew(kafka_broker: str, clickhouse_server: str, which: str) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        node = Node(p, "n1")
        node.send(0)
        p.until(node.stored)
        name = getattr(p.topics, which)
        admin = kafka.admin(KafkaSettings(bootstrap_servers=kafka_broker))
        admin.delete_topics([name])[name].result(HANG_SECONDS)
        begun = time.monotonic()
        node.send(0)
        p.send([b"nonsense"])
        p.until(node.stored)
        p.until(lambda: "a topic was gone" in p.output and has_messages(p, name))
        p.until(lambda: bool(p.health()["ok"]))
        assert time.monotonic() - begun < 60
        assert p.stop() == 0


def has_messages(p: Pipeline, topic: str) -> bool:
    try:
        return bool(p.messages(topic))
    except KafkaException:  # it has just been made, and has no leader yet
        return False


def test_a_packets_topic_that_is_made_anew_with_fewer_partitions_under_streams_is_read(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=3, kafka_partitions="1") as p:
        p.start()
        old = Node(p, "old")
        for partition in range(3):
            old.send(partition)
        p.until(old.stored)
        admin = kafka.admin(KafkaSettings(bootstrap_servers=kafka_broker))
        admin.delete_topics([p.topics.packets])[p.topics.packets].result(HANG_SECONDS)
        settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=p.prefix, partitions=1)
        waiting.until(lambda: p.topics.packets in made(settings) or known(admin, p.topics.packets))
        p.connect()
        new = Node(p, "new")
        new.send(0)

        def stored() -> bool:
            if p.processes[-1].poll() is not None:  # as whoever runs it does
                assert "made anew" in p.output or "start it again" in p.output.lower() or "; start again" in p.output
                p.start()
            return new.stored()

        waiting.until(stored, lambda: p.output[-4000:])
        assert p.stop() == 0


def made(settings: KafkaSettings) -> list[str]:
    return kafka.create_missing(settings, topics(settings))


def known(admin: AdminClient, topic: str) -> bool:
    return topic in admin.list_topics(timeout=HANG_SECONDS).topics


@pytest.mark.parametrize("megabytes", [12, pytest.param(100, marks=pytest.mark.wide)])
def test_poison_of_any_size_in_one_partition_holds_no_other(
    kafka_broker: str, clickhouse_server: str, megabytes: int
) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=2) as p:
        p.start()
        free, behind = Node(p, "free"), Node(p, "behind")
        hostile = Producer(
            {"bootstrap.servers": kafka_broker, "compression.type": "zstd", "message.max.bytes": 200 << 20}
        )
        for _ in range(3):
            hostile.produce(p.topics.packets, value=bytes(megabytes << 20), key=b"evil", partition=1)
        assert hostile.flush(HANG_SECONDS) == 0
        behind.send(1)
        free.send(0)
        p.until(lambda: free.stored() and behind.stored())
        p.until(lambda: len(p.messages(p.topics.dead_letter)) == 3)
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0
