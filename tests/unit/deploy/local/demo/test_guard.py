"""The guard removes a demo's folder when the demo has ended, and not before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.demo.guard import members
from tests.waiting import HANG_SECONDS, until

OWN = str(Path("/proc/self/ns/mnt").readlink())


def guard(folder: Path, made: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "deploy.local.demo.guard", folder, made], stdin=subprocess.PIPE
    )


def ignores(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")]
    return bool(mask & 1 << number - 1)


def test_it_waits_for_its_standard_input_to_end(tmp_path: Path) -> None:
    folder, made = tmp_path / "data", tmp_path / "made"
    (folder / "logs").mkdir(parents=True)
    made.mkdir()
    process = guard(folder, str(made))
    assert process.stdin is not None
    process.stdin.write(f"{OWN}\n".encode())  # that of a demo that could not make its own
    process.stdin.flush()
    assert folder.exists()
    until(lambda: ignores(process.pid, signal.SIGTERM))
    process.terminate()
    process.stdin.close()
    assert process.wait(HANG_SECONDS) == 0
    assert not folder.exists()
    assert not made.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace, which needs root")
def test_it_waits_for_the_last_of_the_demo_s_processes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    left = subprocess.Popen(["unshare", "--mount", "sleep", "1000"])
    try:
        until(lambda: str(Path(f"/proc/{left.pid}/ns/mnt").readlink()) != OWN)
        namespace = str(Path(f"/proc/{left.pid}/ns/mnt").readlink())
        process = guard(folder)
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(f"{namespace}\n".encode())
        until(lambda: members(namespace) == [left.pid])
        assert folder.exists()
    finally:
        left.kill()
        left.wait()
    assert process.wait(HANG_SECONDS) == 0
    assert not folder.exists()
