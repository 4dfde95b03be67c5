"""A program that copies payload, and what it copied. What a test has counted adds up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.kernel import pins
from producer.kernel.abi import COPY_KINDS
from tests.kernel.harness import LOADER, Program
from tests.kernel.tunnel_headers import ALL

COPY_PAGES = 64
LONG = bytes(range(256)) * 8
INSPECTED = ("inspected", "copied", "skipped_ring_full", "skipped_over_budget", "skipped_table_full")


def loaded(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, name: str, **how: Any) -> Iterator[Program]:
    directory = pins.node_directory(bpffs, f"kernel-test-{name}-{how.get('loader', LOADER)}")
    program = Program(directory, tmp_path_factory.mktemp(name) / "kernel.log", **{"copy_pages": COPY_PAGES, **how})
    yield program
    program.close()
    pins.remove(directory)


@pytest.fixture(scope="module")
def inspecting(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    yield from loaded(bpffs, tmp_path_factory, "inspect", loader=loader)


@pytest.fixture(scope="module")
def opening(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    yield from loaded(bpffs, tmp_path_factory, "inspect-tunnels", decapsulate=ALL, loader=loader)


@pytest.fixture(autouse=True)
def nothing_left(inspecting: Program) -> Iterator[None]:
    """What a test has counted adds up."""
    before = counts(inspecting)
    yield
    inspecting.kernel.config.coalesce(False)
    inspecting.kernel.config.inspect(1_000_000)
    inspecting.take_copies()
    inspecting.take_events()
    moved = {name: now - before[name] for name, now in counts(inspecting).items()}
    assert moved["inspected"] == sum(moved[name] for name in INSPECTED[1:])


def counts(program: Program, direction: int = 0) -> dict[str, int]:
    counted = program.counters(direction)
    return {name: counted[f"{name}_packets"] for name in INSPECTED}


def copies(program: Program, *frames: bytes, hook: str = "ingress") -> list[tuple[str, bytes]]:
    """Kinds and octets of what these frames make the program copy."""
    return [(COPY_KINDS[head["kind"]], octets) for head, octets in heads(program, *frames, hook=hook)]


def heads(program: Program, *frames: bytes, hook: str = "ingress") -> list[tuple[Any, bytes]]:
    for frame in frames:
        assert len(program.run(frame, hook).events) == 1
    return program.take_copies()
