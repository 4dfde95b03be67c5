"""The helper: the one process of a running producer that may do anything. It attaches, and it removes what we pinned.

    python -m producer.roles.helper NODE PIN_DIRECTORY LOGS yes|no      standard input: a SOCK_SEQPACKET socket

A message is a JSON object, and so is its answer, with descriptors if there are any. What can be asked for is the
functions of `Helper`, for one node, one folder of pins and one folder of logs, which are said at the start: whoever
takes over the producer can attach and detach the producer's own program, and nothing else. It ends when the producer
does.

It is two processes: one that serves, and its parent, which starts another when somebody has killed it. Messages have a
number `n`, which their answers repeat; `{"n": …, "anew": true}` says that whoever had that message was killed.
"""

import json
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.stopping import ignore_signals
from producer.interfaces import namespaces
from producer.interfaces.attach.hook import Hook
from producer.interfaces.attach.links import look_at
from producer.kernel import child, pins
from producer.roles import capabilities

MOST_BYTES = 1 << 18
_PAUSE_SECONDS = 0.5  # before another is started in the place of one that was killed
_NUMBER = struct.Struct("=Q")
COMMANDS = ("hook", "detach")
"""What a child may be started for."""
_RUN = re.compile(r"[0-9]{1,20}")
_ATTACHES = {"CAP_NET_ADMIN", "CAP_BPF"}
_LOOKS_ELSEWHERE = {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}  # setns, and the descriptors of namespaces that the producer has


class Helper:
    """What it does. Functions take the values of a message; they return those of the answer, and descriptors."""

    def __init__(self, *, node: str, directory: Path, logs: Path) -> None:
        """`directory`: the node's pins."""
        self._node, self._directory, self._logs = node, directory, logs
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, fds: list[int], command: str, log: str) -> dict[str, Any]:
        """Start a child, whose connection to the producer is the descriptor that came along."""
        if command not in COMMANDS or "/" in log:
            raise ValueError(command)
        (connection,) = fds
        only = {"node": self._node, "pin_directory": str(self._directory)}
        process = child.spawn(command, connection, self._logs / log, only)
        self._children[process.pid] = process
        return {"pid": process.pid}

    def poll(self, fds: list[int], pid: int) -> dict[str, Any]:
        """A child's exit code; none while it runs, and 0 of one that was told already."""
        process = self._children.get(pid)
        code = 0 if process is None else process.poll()
        if code is not None:
            self._children.pop(pid, None)
        return {"code": code}

    def kill(self, fds: list[int], pid: int) -> dict[str, Any]:
        """End a child."""
        if process := self._children.pop(pid, None):
            process.kill()
            process.wait()
        return {}

    def look(self, fds: list[int], run: str, hooks: list[dict[str, Any]]) -> dict[str, Any]:
        """What is attached."""
        found = look_at(self._directory, _checked(run), [Hook(**fields) for fields in hooks])
        return {"seen": [[slot, asdict(seen)] for slot, seen in found.items()]}

    def remove(self, fds: list[int], what: str, run: str | None = None, slot: int = 0) -> dict[str, Any]:
        """Unlink pins: those of a `slot`, the `hooks` of a run or all, the `files` of the run, one `aside`, or all."""
        if what == "slot":
            pins.remove_slot(self._directory, _checked(run), int(slot))
        elif what == "hooks":
            pins.remove_hooks(self._directory, run if run is None else _checked(run))
        elif what == "files":
            pins.remove_files(self._directory)
        elif what == "aside":
            pins.remove(self._directory / pins.OLD / _checked(run))
        elif what == "all":
            pins.remove(self._directory)
        else:
            raise ValueError(what)
        return {}

    def listen(self, fds: list[int], name: str) -> tuple[dict[str, Any], list[int]]:
        """Two sockets for what happens to interfaces in a namespace, and the namespace."""
        from producer.interfaces.rtnetlink import sockets

        path = namespaces.path_of(name)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with namespaces.entered(str(path)):
                events, ask = sockets()
        except OSError:
            os.close(fd)
            raise
        return {}, [events.detach(), ask.detach(), fd]


def _checked(run: str | None) -> str:
    if run is None or not _RUN.fullmatch(run):
        raise ValueError(f"no run: {run}")
    return run


def serve(connection: socket.socket, helper: Helper, under_way: mmap.mmap | None = None) -> None:
    """Answer until the producer has gone. `under_way`: gets the number of the message that is being done; 0: none."""
    offered: dict[str, Callable[..., Any]] = {
        name: getattr(helper, name) for name in ("start", "poll", "kill", "look", "remove", "listen")
    }
    while True:
        # first a look: what is taken by one who is killed at that moment, nobody would know of
        number = _number(connection.recv(MOST_BYTES, socket.MSG_PEEK))
        _note(under_way, number)
        octets, fds, _, _ = socket.recv_fds(connection, MOST_BYTES, child.MOST_FDS)
        if not octets:
            return
        answer: dict[str, Any] = {}
        passed: list[int] = []
        try:
            message = json.loads(octets)
            message.pop("n", None)
            found = offered[message.pop("do")](fds, **message)
            answer, passed = found if isinstance(found, tuple) else (found, [])
        except OSError as error:
            answer = {"errno": error.errno or 0, "error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            answer = {"errno": 0, "error": f"this is a fault of ayaflow: {error!r}"}
        finally:
            for fd in fds:
                os.close(fd)
        try:
            socket.send_fds(connection, [json.dumps({"n": number, **answer}).encode()], passed)
            _note(under_way, 0)
        except OSError:
            return
        finally:
            for fd in passed:
                os.close(fd)


def _number(octets: bytes) -> int:
    """Of a message; 0: it has none."""
    try:
        return int(json.loads(octets)["n"]) & 0xFFFF_FFFF_FFFF_FFFF
    except (ValueError, TypeError, KeyError):
        return 0


def _note(under_way: mmap.mmap | None, number: int) -> None:
    if under_way is not None:
        _NUMBER.pack_into(under_way, 0, number)


def keep_serving(connection: socket.socket, helper: Helper) -> None:
    """Serve in a child, and in another one when that was killed, until the producer has gone."""
    under_way = mmap.mmap(-1, _NUMBER.size)  # shared with the child
    parent = os.getpid()
    while True:
        serving = os.fork()
        if not serving:
            capabilities.kill_with_parent(parent)
            serve(connection, helper, under_way)
            os._exit(0)
        if not os.waitpid(serving, 0)[1]:
            return
        (number,) = _NUMBER.unpack_from(under_way)
        _note(under_way, 0)
        try:
            connection.send(json.dumps({"n": number, "anew": True}).encode())
        except OSError:
            return
        time.sleep(_PAUSE_SECONDS)


def main() -> int:
    """Give up what is not needed, and serve."""
    node, directory, logs, elsewhere = sys.argv[1:]
    ignore_signals()  # the producer, whom they are for as well, still wants to detach
    wanted = _ATTACHES | (_LOOKS_ELSEWHERE if elsewhere == "yes" else set())
    if "CAP_BPF" not in capabilities.held():
        wanted |= {"CAP_SYS_ADMIN"}  # in its place, as before Linux 5.8
    capabilities.keep(wanted)
    with socket.socket(fileno=os.dup(0)) as connection:
        keep_serving(connection, Helper(node=node, directory=Path(directory), logs=Path(logs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
