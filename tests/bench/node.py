"""The producer as people start it, on an interface of our own."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.kernel import pins
from tests.bench.process import wait_until
from tests.fix_local import REPOSITORY, environment, free_port, stop, temporary_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running producer."""

    process: "subprocess.Popen[bytes]"
    name: str
    port: int
    pins: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))
        except OSError:
            return {}

    def acknowledged(self) -> int:
        """Packets that Kafka has."""
        return int(self.health().get("packets", 0))

    def metric(self, name: str) -> float:
        """Sum over the labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    def added_up(self) -> int:
        """Packets that the kernel added up by flow."""
        return int(self.metric("ayaflow_producer_coalesced_packets_total"))

    def dropped(self) -> int:
        """Packets that were counted and not recorded."""
        return int(self.metric("ayaflow_producer_dropped_packets_total"))

    def settled(self, packets: int, seconds: float = 30) -> None:
        """Wait until so many packets are in Kafka or counted as dropped."""
        wait_until(lambda: self.acknowledged() + self.dropped() >= packets, seconds, f"{packets} packets in Kafka")


@contextlib.contextmanager
def producer(kafka: str, bpffs: Path, interface: str, **settings: object) -> Iterator[Node]:
    """Start it, wait until it watches, stop it. Settings as `capture_detail="flow"`."""
    with temporary_directory() as directory:
        name, port = f"bench-{os.getpid()}-{time.monotonic_ns()}", free_port()
        own = environment(
            node=name,
            capture_interfaces=interface,
            capture_bpffs=bpffs,
            data_dir=directory,
            kafka_bootstrap_servers=kafka,
            producer_metrics_listen=f"127.0.0.1:{port}",
            **settings,
        )
        with (directory / "producer.out").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "producer"],
                cwd=REPOSITORY,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        node = Node(process=process, name=name, port=port, pins=pins.node_directory(bpffs, name))
        try:
            wait_until(
                lambda: node.health().get("interfaces") == [interface] or process.poll() is not None, 60, "the producer"
            )
            if process.poll() is not None:
                raise RuntimeError((directory / "producer.out").read_text())
            yield node
        finally:
            if process.poll() is None:
                stop(process)
