"""The short-lived child process: bcc brings LLVM (100 MB and more) and goes with it.

Parent:  answer = run("load", request, log=path)
Child:   python -m producer.kernel.child load < request.json   prints one line of JSON; compilers' messages go to stderr
"""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common.errors import AyaflowError, EnvironmentProblem, SettingsError
from producer.interfaces.hook import FAILED, GONE, Hook

_SECONDS = 120
Answer = dict[str, Any]
_KINDS = {kind.__name__: kind for kind in (EnvironmentProblem, SettingsError, AyaflowError)}


class Running:
    """A child that was started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._deadline = time.monotonic() + _SECONDS

    def is_done(self) -> bool:
        """Whether `wait` would not wait."""
        return self._process.poll() is not None or time.monotonic() > self._deadline

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def wait(self) -> Answer:
        """Its answer. Raises the error that it reports, and EnvironmentProblem when there is none."""
        try:
            octets, _ = self._process.communicate(timeout=max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise EnvironmentProblem(
                f"setting up the kernel program took more than {_SECONDS} s; {self._log} has its messages"
            ) from error
        try:
            answer: Answer = json.loads(octets.splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise EnvironmentProblem(
                f"setting up the kernel program failed (exit code {self._process.returncode}); {self._log} says why"
            ) from error
        if "error" in answer:
            raise _KINDS.get(answer["kind"], AyaflowError)(answer["error"].replace("LOG", str(self._log)))
        return answer


def start(command: str, request: dict[str, Any], *, log: Path) -> Running:
    """Start the child. Its messages go to `log`. Raises EnvironmentProblem."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as messages:
            process = subprocess.Popen(
                [sys.executable, "-m", "producer.kernel.child", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip  a session of its own: Ctrl-C must not stop it half-way
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {log}: {error.strerror}. Set data_dir to a folder that can be written"
        ) from error
    assert process.stdin is not None
    with process.stdin as stdin, contextlib.suppress(BrokenPipeError):
        stdin.write(json.dumps(request).encode())  # far less than a pipe holds
    process.stdin = None
    return Running(process, log)


def run(command: str, request: dict[str, Any], *, log: Path) -> Answer:
    """Run the child to its end: `start` and `wait`."""
    return start(command, request, log=log).wait()


def _load(request: dict[str, Any]) -> Answer:
    """Load and pin."""
    from producer.kernel import loader  # only in the child

    directory = Path(request["pin_directory"])
    loader.load(
        directory,
        ring_pages=request["ring_pages"],
        flow_entries=request["flow_entries"],
        decapsulate=request["decapsulate"],
    )
    return {"opened_ns": time.monotonic_ns()}


def _hook(request: dict[str, Any]) -> Answer:
    """Attach the pinned programs where they are not attached yet."""
    from producer.interfaces import attach
    from producer.kernel import (
        bpfsys,
        pins,  # only in the child
    )

    directory = Path(request["pin_directory"])
    programs = {hook: bpfsys.obj_get(directory / hook) for hook in pins.PROGRAMS}
    found = []
    for fields in request["hooks"]:
        hook, error = Hook(**fields), ""
        try:
            with attach.open_route(hook.namespace) as route:
                state = attach.ensure(route, hook, node=request["node"], run=str(request["run"]), programs=programs)
        except FileNotFoundError:  # the namespace
            state = GONE
        except (AyaflowError, OSError) as problem:
            state, error = FAILED, str(problem)
        found.append({"slot": hook.slot, "state": state, "error": error})
    return {"hooks": found}


def _sweep(request: dict[str, Any]) -> Answer:
    """Remove the node's hooks from all interfaces but those of the request."""
    from producer.interfaces import attach  # only in the child

    return {"removed": attach.detach_everywhere(node=request["node"], keep=request["keep"])}


def _detach(request: dict[str, Any]) -> Answer:
    from producer.interfaces import attach  # only in the child

    return {"removed": attach.detach_everywhere(node=request["node"])}


def main() -> int:
    """The child."""
    command = {"load": _load, "hook": _hook, "sweep": _sweep, "detach": _detach}[sys.argv[1]]
    try:
        answer = command(json.load(sys.stdin))
    except AyaflowError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
