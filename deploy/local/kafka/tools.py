"""`ayaflow kafka-tool`: the command-line tools of Apache Kafka, from the jars of the local broker."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from common.errors import EnvironmentProblem
from common.settings import KafkaSettings
from deploy.local.kafka.broker import JARS, find_jars, find_java

TOOLS = {  # as kafka-NAME.sh of Apache's own package is called
    "acls": "org.apache.kafka.tools.AclCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "configs": "kafka.admin.ConfigCommand",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "dump-log": "kafka.tools.DumpLogSegments",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
}
_ELSEWHERE = {"dump-log"}  # reads files, not a broker
_BROKER = ("--bootstrap-server", "--bootstrap-controller")


def run(kafka: KafkaSettings, jars: Path | None, name: str, arguments: Sequence[str]) -> NoReturn:
    """Become one of TOOLS, which is told where Kafka is unless it was. `jars`: their directory.

    Raises EnvironmentProblem.
    """
    java, classpath = find_java(), find_jars(jars)
    if not list((jars or JARS).glob("kafka-tools-[0-9]*.jar")):
        raise EnvironmentProblem(
            f"Kafka's tools are not in {jars or JARS}. Run make setup, or set local.kafka_jars_dir"
        )
    command = [
        java,
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # it ends before compiling more would pay
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('tools.log4j2.properties')}",
        "-cp",
        classpath,
        TOOLS[name],
        *with_broker(kafka, name, arguments),
    ]
    os.execvp(java, command)  # noqa: S606  no shell: its signals, streams and exit code are ours


def with_broker(kafka: KafkaSettings, name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--bootstrap-server` where they do not say it."""
    said = any(each.split("=", 1)[0] in _BROKER for each in arguments)
    if said or name in _ELSEWHERE or "--help" in arguments:
        return [*arguments]
    return [_BROKER[0], kafka.bootstrap_servers, *arguments]
