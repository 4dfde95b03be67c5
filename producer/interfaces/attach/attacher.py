"""Attaching the kernel program to interfaces, detaching it, and looking whether it is there.

Attaching and detaching is asked of the short-lived child: it may wait for the kernel, and needs pyroute2 where there is
no TCX. Looking is a few system calls a hook.
"""

import contextlib
import itertools
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from producer.interfaces import namespaces
from producer.interfaces.attach.hook import WAYS, Hook, Outcome, Seen
from producer.interfaces.attach.links import Links
from producer.kernel import child


class Attaching(Protocol):
    """Attaching that is under way."""

    def is_done(self) -> bool:
        """Whether `wait` would not wait."""

    def wait(self) -> list[Outcome]:
        """What became of the hooks. Raises AyaflowError when nothing is known of any."""

    def kill(self) -> None:
        """Give up."""


class Attacher(Protocol):
    """Attaches and detaches the program of one run."""

    def attach(self, hooks: Iterable[Hook]) -> Attaching:
        """Begin to attach where it is not attached. Raises EnvironmentProblem."""

    def look(self, hooks: Iterable[Hook]) -> dict[int, Seen]:
        """What is there now, by slot. A hook that cannot be looked at from here is not in place: `attach` knows."""

    def release(self, slot: int) -> None:
        """The interface of a slot has gone: let go of it, should it only have moved to where we do not look."""

    def detach_others(self, keep: Collection[str]) -> None:
        """Remove the node's hooks, of any run, from all interfaces but those of these names. Raises AyaflowError."""


class ChildAttacher:
    """An Attacher by the child."""

    def __init__(self, *, node: str, run: int, pin_directory: Path, log: Path, ways: tuple[str, ...] = WAYS) -> None:
        """`run`: the ring's id. `log`: where the child's messages go. `ways`: of WAYS, those that may be tried."""
        self._node, self._run, self._pin_directory, self._log = node, run, pin_directory, log
        self._ways, self._links = ways, Links(pin_directory, str(run))

    def attach(self, hooks: Iterable[Hook]) -> "ChildAttaching":
        """See Attacher."""
        request = {
            "node": self._node,
            "run": self._run,
            "pin_directory": str(self._pin_directory),
            "ways": self._ways,
            "hooks": [asdict(hook) for hook in hooks],
        }
        return ChildAttaching(child.start("hook", request, log=self._log))

    def look(self, hooks: Iterable[Hook]) -> dict[int, Seen]:
        """See Attacher."""
        hooks = sorted(hooks, key=lambda hook: hook.namespace or "")
        seen = {hook.slot: Seen(in_place=False) for hook in hooks}
        for namespace, there in itertools.groupby(hooks, lambda hook: hook.namespace):
            with contextlib.suppress(OSError), namespaces.entered(namespace):
                for hook in there:
                    with contextlib.suppress(OSError):
                        seen[hook.slot] = self._links.look(hook)
        return seen

    def release(self, slot: int) -> None:
        """See Attacher."""
        self._links.release(slot)

    def detach_others(self, keep: Collection[str]) -> None:
        """See Attacher."""
        child.run("detach", {"node": self._node, "keep": list(keep)}, log=self._log)


class ChildAttaching:
    """A child that attaches."""

    def __init__(self, running: child.Running) -> None:
        self._running = running
        self.is_done, self.kill = running.is_done, running.kill

    def wait(self) -> list[Outcome]:
        """See Attaching."""
        return [Outcome(**fields) for fields in self._running.wait().values["outcomes"]]
