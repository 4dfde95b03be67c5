"""The packet generator (blast.c), compiled when it is first used, into a pair of interfaces of our own."""

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("blast.c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the generator says it did."""

    packets: int
    bytes: int
    seconds: float
    rate: float  # packets a second
    again: int  # sends tried again, the queue being full
    started_ns: int  # Unix epoch


@cache
def program() -> str:
    """Path of the program, below /tmp for as long as the machine runs."""
    path = Path(tempfile.gettempdir()) / f"ayaflow-blast-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", path, SOURCE], check=True)
    return str(path)


def start(
    interface: str, *, packets: int, flows: int, rate: int = 0, mix: str = "small", family: str = "4"
) -> "subprocess.Popen[str]":
    """Begin to send; rate 0: as fast as it goes."""
    words = [program(), interface, str(flows), str(packets), str(rate), mix, family]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> Sent:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the generator ended with {process.returncode}")
    return Sent(**json.loads(output))


def send(interface: str, **options: Any) -> Sent:
    """Send, and wait for the end."""
    return finish(start(interface, **options))


def received(interface: str) -> int:
    """Packets that an interface has received so far, before any hook."""
    return int(Path(f"/sys/class/net/{interface}/statistics/rx_packets").read_text())
