"""Both halves of the child protocol: requests, answers with descriptors, errors, and a child that says nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import EnvironmentProblem, SettingsError
from producer import child_main
from producer.kernel import child
from producer.kernel.child import Answer, Running, SeeLogError


def answered(command: Callable[[dict[str, Any]], Answer], log: Path, request: bytes = b'{"a": 1}') -> Answer:
    """What the parent gets of a command in the child, both in this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(request)
        ours.shutdown(socket.SHUT_WR)
        child_main.serve(theirs, command, {})
    return Running(subprocess.Popen([sys.executable, "-c", ""]), ours, log).wait()


def test_an_answer_comes_back_with_its_descriptors(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        answer = answered(lambda request: Answer(values=request | {"b": [2]}, fds={"end": write}), tmp_path / "log")
        assert answer.values == {"a": 1, "b": [2]}
        os.write(answer.fds["end"], b"x")
        assert os.read(read, 1) == b"x"
        assert answer.fds["end"] != write
        os.close(answer.fds["end"])
    finally:
        os.close(read)
        os.close(write)


def test_an_answer_may_be_longer_than_one_part(tmp_path: Path) -> None:
    lines = ["x" * 1000] * 100
    assert answered(lambda _: Answer(values={"removed": lines}), tmp_path / "log").values == {"removed": lines}


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (SettingsError("set it"), SettingsError, "set it"),
        (EnvironmentProblem("no BPF"), EnvironmentProblem, "no BPF"),
        (SeeLogError("refused"), SeeLogError, "refused; {log} says more"),
    ],
)
def test_an_error_is_raised_in_the_parent(
    tmp_path: Path, error: Exception, kind: type[Exception], sentence: str
) -> None:
    def fails(_: dict[str, Any]) -> Answer:
        raise error

    with pytest.raises(kind) as caught:
        answered(fails, tmp_path / "log")
    assert type(caught.value) is kind
    assert str(caught.value) == sentence.format(log=tmp_path / "log")


def test_a_child_that_dies_is_told_of_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "hook.log"
    with pytest.raises(EnvironmentProblem, match=rf"exit code 1\); {log} says why"):
        child.run("hook", {"hooks": []}, log=log)
    assert "KeyError" in log.read_text()


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    with theirs, pytest.raises(EnvironmentProblem, match="took more than 0 s"):
        Running(process, ours, tmp_path / "log", seconds=0.1).wait()
    assert process.returncode == -9


def test_a_child_that_is_not_waited_for_can_be_ended(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    running = Running(subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]), ours, tmp_path / "log")
    with theirs:
        assert not running.is_done()
        running.kill()
        assert running.is_done()


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(EnvironmentProblem, match="Set data_dir"):
        child.run("detach", {"node": None}, log=tmp_path / "logs" / "x.log")


def test_a_program_that_does_not_compile_is_told_with_the_compiler_s_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bcc.py").write_text(
        "class BPF:\n"
        "    def __init__(self, **told):\n"
        "        print(told['cflags'], flush=True)\n"
        "        raise Exception('no')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    log = tmp_path / "load.log"
    request = {"pin_directory": str(tmp_path), "ring_pages": 4, "flow_entries": 8, "decapsulate": ["vxlan"]}
    request |= {"loader": "bcc", "inspect": 0, "copy_pages": 0}
    with pytest.raises(SeeLogError, match=rf"could not compile the kernel program \(no\).*{log} says more"):
        child.run("load", request, log=log)
    assert "-DDECAPSULATE=2" in log.read_text()
