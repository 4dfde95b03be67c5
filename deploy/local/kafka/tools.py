"""`ayaflow kafka-tool`: the command-line tools of Apache Kafka, from the jars of the local broker."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from common.errors import EnvironmentProblem
from common.security.login import Login
from common.settings import KafkaSettings
from deploy.local.kafka.broker import JARS, find_jars, find_java
from deploy.local.kafka.java import client_properties, system_properties

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
_CONFIG = {  # what a tool calls a file with properties, where not --command-config
    "console-consumer": "--consumer.config",
    "console-producer": "--producer.config",
    "leader-election": "--admin.config",
}


def run(kafka: KafkaSettings, jars: Path | None, name: str, arguments: Sequence[str]) -> NoReturn:
    """Become one of TOOLS, which is told where Kafka is unless it was. `jars`: their directory.

    Raises EnvironmentProblem, SettingsError.
    """
    java, classpath = find_java(), find_jars(jars)
    if not list((jars or JARS).glob("kafka-tools-[0-9]*.jar")):
        raise EnvironmentProblem(
            f"Kafka's tools are not in {jars or JARS}. Run make setup, or set local.kafka_jars_dir"
        )
    arguments = with_broker(kafka, name, arguments)
    option = _CONFIG.get(name, "--command-config")
    flags: list[str] = []
    if name not in _ELSEWHERE and not any(each.split("=", 1)[0] == option for each in arguments):
        login = Login.of(kafka, "kafka-tool")
        if said := client_properties(login):
            arguments, flags = [*arguments, option, _in_memory(said)], system_properties(login)
    command = [
        java,
        *flags,
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # it ends before compiling more would pay
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('tools.log4j2.properties')}",
        "-cp",
        classpath,
        TOOLS[name],
        *arguments,
    ]
    os.execvp(java, command)  # noqa: S606  no shell: its signals, streams and exit code are ours


def _in_memory(text: str) -> str:
    """The path of a file that the program that we become can read, and no other user; it is gone with that."""
    file = os.memfd_create("properties", 0)
    os.write(file, text.encode())
    return f"/proc/self/fd/{file}"


def with_broker(kafka: KafkaSettings, name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--bootstrap-server` where they do not say it."""
    said = any(each.split("=", 1)[0] in _BROKER for each in arguments)
    if said or name in _ELSEWHERE or "--help" in arguments:
        return [*arguments]
    return [_BROKER[0], kafka.bootstrap_servers, *arguments]
