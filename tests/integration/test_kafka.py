"""The local Kafka: a real broker, run by deploy.local.kafka. Needs a JRE and the jars of make setup."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from common import kafka
from common.settings import KafkaSettings
from deploy.local.kafka.broker import ARCHIVE
from schemas.topics import topics
from tests.fix_local import free_port, refusal, running_kafka, temporary_directory
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka


def produce_one(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 8 << 20, "acks": "all"})
    errors: list[object] = []
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(HANG_SECONDS) == 0
    assert errors == [None]


def read_one(bootstrap: str, topic: str) -> bytes:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "test",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 16 << 20,
            "receive.message.max.bytes": 100 << 20,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(HANG_SECONDS)
        assert message is not None
        assert message.error() is None
        found = message.value()
        assert found is not None
        return found
    finally:
        consumer.close()


def test_the_broker_has_our_topics_with_their_partitions_and_retention(kafka_broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_broker)
    admin = kafka.admin(settings)
    found = admin.list_topics(timeout=HANG_SECONDS).topics
    for topic in topics(settings):
        assert len(found[topic.name].partitions) == topic.partitions
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic.name)
        config = admin.describe_configs([resource])[resource].result(10)
        assert {key: config[key].value for key in topic.config} == topic.config


def test_topics_that_exist_are_left_as_they_are(kafka_broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_broker, partitions=9)
    assert kafka.create_missing(settings, topics(settings)) == []


def test_a_message_of_seven_megabytes_passes(kafka_broker: str) -> None:
    value = os.urandom(7 << 20)
    produce_one(kafka_broker, "ayaflow.dead-letter", value)
    assert read_one(kafka_broker, "ayaflow.dead-letter") == value


def test_an_unknown_topic_is_not_made_by_asking_for_it(kafka_broker: str) -> None:
    admin = kafka.admin(KafkaSettings(bootstrap_servers=kafka_broker))
    assert admin.list_topics("ayaflow.packtes", timeout=HANG_SECONDS).topics["ayaflow.packtes"].error is not None
    assert "ayaflow.packtes" not in admin.list_topics(timeout=HANG_SECONDS).topics


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_data_survives_a_kill_of_the_broker_and_nothing_outlives_its_parent() -> None:
    with temporary_directory() as directory:
        with running_kafka(directory) as (bootstrap, process):
            produce_one(bootstrap, "ayaflow.dead-letter", b"kept")
            [java] = children(process)
            archived = str(ARCHIVE) in Path(f"/proc/{java}/maps").read_text()
            process.kill()
            process.wait()
            until(lambda: gone(java), lambda: "java outlived its parent")
        with running_kafka(directory) as (bootstrap, process):
            assert read_one(bootstrap, "ayaflow.dead-letter") == b"kept"
            [java] = children(process)
            os.kill(java, signal.SIGKILL)
            assert process.wait(HANG_SECONDS) == 4
        assert "Kafka ended by SIGKILL" in (directory / "kafka.out").read_text()
        assert archived == ARCHIVE.exists(), "Java passes the archive of make setup over"


def test_a_second_broker_on_the_same_port_or_directory_says_so(kafka_broker: str) -> None:
    with temporary_directory() as directory:
        code, said = refusal(
            "kafka", directory, kafka__bootstrap_servers=kafka_broker, local__kafka_controller_port=free_port()
        )
        assert code == 3
        assert f"port {kafka_broker.rpartition(':')[2]} is in use by java" in said
        assert "kafka.bootstrap_servers" in said


def test_a_damaged_data_directory_is_a_sentence() -> None:
    with temporary_directory() as directory:
        (directory / "kafka").mkdir()
        (directory / "kafka/meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
        code, said = refusal(
            "kafka",
            directory,
            kafka__bootstrap_servers=f"127.0.0.1:{free_port()}",
            local__kafka_controller_port=free_port(),
        )
        assert code == 4
        assert "damaged: move that directory away" in said
        assert "Traceback" not in said


def test_missing_jars_are_a_sentence() -> None:
    with temporary_directory() as directory:
        code, said = refusal("kafka", directory, local__kafka_jars_dir=directory / "none")
        assert code == 3
        assert "Run make setup" in said


def test_it_stops_cleanly_on_sigterm_and_starts_again_on_the_same_directory() -> None:
    with temporary_directory() as directory:
        for _ in range(2):
            with running_kafka(directory) as (_, process):
                process.send_signal(signal.SIGTERM)
                assert process.wait(HANG_SECONDS) == 0
