"""`ayaflow kafka-tool`: Kafka's own tools, with a real broker. Needs a JRE and the jars of make setup."""

import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from common import kafka
from common.settings import KafkaSettings
from deploy.local.kafka.broker import JARS
from deploy.local.kafka.tools import TOOLS
from schemas.topics import topics
from tests.fix_local import REPOSITORY, environment
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.kafka
NOBODY = "127.0.0.1:1"


def tool(*words: str, bootstrap: str = NOBODY, input: str = "", **settings: object) -> tuple[int, str, str]:  # noqa: A002
    """Exit code, standard output and standard error."""
    env = environment(kafka_bootstrap_servers=bootstrap, **settings)
    env.pop("JDK_JAVA_OPTIONS", None)  # java says on standard error that there are some
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "kafka-tool", *words],
        cwd=REPOSITORY,
        env=env,
        input=input,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def topic(kafka_broker: str) -> str:
    """One of three messages, of which a group has read two."""
    settings = KafkaSettings(bootstrap_servers=kafka_broker, topic_prefix=f"tools-{uuid.uuid4().hex}.", partitions=1)
    kafka.create_missing(settings, topics(settings))
    name = f"{settings.topic_prefix}flows"
    producer = Producer({"bootstrap.servers": kafka_broker})
    for number in range(3):
        producer.produce(name, f"value {number}", f"key {number}")
    assert producer.flush(HANG_SECONDS) == 0
    consumer = Consumer({"bootstrap.servers": kafka_broker, "group.id": name, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(name, 0, 2)], asynchronous=False)
    consumer.close()
    return name


def test_topics_are_described_as_they_were_made(kafka_broker: str, topic: str) -> None:
    code, out, err = tool("topics", "--describe", "--topic", topic, bootstrap=kafka_broker)
    assert (code, err) == (0, "")
    assert "PartitionCount: 1" in out
    assert "retention.ms=604800000" in out


def test_a_groups_lag_is_shown(kafka_broker: str, topic: str) -> None:
    code, out, _ = tool("consumer-groups", "--describe", "--group", topic, bootstrap=kafka_broker)
    assert code == 0
    (row,) = [line.split() for line in out.splitlines() if line.startswith(topic)]
    assert row[:6] == [topic, topic, "0", "2", "3", "1"]


def test_messages_are_read_and_written(kafka_broker: str, topic: str) -> None:
    code, _, err = tool(
        *("console-producer", "--topic", topic, "--property", "parse.key=true"),
        bootstrap=kafka_broker,
        input="key 3\tvalue 3\n",
    )
    assert (code, err) == (0, "")
    code, out, err = tool(
        *("console-consumer", "--topic", topic, "--from-beginning", "--max-messages", "4", "--timeout-ms", "90000"),
        *("--property", "print.key=true", "--property", "print.timestamp=true"),
        bootstrap=kafka_broker,
    )
    assert code == 0
    assert "Processed a total of 4 messages" in err
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[1:] for row in rows] == [[f"key {number}", f"value {number}"] for number in range(4)]
    assert abs(int(rows[0][0].removeprefix("CreateTime:")) / 1000 - time.time()) < 2 * HANG_SECONDS


def test_a_broker_that_is_named_wins_over_the_settings(kafka_broker: str, topic: str) -> None:
    for words in (["--bootstrap-server", kafka_broker], [f"--bootstrap-server={kafka_broker}"]):
        code, out, _ = tool("get-offsets", *words, "--topic", topic)
        assert (code, out.strip()) == (0, f"{topic}:0:3")


def test_a_tools_own_mistakes_are_its_own(kafka_broker: str) -> None:
    code, out, err = tool("topics", "--lsit", bootstrap=kafka_broker)
    assert code == 1
    assert "lsit" in out + err


@pytest.mark.wide  # a JVM each
@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_there_and_tells_of_its_options(name: str) -> None:
    _, out, err = tool(name, "--help")
    assert "--help" in out + err
    assert "Error: Could not find or load main class" not in err
    assert "NoClassDefFoundError" not in err


def test_jars_without_the_tools_are_a_sentence(tmp_path: Path) -> None:
    shutil.copy(next(JARS.glob("kafka_*.jar")), tmp_path)
    code, out, err = tool("topics", "--list", local_kafka_jars_dir=tmp_path)
    assert (code, out) == (3, "")
    assert "Run make setup" in err
