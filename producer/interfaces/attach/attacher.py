"""Attaching the kernel program to interfaces, detaching it, and looking whether it is there.

All is asked of the helper, which may do it. For attaching and detaching it starts a child, since that may wait for the
kernel, and needs pyroute2 where there is no TCX. Looking is a few system calls a hook.
"""

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import Any, Protocol

from common.errors import EnvironmentProblem
from producer.interfaces.attach.hook import WAYS, Hook, Outcome, Seen
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


class Helps(Protocol):
    """What we use of roles.privileged.Privileged, which may do what we may not."""

    def start(self, command: str, request: dict[str, Any]) -> child.Running:
        """Start a child. Raises EnvironmentProblem."""

    def look(self, run: str, hooks: Iterable[Hook]) -> dict[int, Seen]:
        """What is attached, by slot. Raises EnvironmentProblem."""

    def remove(self, what: str, run: str | None = None, slot: int = 0) -> None:
        """Unlink pins. Raises EnvironmentProblem."""


class ChildAttacher:
    """An Attacher by a child of the helper."""

    def __init__(self, helper: Helps, *, run: int, ways: tuple[str, ...] = WAYS) -> None:
        """`run`: the ring's id. `ways`: of WAYS, those that may be tried."""
        self._helper, self._run, self._ways = helper, str(run), ways

    def attach(self, hooks: Iterable[Hook]) -> "ChildAttaching":
        """See Attacher."""
        request = {"run": self._run, "ways": self._ways, "hooks": [asdict(hook) for hook in hooks]}
        return ChildAttaching(self._helper.start("hook", request))

    def look(self, hooks: Iterable[Hook]) -> dict[int, Seen]:
        """See Attacher. Without a helper nothing is seen, which is told elsewhere."""
        try:
            return self._helper.look(self._run, hooks)
        except EnvironmentProblem:
            return {}

    def release(self, slot: int) -> None:
        """See Attacher."""
        with contextlib.suppress(EnvironmentProblem):  # there is no helper: our end, or a restart, removes it
            self._helper.remove("slot", self._run, slot)

    def detach_others(self, keep: Collection[str]) -> None:
        """See Attacher."""
        self._helper.start("detach", {"keep": list(keep)}).wait()


class ChildAttaching:
    """A child that attaches."""

    def __init__(self, running: child.Running) -> None:
        self._running = running
        self.is_done, self.kill = running.is_done, running.kill

    def wait(self) -> list[Outcome]:
        """See Attaching."""
        return [Outcome(**fields) for fields in self._running.wait().values["outcomes"]]
