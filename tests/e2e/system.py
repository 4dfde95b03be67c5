"""`ayaflow up` as a person starts it, on ports and in a directory of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.fix_local import free_port
from tests.waiting import HANG_SECONDS, until


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A running `ayaflow up`."""

    process: subprocess.Popen[str]
    config: Path
    data_dir: Path
    kafka: str
    clickhouse: str
    console: str
    metrics: str  # of the producer
    streams_metrics: str
    window_seconds: int
    start_seconds: float

    def ayaflow(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command with this system's settings."""
        command = [sys.executable, "-m", "cli.main", "--config", str(self.config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * HANG_SECONDS, check=False)

    def rows(self, sql: str, **settings: str) -> list[dict[str, Any]]:
        """A SELECT, as curl would send it."""
        query = urllib.parse.urlencode({"query": f"{sql} FORMAT JSONEachRow", **settings})
        with urllib.request.urlopen(f"{self.clickhouse}/?{query}", timeout=HANG_SECONDS) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def health(self) -> dict[str, Any]:
        """What the streams app says of itself."""
        with urllib.request.urlopen(f"{self.streams_metrics}/health", timeout=HANG_SECONDS) as answer:
            state: dict[str, Any] = json.loads(answer.read())
        return state

    def wait_until_stored(self, moment: float) -> None:
        """Wait until all packets before `moment` (Unix time) are in ClickHouse."""

        def past() -> bool:
            delay = self.health()["watermark_delay_seconds"]
            return delay is not None and time.time() - delay > moment + self.window_seconds + 1

        until(past, self.health)
        audit = self.ayaflow("audit", "--wait", f"{HANG_SECONDS:g}")
        assert audit.returncode == 0, audit.stdout + audit.stderr


@contextmanager
def ayaflow_up(
    data_dir: Path,
    interface: str,
    *,
    window_seconds: int = 2,
    node: str = "e2e",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[System]:
    """Start all parts, wait for the line `ready http://…`, stop them by SIGINT. `settings`: more, by section."""
    kafka, controller, clickhouse, console, metrics, streams = (free_port() for _ in range(6))
    config = data_dir.parent / f"{data_dir.name}.yaml"
    sections: dict[str, dict[str, Any]] = {
        "capture": {"interfaces": [interface]},
        "producer": {"metrics_listen": f"127.0.0.1:{metrics}"},
        "kafka": {"bootstrap_servers": f"127.0.0.1:{kafka}"},
        "local": {"kafka_controller_port": controller, "kafka_heap_mb": 256},
        "streams": {"metrics_listen": f"127.0.0.1:{streams}", "window_seconds": window_seconds},
        "clickhouse": {"url": f"http://127.0.0.1:{clickhouse}"},
        "console": {"listen": f"127.0.0.1:{console}"},
    }
    for section, more in (settings or {}).items():
        sections[section] = {**sections.get(section, {}), **more}
    config.write_text(yaml.safe_dump({"node": node, "data_dir": str(data_dir), **sections}))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "--config", str(config), "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready http://"):
            process.kill()
            raise AssertionError(f"ayaflow up said {line!r}; {process.communicate()[1]}\n{logs(data_dir)}")
        yield System(
            process=process,
            config=config,
            data_dir=data_dir,
            kafka=f"127.0.0.1:{kafka}",
            clickhouse=f"http://127.0.0.1:{clickhouse}",
            console=line.split()[1],
            metrics=f"http://127.0.0.1:{metrics}",
            streams_metrics=f"http://127.0.0.1:{streams}",
            window_seconds=window_seconds,
            start_seconds=time.monotonic() - start,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=HANG_SECONDS)
            finally:
                process.kill()
        for pid in processes_of(data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes_of(data_dir: Path) -> list[int]:
    """Processes whose command line names this directory, or whose settings file does."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(data_dir).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def logs(data_dir: Path, lines: int = 15) -> str:
    """The last lines of each log, for a failure's message."""
    return "\n".join(
        f"--- {file.name}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
        for file in sorted((data_dir / "logs").glob("*.log"))
    )
