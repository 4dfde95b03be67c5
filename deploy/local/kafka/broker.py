"""`ayaflow kafka`: a real Apache Kafka on this machine alone, single-node KRaft, run by us.

Java is a child of this process and dies with it. Everything it writes is below data_dir.
"""

import base64
import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import KafkaException

from common import kafka, logs
from common.address import Address
from common.errors import EnvironmentProblem, ServiceUnavailable
from common.settings import KafkaSettings, Settings
from common.stopping import END_SECONDS, Stop, stop_on_signals
from deploy.local import endpoints
from deploy.local.kafka.config import server_properties
from deploy.local.process import dies_with_parent, make_directory, only_one, rss_mb, stop
from schemas.topics import topics

log = logs.get("kafka")

START_SECONDS = 60
STOP_SECONDS = 15
OLDEST_JAVA = 17
JARS = Path(__file__).parents[1] / "jars"
ARCHIVE = Path(__file__).with_name("classes.jsa")
"""The classes of our own jars as Java has parsed them: archive.py writes it, and all goes without it, too."""
MAIN = "kafka.Kafka"


def run(settings: Settings) -> int:
    """Run the broker until SIGINT or SIGTERM. Returns 0 on a clean stop, 4 when Kafka died by itself.

    Raises EnvironmentProblem or SettingsError when it cannot start.
    """
    listener = endpoints.kafka(settings.kafka)
    if not listener.is_loopback:
        raise EnvironmentProblem(
            f"kafka.bootstrap_servers names {listener.text}, which is not on this machine: use that Kafka "
            "as it is, or set a loopback address for a local one"
        )
    with stop_on_signals(within=END_SECONDS) as stopping, only_one(settings.data_dir, "kafka", "a local Kafka"):
        return _serve(settings, listener, stopping)


def _serve(settings: Settings, listener: Address, stopping: Stop) -> int:
    began = time.monotonic()
    java = find_java()
    classpath = find_jars(settings.local.kafka_jars_dir)
    controller = Address(
        host="127.0.0.1", port=settings.local.kafka_controller_port, setting="local.kafka_controller_port"
    )
    for address in (listener, controller):
        if endpoints.in_use(address):
            raise EnvironmentProblem(endpoints.refusal(address))
    data, log_dir = settings.data_dir / "kafka", settings.data_dir / "logs/kafka"
    for directory in (data, log_dir):
        make_directory(directory)
    properties = settings.data_dir / "run/kafka/server.properties"
    _write(
        properties,
        server_properties(
            listener=listener, controller_port=controller.port, data=data, partitions=settings.kafka.partitions
        ),
    )
    flags = java_flags(java, classpath, heap_mb=settings.local.kafka_heap_mb, log_dir=log_dir)
    if settings.local.kafka_jars_dir is None and ARCHIVE.exists():
        flags.append(f"-XX:SharedArchiveFile={ARCHIVE}")
    if not (data / "meta.properties").exists():
        format_storage(flags, properties, data)
    output, broker_log = log_dir / "kafka-java.log", log_dir / "kafka-broker.log"
    seen = broker_log.stat().st_size if broker_log.exists() else 0
    with output.open("wb") as sink:
        child = _spawn([*flags, MAIN, str(properties)], sink.fileno())
    try:
        _await_ready(settings.kafka, log_dir, child, stopping)
        if child.poll() is None and not stopping.is_set():
            log.info(
                "ready",
                bootstrap_servers=listener.text,
                seconds=round(time.monotonic() - began, 1),
                java=child.pid,
                rss_mb=rss_mb(child.pid),
            )
        while child.poll() is None and not stopping.is_set():
            stopping.wait(0.2)
        if stopping.is_set():
            if not stop(child, STOP_SECONDS):
                log.warning("killed", reason=f"Kafka did not stop in {STOP_SECONDS} s")
            log.info("stopped")
            return 0
        said = _last_errors(_tail(broker_log, seen)) or _last_errors(_tail(output, 0)) or "it did not say why"
        raise ServiceUnavailable(_obituary(child.returncode, said, data, broker_log))
    finally:
        stop(child, STOP_SECONDS)


def _spawn(command: list[str], output: int) -> subprocess.Popen[bytes]:
    # a session of its own: a Ctrl-C in the terminal reaches us alone, and we pass it on
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  one thread runs when we get here
    )


def java_flags(java: str, classpath: str, *, heap_mb: int, log_dir: Path) -> list[str]:
    """The command of a JVM, up to the class that it runs."""
    return [
        java,
        f"-Xmx{heap_mb}m",
        "-Xms64m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dayaflow.logs={log_dir}",
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
        "-cp",
        classpath,
    ]


def format_storage(flags: list[str], properties: Path, data: Path) -> None:
    """Give an empty directory its cluster id; Kafka keeps it in meta.properties. Raises EnvironmentProblem."""
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never begins with "-"
    done = subprocess.run(
        [*flags, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = _last_errors(done.stdout + done.stderr) or (done.stdout + done.stderr).strip()[-300:]
        raise EnvironmentProblem(f"Kafka could not prepare {data}: {said}. Make room or move the directory away")


def _await_ready(settings: KafkaSettings, log_dir: Path, child: subprocess.Popen[bytes], stopping: Stop) -> None:
    """Return when the broker answers and has our topics, or when it ended. Raises ServiceUnavailable."""
    admin = kafka.admin(settings)
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None and not stopping.is_set():
        with contextlib.suppress(KafkaException, ServiceUnavailable):  # not yet
            if admin.list_topics(timeout=0.5).brokers:
                kafka.create_missing(settings, topics(settings), timeout_seconds=5)
                return
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"Kafka did not answer in {START_SECONDS} s. See {log_dir}/kafka-broker.log")
        stopping.wait(0.1)


def find_java() -> str:
    """The name or path of a new enough `java`: JAVA_HOME's, else that on PATH. Raises EnvironmentProblem."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"
    advice = "Run make setup, or: sudo apt-get install default-jre-headless"
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    except OSError as error:
        raise EnvironmentProblem(f"Kafka needs Java, and {java} cannot be run ({error.strerror}). {advice}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if not found:
        raise EnvironmentProblem(f"cannot tell the version of {java}: it says {said.strip()[:200]!r}. {advice}")
    if int(found[1]) < OLDEST_JAVA:
        raise EnvironmentProblem(f"Kafka needs Java {OLDEST_JAVA} or newer, and {java} is {found[1]}. {advice}")
    return java


def find_jars(directory: Path | None) -> str:
    """Java's class path for Kafka; None: where make setup puts its jars. Raises EnvironmentProblem."""
    directory = directory or JARS
    if not list(directory.glob("kafka_*.jar")):
        raise EnvironmentProblem(f"Kafka's jars are not in {directory}. Run make setup, or set local.kafka_jars_dir")
    return f"{directory}/*"


def _obituary(code: int, said: str, data: Path, broker_log: Path) -> str:
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    advice = f"See {broker_log}"
    # Java says the second when a page of a mapped file cannot be written
    if "No space left" in said or "unsafe memory access" in said:
        advice = f"The disk of {data} is full: make room, or lower kafka.packets_retention_bytes"
    elif re.search(r"meta\.properties|corrupt|inconsistent|checksum|CRC", said, re.IGNORECASE):
        advice = f"The data in {data} seems damaged: move that directory away to begin anew"
    return f"Kafka ended {how}: {said}. {advice}"


def _tail(path: Path, start: int) -> str:
    """The end of a file, nothing from before `start`; a file that was rotated meanwhile is read from its start."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(start if start <= size else 0, size - 65_536))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_errors(text: str) -> str:
    telling = re.compile(r" (ERROR|FATAL) |^(Caused by|java|org)\S*[:.]|^Error|^Exception|No space")
    errors = [line.strip() for line in text.splitlines() if telling.search(line)]
    return " / ".join(dict.fromkeys(errors[-3:]))[:1000]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}. Make room, or set data_dir") from error
