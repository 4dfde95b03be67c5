"""Fixtures for tests that load programs into the kernel: they need root, bcc and kernel headers."""

import contextlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EnvironmentProblem
from producer.interfaces.attach.hook import WAYS
from producer.kernel import environment, pins, tcx


@pytest.fixture(scope="session")
def root_and_bcc() -> None:
    """Skips with a sentence where the kernel part cannot run; under CI=true that is a failure."""
    reason = _lacking()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run the kernel tests: {reason}")
    if reason:
        pytest.skip(reason)


def _lacking() -> str | None:
    try:
        environment.check_privileges()
        environment.check_kernel()
        environment.check_headers()
        environment.bcc_version()
    except EnvironmentProblem as error:
        return str(error)
    return None


@contextlib.contextmanager
def bpf_filesystem() -> Iterator[Path]:
    """A BPF file system of one's own, unmounted (and with it all pins gone) at the end."""
    path = Path(tempfile.mkdtemp(prefix="ayaflow-bpf-"))
    pins.mount(path)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        path.rmdir()


@pytest.fixture(scope="session")
def bpffs(root_and_bcc: None) -> Iterator[Path]:
    """A BPF file system of the tests' own."""
    with bpf_filesystem() as path:
        yield path


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How programs are attached: the test runs with each that this kernel has."""
    if request.param == "tcx" and not tcx.is_known():
        pytest.skip(f"kernel {platform.release()} has no TCX")
    return str(request.param)
