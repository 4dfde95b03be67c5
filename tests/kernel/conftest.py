import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.kernel import pins
from tests.kernel.harness import LOADER, Program
from tests.kernel.watching import watch

__all__ = ["loader", "program", "watch"]


@pytest.fixture(scope="session", params=[LOADER] if "TEST_LOADER" in os.environ else ["bcc", "object"])
def loader(request: pytest.FixtureRequest) -> str:
    """Who makes the program: what is cheap runs with each."""
    return str(request.param)


@pytest.fixture(scope="session")
def program(bpffs: Path, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Program]:
    """The kernel program with the loopback interface in slot 0, attached nowhere."""
    directory = pins.node_directory(bpffs, f"kernel-test-{loader}")
    program = Program(directory, tmp_path_factory.mktemp("kernel") / "kernel.log", loader=loader)
    yield program
    program.close()
    pins.remove(directory)
