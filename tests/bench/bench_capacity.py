"""All of `ayaflow up`: what the generator sends at full speed is stored, or counted as dropped."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import generator
from tests.bench.kernel import DETAILS
from tests.bench.places import pair, temporary_directory
from tests.bench.process import children, cpu_seconds
from tests.bench.results import Row
from tests.e2e.system import System, ayaflow_up, processes_of

SECONDS, FLOWS, PROBE = 30, 5_000, 1_000_000


def run() -> Iterator[Row]:
    with pair() as (sender, _):
        alone = generator.send(sender, packets=PROBE, flows=FLOWS, mix="mixed", family="46")
    yield Row(what="the generator alone", value=alone.rate, unit="packets/s")
    for detail in DETAILS:
        yield from _mode(detail)


def _mode(detail: str) -> Iterator[Row]:
    with pytest.MonkeyPatch.context() as patch:
        if detail != "packet":
            patch.setenv("AYAFLOW_CAPTURE_DETAIL", detail)
        with (
            temporary_directory() as directory,
            pair() as (sender, watched),
            ayaflow_up(directory / "data", watched, node="bench") as system,
        ):
            probe = generator.send(sender, packets=PROBE, flows=FLOWS, mix="mixed", family="46")
            before, received = _cpu(system), generator.received(watched)
            sent = generator.send(sender, packets=int(probe.rate * SECONDS), flows=FLOWS, mix="mixed", family="46")
            arrived = generator.received(watched) - received
            total = arrived + received
            stored = _settled(system, total)
            dropped = _dropped(system)
            used = _cpu(system)
            differs = system.ayaflow("audit", "--wait", "20").returncode != 0
    label = f"detail: {detail}"
    yield Row(
        what=f"{label}: rate for {sent.seconds:.0f} s",
        value=sent.rate,
        unit="packets/s",
        ratio=sent.rate / probe.rate,
        against="the first million",
    )
    yield Row(
        what=f"{label}: refused by the veth itself, before any hook", value=sent.packets - arrived, unit="packets"
    )
    yield Row(what=f"{label}: dropped and counted", value=dropped / total, unit="of all", at_most=0)
    yield Row(
        what=f"{label}: neither stored nor counted as dropped",
        value=total - stored - dropped,
        unit="packets",
        at_most=0,
    )
    yield Row(what=f"{label}: `ayaflow audit` says it differs", value=float(differs), unit="", at_most=0)
    for name, seconds in used.items():
        yield Row(
            what=f"{label}: CPU of {name}",
            value=(seconds - before.get(name, 0)) / arrived * 1e6,
            unit="CPU s per M packets",
        )


def _settled(system: System, total: int) -> int:
    """Packets in rows, when no more come."""
    deadline = time.monotonic() + 60
    while (stored := _stored(system)) + _dropped(system) < total and time.monotonic() < deadline:
        time.sleep(0.3)
    return stored


def _stored(system: System) -> int:
    return int(system.rows("SELECT sum(packets + packets_rev) AS n FROM ayaflow.flows")[0]["n"])


def _dropped(system: System) -> int:
    return int(system.rows("SELECT sum(ring_full_packets) AS n FROM ayaflow.ledger FINAL")[0]["n"])


def _cpu(system: System) -> dict[str, float]:
    """By sub-command."""
    found: dict[str, float] = {}
    for pid in processes_of(system.data_dir):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = next(
            (
                each.decode()
                for each in words[::-1]
                if each in {b"producer", b"streams", b"kafka", b"clickhouse", b"console"}
            ),
            "",
        )
        if name and pid != os.getpid():  # Kafka is the child of its process
            found[name] = found.get(name, 0.0) + sum(map(cpu_seconds, {pid, *children(pid)}))
    return found
