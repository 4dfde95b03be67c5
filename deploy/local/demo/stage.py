"""The two network namespaces of the demo, the cable between them, and the programs that act in them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import EnvironmentProblem
from deploy.local.demo import plan
from deploy.local.process import dies_with_parent, stop

_STOP_SECONDS = 5.0
_OWN_PLACES = {plan.OFFICE: plan.OFFICE_ADDRESSES, plan.WORLD: plan.WORLD_ADDRESSES}


def build() -> None:
    """Make both namespaces in /run/netns, which is ours alone by now. Raises EnvironmentProblem."""
    for name in _OWN_PLACES:
        _ip("netns", "add", name)
    cable = ("type", "veth", "peer", "name", plan.INTERFACE, "netns", plan.WORLD)
    _ip("link", "add", plan.INTERFACE, "netns", plan.OFFICE, *cable)
    for name, addresses in _OWN_PLACES.items():
        lines = [f"link set lo up\nlink set {plan.INTERFACE} up"]
        for address in dict.fromkeys(addresses):
            length, more = (128, " nodad") if ":" in address else (32, "")
            lines.append(f"addr add {address}/{length} dev {plan.INTERFACE}{more}")
        lines += [f"route add {every} dev {plan.INTERFACE}" for every in ("0.0.0.0/0", "::/0")]
        _ip("-n", name, "-batch", "-", said="\n".join(lines))


@contextlib.contextmanager
def acting(folder: Path) -> Iterator[None]:
    """Both act from now on; they end with us, however we end. `folder`: for their logs. Raises EnvironmentProblem."""
    with contextlib.ExitStack() as stack:
        for name in (plan.WORLD, plan.OFFICE):
            process = start(
                [sys.executable, "-P", "-m", f"deploy.local.demo.{name}", str(folder)], folder / f"{name}.log"
            )
            stack.callback(stop, process, _STOP_SECONDS)
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                words = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise EnvironmentProblem(f"the demo's {name} could not begin: {words[-1] if words else 'no reason'}")
        yield


def start(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    """A process that Ctrl-C does not reach, and that ends with us."""
    with log.open("ab") as errors:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  calls nothing that another thread may lock
        )


def _ip(*words: str, said: str = "") -> None:
    try:
        done = subprocess.run(["ip", *words], input=said, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EnvironmentProblem("the program ip is missing; run: sudo apt-get install iproute2") from error
    if done.returncode:
        raise EnvironmentProblem(
            f"ip {' '.join(words)}: {done.stderr.strip() or os.strerror(1)}. The demo makes network namespaces, which "
            "needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )
