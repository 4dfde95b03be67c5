"""A Kafka with TLS, passwords, tokens, certificates and ACLs, and a ClickHouse behind TLS: all clients, the pipeline.

Needs a JRE, the jars of make setup and openssl; the pipeline root and bcc.
"""

import asyncio
import contextlib
import json
import selectors
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from common import kafka
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from console.live.reader import LiveReader
from producer.kafka.client import explain
from streams.app import credentials
from tests.e2e.fix_producer import Node, frames
from tests.fix_local import REPOSITORY, WRITER, environment, free_port, stop, temporary_directory
from tests.integration.fix_secured import MECHANISMS, Secured, behind_tls, secured_kafka
from tests.kernel import veth
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.kafka]


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with temporary_directory() as directory, secured_kafka(directory) as made:
        yield made


def write(settings: KafkaSettings, topic: str) -> str:
    """What comes of a message by librdkafka: empty, or the sentence of the producer."""
    said: list[str] = []
    client = kafka.producer(settings, on_error=lambda error: said.append(explain(error)))
    client.produce(topic, b"\0", key=b"k", on_delivery=lambda error, _: said.append(explain(error) if error else ""))

    def answered() -> bool:
        try:
            client.poll(0.1)
        except KafkaException as error:  # a fatal one
            said.append(explain(error.args[0]))
        return bool(said)

    until(answered)
    client.purge()
    client.flush(1)
    return said[0]


def read(settings: KafkaSettings, topic: str) -> int:
    """How many messages Faust's client sees, as Faust would make it."""
    selector = selectors.DefaultSelector()

    async def whole() -> int:
        try:
            return await consume(settings, topic)
        finally:
            # more than the loop's own: the goodbye of TLS outlives stop()
            while len(selector.get_map()) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(whole())


async def consume(settings: KafkaSettings, topic: str) -> int:
    client = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, **credentials_to_aiokafka_auth(credentials(settings))
    )
    try:
        await client.start()
        partition = TopicPartition(topic, 0)
        client.assign([partition])
        await client.seek_to_beginning(partition)
        found = await client.getmany(timeout_ms=int(HANG_SECONDS * 1000), max_records=1)
        return len(found[partition])
    finally:
        await client.stop()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_client_gets_in_by_each_way(secured: Secured, mechanism: str) -> None:
    assert write(secured.settings("streams", mechanism), "ayaflow.live") == ""
    console = secured.settings("console", mechanism)
    assert kafka.topic_id(console, "ayaflow.live", timeout_seconds=HANG_SECONDS)
    consumer = kafka.consumer(console, group="whoever", ours=kafka.PEEKING)
    with contextlib.closing(consumer):
        [(_, message)] = kafka.first_messages(consumer, "ayaflow.live", {0: 0}, timeout_seconds=HANG_SECONDS)
    assert message.value() == b"\0"
    assert read(console, "ayaflow.live") == 1
    if mechanism == "OAUTHBEARER":
        assert {"streams", "console"} <= {*secured.tokens.asked}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_wrong_credentials_are_a_sentence_of_each_client(secured: Secured, mechanism: str) -> None:
    wrong = secured.settings("streams", mechanism, wrong=True)
    sentences = [write(wrong, "ayaflow.live")]
    with pytest.raises(ServiceUnavailable) as error:
        kafka.create_missing(wrong, [], timeout_seconds=5)
    sentences.append(str(error.value))
    for said in sentences:
        assert "Correct what kafka.properties say of" in said
        check_sentence(secured, said)
    with pytest.raises((KafkaError, ConnectionError)):
        read(wrong, "ayaflow.live")
    if mechanism == "OAUTHBEARER":
        assert "invalid_client" in sentences[0]  # the endpoint's own word


def check_sentence(secured: Secured, said: str) -> None:
    assert "\n" not in said
    assert "Traceback" not in said
    assert not [secret for secret in (*secured.secrets.values(), "s3cret-of-nobody") if secret in said]


def test_plain_text_to_a_port_of_tls_says_what_may_be_wrong(secured: Secured) -> None:
    with pytest.raises(ServiceUnavailable, match=r"One with TLS or passwords needs kafka\.properties"):
        kafka.create_missing(KafkaSettings(bootstrap_servers=secured.sasl), [], timeout_seconds=5)


def test_a_broker_of_another_authority_is_not_believed(secured: Secured) -> None:
    properties = secured.properties("streams", "SCRAM-SHA-512")
    properties["ssl.ca.location"] = str(secured.directory / "wrong/ca.pem")
    other = KafkaSettings(bootstrap_servers=secured.sasl, properties=properties)
    with pytest.raises(ServiceUnavailable, match=r"TLS with Kafka fails .*Correct what kafka\.properties say of ssl"):
        kafka.create_missing(other, [], timeout_seconds=5)
    with pytest.raises((KafkaError, ConnectionError)):
        read(other, "ayaflow.live")


def test_what_is_not_permitted_is_a_sentence(secured: Secured) -> None:
    said = write(secured.settings("producer"), "ayaflow.live")
    wanted = "Kafka does not permit it (Broker: Topic authorization failed). docs/operations.md lists"
    assert said == f"{wanted} what each part needs"
    said = write(secured.settings("console"), "ayaflow.packets")
    assert "does not permit it" in said
    with LiveReader.of(secured.settings("producer"), None) as reader:
        until(lambda: "docs/operations.md lists what each part needs" in reader.problem, lambda: reader.problem)
    with pytest.raises(ServiceUnavailable, match="Kafka did not create the topic"):
        kafka.create_missing(secured.settings("producer"), [Made()], timeout_seconds=HANG_SECONDS)


class Made:
    name, partitions, config = "ayaflow.more", 1, dict[str, str]()


def tool(secured: Secured, mechanism: str, *, user: str = "admin", wrong: bool = False) -> tuple[int, str]:
    properties = secured.properties(user, mechanism, wrong=wrong)
    properties.pop("https.ca.location", None)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "kafka-tool", "topics", "--list"],
        cwd=REPOSITORY,
        env=environment(kafka_bootstrap_servers=secured.bootstrap(mechanism), kafka_properties=json.dumps(properties)),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", pytest.param("mTLS", marks=pytest.mark.wide)])
def test_kafkas_own_tools_get_in(secured: Secured, mechanism: str) -> None:
    code, said = tool(secured, mechanism, user="admin" if mechanism != "mTLS" else "console")
    assert code == 0, said
    assert "ayaflow.packets" in said.splitlines()


@pytest.mark.wide
def test_kafkas_own_tools_say_that_credentials_are_wrong(secured: Secured) -> None:
    code, said = tool(secured, "SCRAM-SHA-512", wrong=True)
    assert code == 1
    assert "invalid credentials" in said
    assert not [secret for secret in (*secured.secrets.values(), "s3cret-of-nobody") if secret in said]


class Pipeline:
    """Producer, streams and console as processes, each with its own user, all with secrets from files."""

    def __init__(self, secured: Secured, clickhouse: str, directory: Path, bpffs: Path, interface: str) -> None:
        self.secured, self.directory = secured, directory
        (directory / "clickhouse.secret").write_text(f"{WRITER['password']}\n")
        self.console_port, self.streams_port = free_port(), free_port()
        self.common: dict[str, object] = {
            "kafka_bootstrap_servers": secured.sasl,
            "clickhouse_url": clickhouse,
            "clickhouse_username": WRITER["username"],
            "clickhouse_password": f"${{file:{directory}/clickhouse.secret}}",
            "clickhouse_tls_ca": secured.authority.ca,
            "clickhouse_database": f"ayaflow_secured_{time.time_ns()}",
            "streams_window_seconds": 1,
            "streams_metrics_listen": f"127.0.0.1:{self.streams_port}",
            "console_listen": f"127.0.0.1:{self.console_port}",
            "capture_bpffs": bpffs,
            "log_format": "text",
        }
        self.node = Node(directory, bpffs, secured.sasl, interface, kafka_properties=self.properties("producer"))
        self.common["producer_metrics_listen"] = f"127.0.0.1:{self.node.port}"
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def properties(self, part: str, *, wrong: bool = False) -> str:
        return json.dumps(self.secured.properties(part, "SCRAM-SHA-512", wrong=wrong))

    def environment(self, part: str, **more: object) -> dict[str, str]:
        settings = {**self.common, "data_dir": self.directory / part, "kafka_properties": self.properties(part)}
        return environment(**{**settings, **more})

    def start(self, part: str, **more: object) -> None:
        (self.directory / part).mkdir(exist_ok=True)
        with (self.directory / f"{part}.out").open("a") as output:
            self.processes[part] = subprocess.Popen(
                [sys.executable, "-m", "cli.main", part],
                cwd=REPOSITORY,
                env=self.environment(part, **more),
                stdout=output,
                stderr=output,
                text=True,
            )

    def output(self, part: str) -> str:
        return (self.directory / f"{part}.out").read_text()

    def ayaflow(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", *words]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment("console"),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * HANG_SECONDS,
        )

    def health(self, port: int, path: str = "/health") -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError), opened(f"http://127.0.0.1:{port}{path}") as answer:
            return dict(json.load(answer))
        return {}

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                stop(process)
        self.node.clean()


def opened(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=HANG_SECONDS)
    except urllib.error.HTTPError as error:
        return error


@pytest.fixture
def pipeline(
    secured: Secured, clickhouse_server: str, bpffs: Path, root_and_bcc: None
) -> Iterator[tuple[Pipeline, tuple[str, str]]]:
    certificate = secured.authority.certify("clickhouse")
    with temporary_directory() as directory, veth.pair() as ends, behind_tls(clickhouse_server, certificate) as url:
        made = Pipeline(secured, url, directory, bpffs, ends[0])
        try:
            yield made, ends
        finally:
            made.stop()


@pytest.mark.root
@pytest.mark.clickhouse
def test_the_whole_pipeline_runs_with_the_permissions_of_the_documentation_and_tells_no_secret(
    secured: Secured, pipeline: tuple[Pipeline, tuple[str, str]], tmp_path: Path
) -> None:
    p, (a, _) = pipeline
    p.start("streams")
    p.start("console")
    producer = p.node.start()
    p.node.wait_for(producer, ok=True)
    veth.send(a, *(octets for octets, _ in frames(700)))
    p.node.wait_for(producer, ok=True, packets=700, queue=0)
    until(lambda: p.health(p.streams_port).get("ok"), lambda: (p.health(p.streams_port), p.output("streams")))

    # killed, it may not read what Kafka has of it: it sends again what was not acknowledged; nothing counts twice
    producer = p.node.killed_and_started(producer)
    veth.send(a, *(octets for octets, _ in frames(70)))
    p.node.wait_for(producer, ok=True, packets=70, queue=0)
    moment = time.time()

    def settled() -> bool:
        delay = p.health(p.streams_port).get("watermark_delay_seconds")
        return delay is not None and time.time() - delay > moment + 3

    until(settled, lambda: (p.health(p.streams_port), p.output("streams")[-3000:]))
    audit = p.ayaflow("audit", "--wait", f"{HANG_SECONDS:g}", "--format", "json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    told_by_audit = json.loads(audit.stdout)
    assert told_by_audit["exact"]
    assert sum(row["stored_packets"] for row in told_by_audit["rows"]) == 770

    live = f"http://127.0.0.1:{p.console_port}"
    until(
        lambda: p.health(p.console_port, "/api/health").get("ok"),
        lambda: (p.health(p.console_port, "/api/health"), p.output("console")[-3000:]),
    )
    told = {
        path: opened(f"{live}{path}").read().decode()
        for path in ("/api/health", "/metrics", "/asyncapi.json", "/openapi.json", "/api/stats")
    }
    told |= {
        "doctor": said(p.ayaflow("doctor")),
        "help": said(p.ayaflow("--help")),
        "ddl": said(p.ayaflow("schemas", "ddl", "flink")),
    }
    told["cmdline"] = "\n".join(command_lines())
    assert "cli.main streams" in told["cmdline"]
    for part in ("streams", "console"):
        told |= written(p.directory / part) | {part: p.output(part)}
    told |= written(p.directory / "spool") | {"producer": p.node.output.read_text()}
    secrets = [*secured.secrets.values(), str(WRITER["password"])]
    assert not [(where, secret) for where, text in told.items() for secret in secrets if secret in text]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def command_lines() -> Iterator[str]:
    """Of all processes but the broker's, whose way to make users is Kafka's own."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit():
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def written(directory: Path) -> dict[str, str]:
    return {str(path): path.read_text(errors="replace") for path in directory.rglob("*") if path.is_file()}


@pytest.mark.root
@pytest.mark.clickhouse
def test_wrong_credentials_are_a_sentence_of_each_part(
    secured: Secured, pipeline: tuple[Pipeline, tuple[str, str]]
) -> None:
    p, _ = pipeline
    for part in ("streams", "console"):
        p.start(part, kafka_properties=p.properties(part, wrong=True))
    p.node.environment["AYAFLOW_KAFKA_PROPERTIES"] = p.properties("producer", wrong=True)
    p.node.start()
    wanted = "Kafka does not let us in"
    for port, path, part in (
        (p.node.port, "/health", "producer"),
        (p.streams_port, "/health", "streams"),
        (p.console_port, "/api/health", "console"),
    ):
        until(
            lambda port=port, path=path: wanted in json.dumps(p.health(port, path)),  # type: ignore[misc]
            lambda port=port, path=path: p.health(port, path),  # type: ignore[misc]
        )
        log = p.node.output.read_text() if part == "producer" else p.output(part)
        check_sentence(secured, " ".join(log.splitlines()))
        assert "Traceback" not in log
    assert wanted in p.node.output.read_text()
    assert wanted in p.output("streams")
    p.stop()

    # and those of ClickHouse
    (p.directory / "clickhouse.secret").write_text("s3cret-of-nobody")
    p.start("streams")
    until(lambda: "see clickhouse.username and clickhouse.password" in p.output("streams"), lambda: p.output("streams"))
    check_sentence(secured, " ".join(p.output("streams").splitlines()))
    done = p.ayaflow("query", "SELECT 1")
    assert done.returncode == 4
    assert "correct clickhouse.username and clickhouse.password" in done.stderr
    check_sentence(secured, done.stderr.strip())
