"""The short-lived child process: bcc brings LLVM (100 MB and more) and goes with it.

Parent:  answer = run("attach", request, log=path)
Child:   python -m producer.child attach < request.json   prints one line of JSON; compilers' messages go to stderr
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common.errors import AyaflowError, EnvironmentProblem, SettingsError

_SECONDS = 120
_KINDS = {kind.__name__: kind for kind in (EnvironmentProblem, SettingsError, AyaflowError)}


def run(command: str, request: dict[str, Any], *, log: Path) -> dict[str, Any]:
    """Run the child to its end. Its messages go to `log`. Raises the error that it reports."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as messages:
            done = subprocess.run(
                [sys.executable, "-m", "producer.child", command],
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=messages,
                timeout=_SECONDS,
                start_new_session=True,
                check=False,
                cwd=Path(__file__).parent.parent,
            )  # fmt: skip  a session of its own: Ctrl-C must not stop it half-way
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {log}: {error.strerror}. Set data_dir to a folder that can be written"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"setting up the kernel program took more than {_SECONDS} s; {log} has its messages"
        ) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EnvironmentProblem(
            f"setting up the kernel program failed (exit code {done.returncode}); {log} says why"
        ) from error
    if "error" in answer:
        raise _KINDS.get(answer["kind"], AyaflowError)(answer["error"].replace("LOG", str(log)))
    return answer


def _attach(request: dict[str, Any]) -> dict[str, Any]:
    from producer import attach, loader  # only in the child

    node, directory = request["node"], Path(request["pin_directory"])
    with attach.open_route() as route:
        attach.detach(route, node=node)  # of a run that died
        for path in directory.iterdir():
            path.unlink()
        try:
            interfaces = attach.describe(route, request["interfaces"])
            programs, _module = loader.load(directory, ring_pages=request["ring_pages"], interfaces=interfaces)
            opened_ns = time.monotonic_ns()
            for interface in interfaces:
                attach.attach(route, interface["ifindex"], node, programs, slot=interface["slot"])
        except AyaflowError:
            attach.detach(route, node=node)
            raise
    return {"interfaces": interfaces, "opened_ns": opened_ns}


def _detach(request: dict[str, Any]) -> dict[str, Any]:
    from producer import attach  # only in the child

    with attach.open_route() as route:
        return {"removed": attach.detach(route, node=request["node"])}


def main() -> int:
    """The child."""
    command = {"attach": _attach, "detach": _detach}[sys.argv[1]]
    try:
        answer = command(json.load(sys.stdin))
    except AyaflowError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
