"""The parent's half of the short-lived child process, which does what may need bcc (LLVM, 100 MB) or pyroute2 (20 MB).

    answer = run("load", request, log=path)

The child is producer/child_main.py. A socket is its standard input: by it comes the request, a JSON object, and goes
the answer, another one, with file descriptors if there are any. What the child and its compiler print goes to the log.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from common.errors import AyaflowError, EnvironmentProblem, SettingsError

_SECONDS = 120
_PART_BYTES = 1 << 16
_POLL_SECONDS = 0.005
MOST_FDS = 16
EVERYTHING: Mapping[str, str] = {}


class SeeLogError(EnvironmentProblem):
    """The child's log has more about it than the sentence."""


KINDS = {kind.__name__: kind for kind in (SeeLogError, EnvironmentProblem, SettingsError, AyaflowError)}
"""Errors that the child can tell us of, the most exact first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a child has done."""

    values: dict[str, Any]
    fds: dict[str, int] = field(default_factory=dict)  # ours to close, by name


class Call(Protocol):
    """What `run` is, for whoever needs no other."""

    def __call__(self, command: str, request: dict[str, Any], *, log: Path) -> Answer:
        """Have a child do it."""


class Process(Protocol):
    """What we use of subprocess.Popen."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end -> its exit code. Raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """End it."""


class Running:
    """A child that was started."""

    def __init__(self, process: Process, connection: socket.socket, log: Path, seconds: float = _SECONDS) -> None:
        """`seconds`: that it may take."""
        self._process, self._connection, self._log, self._seconds = process, connection, log, seconds
        self._deadline = time.monotonic() + seconds

    def is_done(self) -> bool:
        """Whether `wait` would not wait."""
        return self._process.poll() is not None or time.monotonic() > self._deadline

    def kill(self) -> None:
        """End it."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def wait(self) -> Answer:
        """Its answer. Raises the error that it reports, and EnvironmentProblem when there is none."""
        fds: list[int] = []
        try:
            octets = self._receive(fds)
            code = self._process.wait(self._left())
            answer = json.loads(octets)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            _close(fds)
            raise EnvironmentProblem(
                f"setting up the kernel program took more than {self._seconds:.0f} s; {self._log} has its messages"
            ) from error
        except ValueError as error:
            _close(fds)
            raise EnvironmentProblem(
                f"setting up the kernel program failed (exit code {code}); {self._log} says why"
            ) from error
        finally:
            self.kill()
        if told := answer.get("error"):
            sentence = f"{told['sentence']}; {self._log} says more" if told["log"] else told["sentence"]
            raise KINDS.get(told["kind"], AyaflowError)(sentence)
        return Answer(values=answer["values"], fds=dict(zip(answer["fds"], fds, strict=True)))

    def _receive(self, fds: list[int]) -> bytes:
        """All until its end; empty when it died. Raises TimeoutError."""
        octets = b""
        with contextlib.suppress(ConnectionError):  # it died before it had read the request
            while True:
                self._connection.settimeout(self._left())
                part, more, _, _ = socket.recv_fds(self._connection, _PART_BYTES, MOST_FDS)
                fds += more
                octets += part
                if not part:
                    break
        return octets

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())


def start(command: str, request: dict[str, Any], *, log: Path) -> Running:
    """Start the child. Its messages go to `log`. Raises EnvironmentProblem."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = spawn(command, theirs.fileno(), log)
        except OSError as error:
            ours.close()
            raise EnvironmentProblem(
                f"cannot write {log}: {error.strerror}. Set data_dir to a folder that can be written"
            ) from error
    return asked(process, ours, request, log)


def spawn(command: str, connection: int, log: Path, only: Mapping[str, str] = EVERYTHING) -> "subprocess.Popen[bytes]":
    """Start the child with its end of the connection. `only`: values that it takes whatever it is asked.

    Raises OSError.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as messages:
        return subprocess.Popen(
            [sys.executable, "-m", "producer.child_main", command, json.dumps(dict(only))],
            stdin=connection,
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # Ctrl-C must not stop it half-way
            cwd=Path(__file__).parents[2],
        )


def asked(process: Process, connection: socket.socket, request: dict[str, Any], log: Path) -> Running:
    """Send the request to a child by our end of the connection."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
    return Running(process, connection, log)


def waited(poll: Callable[[], int | None], timeout: float | None) -> int:
    """Ask again and again for an exit code. Raises subprocess.TimeoutExpired."""
    deadline = time.monotonic() + (_SECONDS if timeout is None else timeout)
    while (code := poll()) is None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired("child", timeout or _SECONDS)
        time.sleep(_POLL_SECONDS)
    return code


def run(command: str, request: dict[str, Any], *, log: Path) -> Answer:
    """Run the child to its end: `start` and `wait`."""
    return start(command, request, log=log).wait()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
