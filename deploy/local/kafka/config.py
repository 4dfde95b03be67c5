"""The configuration of the local single-node Kafka, as text. Pure."""

from collections.abc import Mapping
from pathlib import Path

from common.address import Address
from schemas.topics import MAX_MESSAGE_BYTES


def server_properties(*, listener: Address, controller_port: int, data: Path, partitions: int) -> str:
    """server.properties of a broker that is its own controller (KRaft)."""
    values: Mapping[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://{listener.text},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{listener.text}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        "num.partitions": partitions,
        # one node holds one copy of everything
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        # a mistyped topic name is an error, not a new topic
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # a broker that was killed is let in again when its session has ended
        "broker.heartbeat.interval.ms": 1_000,
        "broker.session.timeout.ms": 3_000,
        # there is no follower to be told that nothing has changed, twice a second and on the disk
        "metadata.max.idle.interval.ms": 0,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        "fetch.max.bytes": 8 * MAX_MESSAGE_BYTES,
        "log.retention.check.interval.ms": 30_000,
        # small: it shares the machine with what it serves
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())
