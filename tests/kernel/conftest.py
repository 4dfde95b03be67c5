from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.kernel import pins
from tests.kernel.harness import Program
from tests.kernel.watching import watch

__all__ = ["program", "watch"]


@pytest.fixture(scope="session")
def program(bpffs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The kernel program with the loopback interface in slot 0, attached nowhere."""
    directory = pins.node_directory(bpffs, "kernel-test")
    program = Program(directory, tmp_path_factory.mktemp("kernel") / "kernel.log")
    yield program
    program.close()
    pins.remove(directory)
