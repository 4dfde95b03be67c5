"""The short-lived child process. What brings large libraries is imported here, and nowhere in the steady process.

python -m producer.child_main load|hook|detach|compile VALUES     VALUES as JSON; standard input: see
producer/kernel/child.py
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import AyaflowError, EnvironmentProblem
from producer.kernel.child import KINDS, Answer, SeeLogError


def load(request: dict[str, Any]) -> Answer:
    """Load the program and pin it."""
    from producer.kernel.load import loader
    from producer.kernel.load.wanted import Wanted

    loader.load(Path(request["pin_directory"]), Wanted.of(request), request["loader"])
    return Answer(values={"opened_ns": time.monotonic_ns()})


def compile_replay(request: dict[str, Any]) -> Answer:
    """Load the program for replay and hand it over with its maps."""
    from producer.kernel.load import loader
    from producer.kernel.load.wanted import Wanted

    wanted = Wanted.of(request, replay=True)
    return Answer(values={}, fds=loader.load_for_replay(request["program"], request["maps"], wanted, request["loader"]))


def hook(request: dict[str, Any]) -> Answer:
    """Attach the pinned programs where they are not attached yet."""
    from producer.interfaces.attach.attaching import Attach
    from producer.interfaces.attach.hook import WAYS, Hook

    attach = Attach(
        node=request["node"],
        run=str(request["run"]),
        directory=Path(request["pin_directory"]),
        by_tcx="tcx" in request.get("ways", WAYS),
    )
    try:
        found = attach.attach(Hook(**fields) for fields in request["hooks"])
    except OSError as error:
        raise EnvironmentProblem(f"cannot attach to interfaces: {error}") from error
    return Answer(values={"outcomes": [asdict(each) for each in found]})


def detach(request: dict[str, Any]) -> Answer:
    """Remove the hooks of a node, or of all, from all interfaces but those that are kept."""
    from producer.interfaces.attach import attaching

    try:
        removed = attaching.detach_everywhere(node=request["node"], keep=request.get("keep", ()))
    except OSError as error:
        raise EnvironmentProblem(f"cannot detach from interfaces: {error}") from error
    return Answer(values={"removed": removed})


def main() -> int:
    """Do one command."""
    command = {"load": load, "hook": hook, "detach": detach, "compile": compile_replay}[sys.argv[1]]
    with socket.socket(fileno=os.dup(0)) as parent:
        serve(parent, command, json.loads(sys.argv[2]))
    return 0


def serve(parent: socket.socket, command: Callable[[dict[str, Any]], Answer], only: dict[str, str]) -> None:
    """Read the request, do it, and answer: with what was done, or with the error. `only`: takes the request's place."""
    answer, said = Answer(values={}), None
    try:
        with parent.makefile("rb") as stream:
            answer = command(json.load(stream) | only)
    except AyaflowError as error:
        kind = next(name for name, each in KINDS.items() if isinstance(error, each))
        said = {"kind": kind, "sentence": str(error), "log": isinstance(error, SeeLogError)}
    octets = json.dumps({"values": answer.values, "fds": list(answer.fds), "error": said}).encode()
    sent = socket.send_fds(parent, [octets], list(answer.fds.values())) if answer.fds else 0
    parent.sendall(octets[sent:])


if __name__ == "__main__":
    sys.exit(main())
