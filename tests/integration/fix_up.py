"""A whole `ayaflow up`, with settings and an interface of its own. As root."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fix_local import environment, free_port, temporary_directory
from tests.waiting import HANG_SECONDS

GROUP = ("kafka", "clickhouse", "producer", "streams", "console")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def interface() -> Iterator[str]:
    """One end of a veth pair that carries packets of ours."""
    name, peer = f"ayu{os.getpid() % 100_000}a", f"ayu{os.getpid() % 100_000}b"
    run("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        for one in (name, peer):
            run("ip", "link", "set", one, "up")
        yield name
    finally:
        run("ip", "link", "del", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Settings with ports and a directory of their own."""

    directory: Path
    config: Path
    console: str
    clickhouse: str

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "cli.main", "--config", str(self.config), "up"]

    def log(self) -> list[dict[str, object]]:
        lines = (self.directory / "up.err").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture
def installation(interface: str) -> Iterator[Installation]:
    with temporary_directory() as directory:
        console, clickhouse = free_port(), free_port()
        config = directory / "settings.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "node": f"up-{os.getpid()}",
                    "data_dir": str(directory / "data"),
                    "capture": {"interfaces": [interface]},
                    "producer": {"metrics_listen": f"127.0.0.1:{free_port()}"},
                    "streams": {"metrics_listen": f"127.0.0.1:{free_port()}", "window_seconds": 1},
                    "kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"},
                    "local": {"kafka_controller_port": free_port(), "kafka_heap_mb": 256},
                    "clickhouse": {"url": f"http://127.0.0.1:{clickhouse}"},
                    "console": {"listen": f"127.0.0.1:{console}"},
                }
            )
        )
        yield Installation(
            directory=directory,
            config=config,
            console=f"http://127.0.0.1:{console}",
            clickhouse=f"http://127.0.0.1:{clickhouse}",
        )


def health(installation: Installation) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{installation.console}/api/health", timeout=HANG_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
    except (OSError, ValueError) as error:
        return {"ok": False, "error": str(error)}
    return found


def left_over(installation: Installation) -> list[str]:
    """Command lines of processes that were started for this installation."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode() if process.name.isdigit() else ""
            if str(installation.directory / "data") in line:
                found.append(line)
    return found


@contextlib.contextmanager
def started(installation: Installation) -> Iterator[subprocess.Popen[str]]:
    with (installation.directory / "up.err").open("w") as errors:
        process = subprocess.Popen(
            installation.command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        assert process.stdout is not None
        process.stdout.close()


def first_line(process: subprocess.Popen[str], installation: Installation) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], HANG_SECONDS)
    assert ready, (installation.directory / "up.err").read_text()
    return process.stdout.readline()


def stages(installation: Installation, action: str) -> list[object]:
    return [entry["stage"] for entry in installation.log() if entry["action"] == action]


def stage_pid(installation: Installation, stage: str) -> int:
    return next(
        int(str(entry["pid"]))
        for entry in reversed(installation.log())
        if entry["action"] == "started" and entry["stage"] == stage
    )
