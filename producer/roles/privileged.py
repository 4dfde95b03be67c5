"""The producer's half of the helper (roles/helper.py): asks it to do what the producer itself may not do any more."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import logs
from common.errors import EnvironmentProblem
from producer.interfaces.attach.hook import Hook, Seen
from producer.interfaces.observer import Listening, ThisMachine
from producer.interfaces.rtnetlink import RouteSocket
from producer.kernel import child
from producer.roles.helper import MOST_BYTES

_SECONDS = 10.0  # for an answer: none of them waits for anything but the kernel
_END_SECONDS = 5.0
_TRIES = 3  # of what a helper was doing that was killed
_GONE = (
    "the helper that attaches to interfaces has ended: what is attached is counted, new interfaces are not watched and "
    "hooks that somebody removes stay away. Restart the producer; it loses nothing"
)

log = logs.get("producer")


class _AnewError(EnvironmentProblem):
    """The helper was killed while it did what was asked for; another is there, and can be asked again."""


class Privileged:
    """A helper that runs. A context manager. What it does, it does for the main thread.

    One that is killed is started again by its parent, and does again what it was doing.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket, logs: Path, node: str) -> None:
        """See `begin`."""
        self._process, self._connection, self._logs, self._node = process, connection, logs, node
        self._gone, self._number = False, 0

    @classmethod
    def begin(cls, *, node: str, directory: Path, logs: Path, elsewhere: bool) -> "Privileged":
        """Start it, with what we may do now. `directory`: the node's pins; `elsewhere`: in other namespaces, too.

        Raises EnvironmentProblem.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "producer.roles.helper", node, str(directory), str(logs)]
        with theirs:
            try:
                process = subprocess.Popen(
                    [*command, "yes" if elsewhere else "no"],
                    stdin=theirs.fileno(),
                    start_new_session=True,  # Ctrl-C is for the producer, which still wants to detach
                    cwd=Path(__file__).parents[2],
                )
            except OSError as error:
                ours.close()
                raise EnvironmentProblem(f"cannot start the helper that attaches: {error.strerror}") from error
        ours.settimeout(_SECONDS)
        return cls(process, ours, logs, node)

    def __enter__(self) -> "Privileged":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    @property
    def pid(self) -> int:
        """Of the helper's parent, which starts it again."""
        return self._process.pid

    @property
    def problem(self) -> str | None:
        """What is wrong with it, a sentence."""
        return _GONE if self._gone or self._process.poll() is not None else None

    def start(self, command: str, request: dict[str, Any]) -> child.Running:
        """Start a child that does `hook` or `detach`. Raises EnvironmentProblem."""
        path = self._logs / f"kernel-{self._node}.{command}.log"
        message = {"do": "start", "command": command, "log": path.name}
        for last in (False,) * (_TRIES - 1) + (True,):
            ours, theirs = socket.socketpair()  # of each try: the child of the one before may be there, and ends
            with theirs:
                try:
                    answer, _ = self._ask_once(message, [theirs.fileno()])
                except (EnvironmentProblem, OSError) as error:
                    ours.close()
                    if isinstance(error, _AnewError) and not last:
                        continue
                    if isinstance(error, EnvironmentProblem):
                        raise
                    raise EnvironmentProblem(
                        f"cannot write {path}: {error.strerror}. Set data_dir to a folder that can be written"
                    ) from error
            break
        return child.asked(_Remote(self, answer["pid"]), ours, request, path)

    def look(self, run: str, hooks: Iterable[Hook]) -> dict[int, Seen]:
        """What is attached, by slot. Raises EnvironmentProblem."""
        try:
            answer, _ = self._ask({"do": "look", "run": run, "hooks": [asdict(hook) for hook in hooks]})
        except OSError as error:
            raise EnvironmentProblem(f"cannot look at hooks: {error.strerror}") from error
        return {slot: Seen(in_place=seen["in_place"], before=tuple(seen["before"])) for slot, seen in answer["seen"]}

    def remove(self, what: str, run: str | None = None, slot: int = 0) -> None:
        """Unlink pins: see Helper.remove. Raises EnvironmentProblem."""
        try:
            self._ask({"do": "remove", "what": what, "run": run, "slot": slot})
        except OSError as error:
            raise EnvironmentProblem(f"cannot remove pins: {error.strerror}; run: ayaflow detach") from error

    def listen(self, name: str) -> tuple[Listening, int]:
        """See observer.Machine.open, of a namespace with a name. Raises OSError."""
        try:
            _, fds = self._ask({"do": "listen", "name": name})
        except EnvironmentProblem as error:
            raise OSError(0, str(error)) from error
        events, ask, namespace = fds
        return RouteSocket.of(socket.socket(fileno=events), socket.socket(fileno=ask)), namespace

    def ask_about(self, pid: int, what: str) -> int | None:
        """`poll` or `kill` a child -> its exit code; None while it runs."""
        try:
            answer, _ = self._ask({"do": what, "pid": pid})
        except (EnvironmentProblem, OSError):
            return -1  # it ends by itself, and nobody is left to tell us how
        code: int | None = answer.get("code")
        return code

    def _ask(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Its answer, for what may be done twice. Raises as `_ask_once`."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(_AnewError):
                return self._ask_once(message)
        return self._ask_once(message)

    def _ask_once(self, message: Mapping[str, Any], fds: Iterable[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Its answer. Raises OSError for what the kernel refused it, EnvironmentProblem when nobody answers."""
        self._number += 1
        if self._gone:
            raise EnvironmentProblem(_GONE)
        try:
            socket.send_fds(self._connection, [json.dumps({**message, "n": self._number}).encode()], list(fds))
            answer, found = self._answer()
        except OSError as error:  # also when it does not answer in time
            self._gone = True
            raise EnvironmentProblem(_GONE) from error
        if answer.get("anew"):
            raise _AnewError("the helper that attaches to interfaces was killed, again and again")
        if "error" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]) if answer["errno"] else answer["error"])
        return answer, found

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        """What is said of the message that was sent last. Raises OSError."""
        while True:
            octets, found, _, _ = socket.recv_fds(self._connection, MOST_BYTES, child.MOST_FDS)
            if not octets:
                raise ConnectionResetError
            answer: dict[str, Any] = json.loads(octets)
            if answer.get("anew"):
                log.warning("somebody killed the helper that attaches to interfaces; it was started again")
            if answer["n"] == self._number:
                return answer, found
            for fd in found:
                os.close(fd)


class _Remote:
    """A child of the helper. Obeys child.Process."""

    def __init__(self, helper: Privileged, pid: int) -> None:
        self._helper, self._pid = helper, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """See Process."""
        if self._code is None:
            self._code = self._helper.ask_about(self._pid, "poll")
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """See Process. It has said all when it is waited for, so it hardly waits."""
        return child.waited(self.poll, timeout)

    def kill(self) -> None:
        """See Process."""
        if self._code is None:
            self._helper.ask_about(self._pid, "kill")
            self._code = -9


class Machine(ThisMachine):
    """observer.Machine: namespaces of others are opened by the helper."""

    def __init__(self, helper: Privileged) -> None:
        self._helper = helper

    def open(self, name: str) -> tuple[Listening, int]:
        """See observer.Machine."""
        return self._helper.listen(name) if name else super().open(name)
