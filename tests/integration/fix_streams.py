"""The streams component as a process of its own, and what goes into it and comes out."""

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
from confluent_kafka import Consumer, Producer, TopicPartition

import common.settings
from common import kafka
from common.settings import KafkaSettings
from console.audit import run as audit_run
from console.audit.read import Range
from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from schemas.topics import TopicNames, topics
from tests import waiting
from tests.fix_local import REPOSITORY, WRITER_SETTINGS, environment, free_port, temporary_directory
from tests.integration.fix_clickhouse import connect, http
from tests.waiting import HANG_SECONDS

ENTRY = """
import sys
from cli import unused
from common import logs, settings
from common.errors import AyaflowError
logs.configure(form="text", level="debug")
try:
    with unused.left_out():
        from streams import component
        sys.exit(component.run(settings.load()))
except AyaflowError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass
class Pipeline:
    """Topics, a database and a consumer group for one test, and the processes it starts."""

    kafka: str
    clickhouse: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    prefix: str = field(default_factory=lambda: f"t{time.time_ns()}.")
    partitions: int = 1
    prelude: str = ""  # Python, before the component starts
    _client: Any = None

    def __post_init__(self) -> None:
        self.topics = TopicNames.of(self.prefix)
        self.database = f"ayaflow_{self.prefix[1:-1]}"
        self.metrics = f"127.0.0.1:{free_port()}"
        self.codec = Codec()
        settings = KafkaSettings(bootstrap_servers=self.kafka, topic_prefix=self.prefix, partitions=self.partitions)
        kafka.create_missing(settings, topics(settings))
        self.connect()

    def connect(self) -> None:
        """A producer that knows the topics as they are now."""
        self.producer = Producer(
            # as our own: or what is tried again may come behind what was sent later
            {"bootstrap.servers": self.kafka, "linger.ms": 0, "message.max.bytes": 8 << 20, "enable.idempotence": True}
        )

    def start(self) -> subprocess.Popen[bytes]:
        settings = {
            "data_dir": str(self.directory),
            "kafka_bootstrap_servers": self.kafka,
            "kafka_topic_prefix": self.prefix,
            "kafka_partitions": str(self.partitions),
            "clickhouse_url": self.clickhouse,
            **WRITER_SETTINGS,
            "clickhouse_database": self.database,
            "streams_app_id": self.database,
            "streams_metrics_listen": self.metrics,
            "streams_window_seconds": "2",
            "streams_node_timeout_seconds": "3",
            **self.settings,
        }
        with (self.directory / "streams.out").open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "-c", self.prelude + ENTRY],
                cwd=REPOSITORY,
                env=environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        return process

    def stop(self, number: int = signal.SIGTERM) -> int:
        process = self.processes[-1]
        process.send_signal(number)
        return process.wait(HANG_SECONDS)

    @property
    def output(self) -> str:
        return (self.directory / "streams.out").read_text()

    def send(self, batches: Sequence[PacketBatch | bytes], partition: int = 0) -> None:
        for each in batches:
            value = each if isinstance(each, bytes) else self.codec.encode_packet_batch(each)
            key = None if isinstance(each, bytes) else each.node.encode()
            self.producer.produce(self.topics.packets, value=value, key=key, partition=partition)
        assert self.producer.flush(HANG_SECONDS) == 0

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connected().query(sql).result_rows]

    def command(self, sql: str) -> None:
        self._connected().command(sql)

    def _connected(self) -> Any:
        """A client; one that is made asks the server four times before it is of use."""
        if self._client is None:
            self._client = connect(self.clickhouse, database=self.database, autogenerate_session_id=False)
        return self._client

    def count(self, sql: str) -> int:
        """One number; 0 while there is no such table yet."""
        try:
            return int(self.query(sql)[0][0])
        except clickhouse_connect.driver.exceptions.ClickHouseError:
            return 0

    def stored_packets(self) -> int:
        return self.count("SELECT sum(packets + packets_rev) FROM flows")

    def audit(self, span: Range | None = None) -> tuple[int, dict[str, Any]]:
        """`ayaflow audit` -> exit code, its JSON."""
        out = io.StringIO()
        code = audit_run.run(self.audit_settings(), span or Range(), form="json", out=out)
        return code, json.loads(out.getvalue())

    def audit_settings(self) -> common.settings.Settings:
        """Of `ayaflow audit`."""
        return common.settings.load(
            flags={
                "kafka.bootstrap_servers": self.kafka,
                "kafka.topic_prefix": self.prefix,
                "clickhouse.url": self.clickhouse,
                "clickhouse.database": self.database,
                "streams.app_id": self.database,
                "streams.metrics_listen": self.metrics,
                "streams.window_seconds": "2",
                "streams.node_timeout_seconds": "3",
            }
        )

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/health", timeout=HANG_SECONDS) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except OSError:
            return {}

    def metrics_page(self) -> str:
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=HANG_SECONDS) as answer:
                return str(answer.read().decode())
        except OSError as error:
            raise AssertionError(f"{error}\n{self.output[-4000:]}") from error

    def metric(self, name: str) -> float:
        lines = self.metrics_page().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def messages(self, topic: str, partitions: int = 1) -> list[Any]:
        """All that is in a topic now."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": f"check-{time.time_ns()}",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
            }
        )
        found = []
        try:
            for partition in range(partitions):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=HANG_SECONDS)
                consumer.assign([TopicPartition(topic, partition, low)])
                taken = low
                while taken < high:
                    message = consumer.poll(HANG_SECONDS)
                    assert message is not None, "a message is missing"
                    assert message.error() is None
                    found.append(message)
                    taken += 1
        finally:
            consumer.close()
        return found

    def until(self, what: Callable[[], bool]) -> None:
        def running_and_so() -> bool:
            code = self.processes[-1].poll() if self.processes else None
            assert code is None, f"streams ended with {code}: {self.output[-4000:]}"
            return what()

        waiting.until(running_and_so, lambda: f"{self.health()}\n{self.output[-4000:]}")


@contextlib.contextmanager
def pipeline(
    kafka: str, clickhouse: str, *, partitions: int = 1, prelude: str = "", **settings: str
) -> Iterator[Pipeline]:
    """A pipeline whose processes are gone afterwards."""
    with temporary_directory() as directory:
        made = Pipeline(kafka, clickhouse, directory, settings=settings, partitions=partitions, prelude=prelude)
        try:
            yield made
        finally:
            for process in made.processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if made._client is not None:
                made._client.close()
            with contextlib.suppress(OSError):  # a test may have ended the server
                http(clickhouse, f"DROP DATABASE IF EXISTS {made.database}".encode())
