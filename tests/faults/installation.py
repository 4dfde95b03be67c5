"""All parts of ayaflow on this machine, each a process as `ayaflow up` starts it, that can be killed and stopped.

A part that ends is started again after a second, as the supervisor of `ayaflow up` does at first; its pauses that grow
to 30 s would make runs long.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.settings import ENV_PREFIX
from deploy.local.process import dies_with_parent
from tests.bench.process import children, rss_mb
from tests.faults import cluster, place
from tests.faults.proxy import Proxy, running
from tests.fix_local import REPOSITORY, WRITER, clickhouse_answers, environment, kafka_answers, temporary_directory
from tests.fix_root import bpf_filesystem
from tests.kernel import veth
from tests.kernel.harness import LOADER

KAFKA, CLICKHOUSE, CONSOLE, PRODUCER, STREAMS, PROXY = 9092, 8123, 8080, 9464, 9465, 8124
AGAIN_SECONDS = 1.0
SETTLE_SECONDS = 200.0  # nothing is expected to take so long; it ends what hangs


@dataclass(slots=True, eq=False)
class Part:
    """One process and those that it starts."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    held: bool = False  # not to be started again now
    died_at: float | None = None
    deaths: list[str] = field(default_factory=list)  # by itself: its last words

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env={**environment(), "PYTHONPATH": str(REPOSITORY), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  calls nothing that a thread may lock
            )
        self.died_at = None

    def pids(self) -> list[int]:
        """Of the process and all below it; itself first."""
        found: list[int] = []
        todo = [self.process.pid] if self.process and self.process.poll() is None else []
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                todo += children(pid)
        return found

    def signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9, and not started again until `release`."""
        self.held = True
        self.signal(signal.SIGSTOP)  # none of them sees another one die
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def release(self) -> None:
        self.held = False
        if self.process is None or self.process.poll() is not None:
            self.start()

    def mind(self) -> None:
        """Start it again if it ended by itself."""
        if self.held or self.process is None or self.process.poll() is None:
            return
        if self.died_at is None:
            self.died_at = time.monotonic()
            lines = self.log.read_text(errors="replace").splitlines()
            self.deaths.append(f"{self.name} ended with {self.process.returncode}: {lines[-1] if lines else ''}")
        elif time.monotonic() - self.died_at >= AGAIN_SECONDS:
            self.start()

    def ask_to_stop(self) -> None:
        """SIGTERM; not started again until `release`."""
        self.held = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Cleanly, and to its end. Returns the exit code."""
        self.ask_to_stop()
        if self.process is None:
            return 0
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            return self.process.wait()

    def rss_mb(self) -> float:
        """Of all its processes."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError, StopIteration):
                total += rss_mb(pid)
        return total


@dataclass(slots=True, eq=False)
class Installation:
    """The parts; `sends` is the interface to send into, `watched` the one that is watched."""

    directory: Path
    config: Path
    bpffs: Path
    node: str
    sends: str
    watched: str
    parts: dict[str, Part]
    proxy: Proxy
    disks: dict[str, place.SmallDisk]
    kafka: str
    window_seconds: int

    @property
    def streams(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name.startswith("streams")]

    def mind(self, seconds: float = 0) -> None:
        """Look after the parts for so long."""
        end = time.monotonic() + seconds
        while True:
            for part in self.parts.values():
                part.mind()
            if time.monotonic() >= end:
                return
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    def until(self, what: Callable[[], bool], why: str) -> None:
        """Look after the parts until something is so."""
        end = time.monotonic() + SETTLE_SECONDS
        while not what():
            assert time.monotonic() < end, f"{why}: not within {SETTLE_SECONDS:g} s\n{self.logs()}"
            self.mind(0.2)

    def ready(self) -> bool:
        """Whether every part answers and is well."""
        return (
            kafka_answers(self.kafka)
            and clickhouse_answers(f"http://127.0.0.1:{CLICKHOUSE}")
            and self.watched in self.health(PRODUCER).get("interfaces", ())
            and all(self.health(STREAMS + i).get("ok") for i in range(len(self.streams)))
            and bool(self.health(CONSOLE, "/api/health"))
        )

    def health(self, port: int, path: str = "/health") -> dict[str, Any]:
        """What a part says of itself; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error, contextlib.suppress(ValueError):
                return dict(json.load(error))
        except (OSError, ValueError):
            pass
        return {}

    def metric(self, port: int, name: str) -> float:
        """Sum over the labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A SELECT, of ClickHouse itself."""
        query = urllib.parse.urlencode(
            {"query": f"{sql} FORMAT JSONEachRow", "database": "ayaflow", "output_format_json_quote_64bit_integers": 0}
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{CLICKHOUSE}/?{query}", timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def ayaflow(self, *words: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Run the command with these settings."""
        command = [*before, sys.executable, "-m", "cli.main", "--config", str(self.config), *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)

    def deaths(self) -> list[str]:
        """Of parts that ended by themselves."""
        return [line for part in self.parts.values() for line in part.deaths]

    def logs(self, lines: int = 6) -> str:
        """The last lines of each part, for a failure's message."""
        return "\n".join(
            f"--- {name}\n" + "\n".join(part.log.read_text(errors="replace").splitlines()[-lines:])
            for name, part in self.parts.items()
            if part.log.exists()
        )

    def restarts(self) -> Counter[str]:
        """How often each part ended by itself."""
        return Counter({name: len(part.deaths) for name, part in self.parts.items() if part.deaths})


@contextlib.contextmanager
def installation(
    *,
    workers: int = 1,
    brokers: int = 1,
    window_seconds: int = 2,
    disks: bool = False,
    also_watched: Sequence[str] = (),
    **settings: Mapping[str, object],
) -> Iterator[Installation]:
    """All parts, ready. `settings`: sections with what is to be other than here.

    `workers` of streams; `brokers`: 1, or 3 for a cluster. `disks`: file systems of their own for Kafka, ClickHouse and
    the spool, which can be filled. `also_watched`: patterns of further interfaces.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        stack.enter_context(place.network_namespace())
        bpffs = stack.enter_context(bpf_filesystem())
        sends, watched = stack.enter_context(veth.pair())
        proxy = stack.enter_context(running(PROXY, CLICKHOUSE))
        data = directory / "data"
        made = {}
        for name in ("", "kafka", "clickhouse", "spool") if disks else ():
            made[name or "data"] = place.SmallDisk(data / name, 400)
            stack.callback(made[name or "data"].close)
        tree: dict[str, Any] = {
            "node": "faults",
            "data_dir": str(data),
            "capture": {"interfaces": [watched, *also_watched], "bpffs": str(bpffs), "loader": LOADER},
            "kafka": {"partitions": 4},
            "clickhouse": WRITER,
            "local": {"kafka_heap_mb": 256},
            "streams": {"window_seconds": window_seconds, "node_timeout_seconds": 4},
            "console": {"streams": [f"127.0.0.1:{STREAMS + i}" for i in range(workers)]},
        }
        for section, values in settings.items():
            tree[section] = {**tree.get(section, {}), **values}
        config = directory / "settings.yaml"
        parts = _brokers(directory, tree) if brokers > 1 else {}
        parts |= _parts(directory, config, workers=workers, broker=brokers == 1)
        config.write_text(yaml.safe_dump(tree))
        system = Installation(
            directory=directory,
            config=config,
            bpffs=bpffs,
            node="faults",
            sends=sends,
            watched=watched,
            parts=parts,
            proxy=proxy,
            disks=made,
            kafka=tree["kafka"].get("bootstrap_servers", f"127.0.0.1:{KAFKA}"),
            window_seconds=window_seconds,
        )
        stack.callback(_end, system)
        for part in parts.values():
            part.start()
        system.until(system.ready, "all parts ready")
        yield system


def _parts(directory: Path, config: Path, *, workers: int, broker: bool) -> dict[str, Part]:
    """By the sub-commands; streams asks ClickHouse through the proxy."""
    through = {f"{ENV_PREFIX}CLICKHOUSE_URL": f"http://127.0.0.1:{PROXY}"}
    environments: dict[str, dict[str, str]] = {"kafka": {}} if broker else {}
    environments |= {"clickhouse": {}, "producer": {}, "console": {}}
    for i in range(workers):
        listen = {f"{ENV_PREFIX}STREAMS_METRICS_LISTEN": f"127.0.0.1:{STREAMS + i}"}
        environments[f"streams-{i + 1}"] = {**through, **listen}
    return {
        name: Part(
            name=name,
            environment=environment,
            log=directory / f"{name}.log",
            command=(sys.executable, "-P", "-m", "cli.main", name.split("-")[0], "--config", str(config)),
        )
        for name, environment in environments.items()
    }


def _brokers(directory: Path, tree: dict[str, Any]) -> dict[str, Part]:
    """A cluster, and the settings for it."""
    servers = cluster.prepare(directory)
    tree["kafka"] |= {"bootstrap_servers": ",".join(server.address for server in servers), "replication_factor": 3}
    return {
        server.name: Part(
            name=server.name, command=server.command, environment={}, log=directory / f"{server.name}.log"
        )
        for server in servers
    }


def _end(system: Installation) -> None:
    """Nothing outlives us."""
    for part in system.parts.values():
        part.kill()
