"""`python -m deploy.local.kafka.archive`: a broker's classes as Java has parsed and checked them, for the next.

A broker that has them starts in two thirds of the CPU time (Java's class data sharing). They are of one Java and of our
own jars: another Java passes them over, and all is as without. `make setup` runs this.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from common import kafka
from common.address import Address
from common.errors import AyaflowError, ServiceUnavailable
from common.settings import KafkaSettings
from deploy.local.kafka.broker import ARCHIVE, MAIN, find_jars, find_java, format_storage, java_flags
from deploy.local.kafka.config import server_properties
from schemas.topics import TopicNames, topics

_SECONDS = 120.0


def write() -> None:
    """Run a broker once, with what brokers are asked most, and have Java write what it loaded. Raises AyaflowError."""
    ARCHIVE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="ayaflow-archive-") as name, contextlib.ExitStack() as at_end:
        directory = Path(name)
        listener, controller = _free("kafka.bootstrap_servers"), _free("local.kafka_controller_port")
        properties, data = directory / "server.properties", directory / "kafka"
        lines = server_properties(listener=listener, controller_port=controller.port, data=data, partitions=1)
        properties.write_text(lines, "utf-8")
        flags = java_flags(find_java(), find_jars(None), heap_mb=256, log_dir=directory)
        format_storage(flags, properties, data)
        flags.append(f"-XX:ArchiveClassesAtExit={ARCHIVE}")
        java = subprocess.Popen(
            [*flags, MAIN, str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        at_end.callback(java.wait)
        at_end.callback(java.kill)
        _use(KafkaSettings(bootstrap_servers=listener.text, partitions=1), java)
        java.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            java.wait(_SECONDS)
    if not ARCHIVE.exists():
        raise ServiceUnavailable("Java wrote no archive")


def _free(setting: str) -> Address:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return Address(host="127.0.0.1", port=probe.getsockname()[1], setting=setting)


def _use(settings: KafkaSettings, java: "subprocess.Popen[bytes]") -> None:
    """Have topics made, and a message stored in a transaction and read by a group. Raises ServiceUnavailable."""
    admin, end = kafka.admin(settings), time.monotonic() + _SECONDS
    while not _answers(admin):
        if java.poll() is not None or time.monotonic() > end:
            raise ServiceUnavailable("the broker did not answer")
    kafka.create_missing(settings, topics(settings), client=admin)
    topic = TopicNames.of(settings.topic_prefix).packets
    consumer = kafka.consumer(settings, group="archive")
    try:
        producer = kafka.producer(settings, on_error=lambda error: None, ours={"transactional.id": "archive"})
        producer.init_transactions(_SECONDS)
        producer.begin_transaction()
        producer.produce(topic, b"a message")
        producer.commit_transaction(_SECONDS)
        consumer.subscribe([topic])
        message = consumer.poll(_SECONDS)
        if message is None or message.error():
            raise ServiceUnavailable("the broker gave back no message")
        consumer.commit(message=message, asynchronous=False)
    except KafkaException as error:
        raise ServiceUnavailable(f"the broker did not serve: {kafka.reason(error)}") from error
    finally:
        consumer.close()


def _answers(admin: Any) -> bool:
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def _main() -> int:
    try:
        write()
    except AyaflowError as error:
        sys.stderr.write(f"no archive of Kafka's classes, so brokers start without: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
