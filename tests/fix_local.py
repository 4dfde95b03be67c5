"""A real Kafka and the embedded ClickHouse for tests: processes of their own, on free ports, in temporary directories.

Both live as long as the session of tests and are started by the first test that asks.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException

from common import kafka
from common.settings import ENV_PREFIX, KafkaSettings
from tests import waiting
from tests.waiting import HANG_SECONDS

REPOSITORY = Path(__file__).parent.parent

ENTRY = """
import sys
from common import logs, settings
from common.errors import AyaflowError
from {module} import run
logs.configure(form="text")
try:
    sys.exit(run(settings.load()))
except AyaflowError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


SERVERS = {"kafka": "deploy.local.kafka.broker", "clickhouse": "deploy.local.clickhouse.server"}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, below the range that the kernel gives to clients."""
    for port in range(20_000 + os.getpid() % 6_000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise AssertionError("no free port")


_given: set[int] = set()

WRITER: dict[str, Any] = {"username": "ayaflow", "password": "of-the-tests"}
"""Who may write in the ClickHouse of `running_clickhouse`, and what clickhouse-connect and our settings call it."""
WRITER_SETTINGS = {f"clickhouse_{name}": value for name, value in WRITER.items()}


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory below /tmp that is gone afterwards; others may pass through it, as through /var/lib."""
    path = Path(tempfile.mkdtemp(prefix="ayaflow-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def environment(**settings: object) -> dict[str, str]:
    """This process's, with these settings of ayaflow and no others: `kafka__partitions=4` or `kafka_partitions=4`."""
    others = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    return others | {ENV_PREFIX + name.replace("__", "_").upper(): str(value) for name, value in settings.items()}


def start(module: str, data_dir: Path, **settings: object) -> subprocess.Popen[str]:
    """Start one of SERVERS; settings as `kafka__partitions=4`. Its output goes to data_dir/<module>.out."""
    with (data_dir / f"{module}.out").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-c", ENTRY.format(module=SERVERS[module])],
            cwd=REPOSITORY,
            env=environment(data_dir=data_dir, **settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes], seconds: float = HANG_SECONDS) -> int:
    """SIGTERM, then SIGKILL. Returns the exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def refusal(module: str, data_dir: Path, **settings: object) -> tuple[int, str]:
    """Start a server that must refuse to run -> (exit code, all that it said). Should it run, it is ended."""
    process = start(module, data_dir, **settings)
    try:
        code = process.wait(HANG_SECONDS)
    finally:
        if process.poll() is None:
            stop(process)
    return code, (data_dir / f"{module}.out").read_text()


def until(ready: Callable[[], bool], process: subprocess.Popen[str], output: Path) -> None:
    """Wait until a server is ready. Fails with what it said."""

    def running_and_ready() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}: {output.read_text()}"
        return ready()

    waiting.until(running_and_ready, output.read_text)


def kafka_answers(bootstrap: str) -> bool:
    """Whether a broker answers and has our topics."""
    try:
        topics = kafka.admin(KafkaSettings(bootstrap_servers=bootstrap)).list_topics(timeout=10).topics
    except KafkaException:
        return False
    return any(name.endswith("dead-letter") for name in topics)


def clickhouse_answers(url: str) -> bool:
    """Whether /ping says Ok."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=10) as answer:
            return bool(answer.read() == b"Ok.\n")
    except OSError:
        return False


@contextlib.contextmanager
def running_kafka(
    data_dir: Path, bootstrap: str | None = None, **settings: object
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A broker in data_dir -> (bootstrap servers, process)."""
    bootstrap = bootstrap or f"127.0.0.1:{free_port()}"
    process = start(
        "kafka",
        data_dir,
        kafka__bootstrap_servers=bootstrap,
        local__kafka_controller_port=free_port(),
        local__kafka_heap_mb=256,
        **settings,
    )
    try:
        until(lambda: kafka_answers(bootstrap), process, data_dir / "kafka.out")
        yield bootstrap, process
    finally:
        if process.poll() is None:
            stop(process)


@contextlib.contextmanager
def running_clickhouse(data_dir: Path, **settings: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """An embedded ClickHouse in data_dir -> (url, process)."""
    url = f"http://127.0.0.1:{free_port()}"
    process = start(
        "clickhouse",
        data_dir,
        **{
            "clickhouse__url": url,
            "clickhouse__username": WRITER["username"],
            "clickhouse__password": WRITER["password"],
            **settings,
        },
    )
    try:
        until(lambda: clickhouse_answers(url), process, data_dir / "clickhouse.out")
        yield url, process
    finally:
        if process.poll() is None:
            stop(process)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[str]:
    """Bootstrap servers of a real broker that has our topics (prefix `ayaflow.`, 4 partitions)."""
    with temporary_directory() as directory, running_kafka(directory) as (bootstrap, _):
        yield bootstrap


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[str]:
    """URL of an embedded ClickHouse, empty."""
    with temporary_directory() as directory, running_clickhouse(directory) as (url, _):
        yield url
