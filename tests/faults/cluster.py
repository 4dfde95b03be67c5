"""Three brokers from the jars of the local one: KRaft, each a controller too; three copies of all, two must have it."""

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from common import kafka
from common.address import Address
from common.settings import KafkaSettings
from deploy.local.kafka import broker
from deploy.local.kafka.config import server_properties
from schemas.topics import TopicNames

BROKERS = 3
_HEAP_MB = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One of the brokers."""

    name: str
    address: str
    command: tuple[str, ...]


def prepare(directory: Path) -> list[Server]:
    """Write the settings and format the directories."""
    java, classpath = broker.find_java(), broker.find_jars(None)
    identity = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    voters = ",".join(f"{number}@127.0.0.1:{9093 + 100 * number}" for number in range(1, BROKERS + 1))
    return [_prepare(directory, number, java, classpath, identity, voters) for number in range(1, BROKERS + 1)]


def _prepare(directory: Path, number: int, java: str, classpath: str, identity: str, voters: str) -> Server:
    name, data = f"kafka-{number}", directory / f"kafka-{number}"
    listener = Address(host="127.0.0.1", port=9092 + 100 * number, setting="kafka.bootstrap_servers")
    text = server_properties(listener=listener, controller_port=9093 + 100 * number, data=data, partitions=4)
    others = {
        "node.id": number,
        "controller.quorum.voters": voters,
        "default.replication.factor": 3,
        "min.insync.replicas": 2,
        "offsets.topic.replication.factor": 3,
        "transaction.state.log.replication.factor": 3,
        "transaction.state.log.min.isr": 2,
        "share.coordinator.state.topic.replication.factor": 3,
        "share.coordinator.state.topic.min.isr": 2,
        "replica.lag.time.max.ms": 5_000,
        "controller.quorum.fetch.timeout.ms": 2_000,
    }
    lines = [line for line in text.splitlines() if line.split("=")[0] not in others]
    properties = directory / f"{name}.properties"
    properties.write_text("\n".join([*lines, *(f"{key}={value}" for key, value in others.items())]) + "\n")
    data.mkdir()
    flags = (
        java,
        f"-Xmx{_HEAP_MB}m",
        "-Xms64m",
        "-XX:+UseSerialGC",
        "-Djava.awt.headless=true",
        f"-Dayaflow.logs={directory / name}-logs",
        f"-Dlog4j2.configurationFile={Path(broker.__file__).with_name('log4j2.properties')}",
        "-cp",
        classpath,
    )
    subprocess.run(
        [*flags, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties)],
        check=True,
        capture_output=True,
    )
    return Server(name=name, address=listener.text, command=(*flags, "kafka.Kafka", str(properties)))


def leaders(bootstrap: str) -> dict[int, int]:
    """The broker that leads each partition of the packets topic; -1: none."""
    found = kafka.admin(KafkaSettings(bootstrap_servers=bootstrap)).list_topics(timeout=60)
    return {number: each.leader for number, each in found.topics[TopicNames.of("ayaflow.").packets].partitions.items()}


def led_by_others(bootstrap: str, number: int) -> bool:
    """Whether every partition of the packets topic has a leader, and none of them this broker."""
    try:
        found = set(leaders(bootstrap).values())
    except KafkaException:
        return False
    return not found & {number, -1}


def whole(bootstrap: str) -> bool:
    """Whether every partition of every topic has all its replicas in sync."""
    try:
        found = kafka.admin(KafkaSettings(bootstrap_servers=bootstrap)).list_topics(timeout=60)
    except KafkaException:
        return False
    partitions = [each for topic in found.topics.values() for each in topic.partitions.values()]
    return len(found.brokers) == BROKERS and bool(partitions) and all(len(each.isrs) == BROKERS for each in partitions)
