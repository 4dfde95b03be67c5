"""Attaching the kernel program to interfaces, and detaching it: asked of the short-lived child."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from producer.kernel import child

ATTACHED, KEPT, GONE, FAILED = "attached", "kept", "gone", "failed"
"""What became of a hook: it was not there and is now; it was there; the interface is not there; see the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Both hooks of one interface: where the program is to be attached."""

    slot: int  # see bpf/event.h
    ifindex: int
    name: str  # for messages; of other namespaces NAMESPACE/INTERFACE
    namespace: str | None  # a file that setns takes; None: our own


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one."""

    slot: int
    state: str
    error: str = ""  # a sentence, when it failed


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

    def detach_others(self, keep: Collection[str]) -> None:
        """Remove the node's hooks, of any run, from all interfaces but those of these names. Raises AyaflowError."""


class ChildAttacher:
    """An Attacher by the child."""

    def __init__(self, *, node: str, run: int, pin_directory: Path, log: Path) -> None:
        """`run`: the ring's id. `log`: where the child's messages go."""
        self._node, self._run, self._pin_directory, self._log = node, run, pin_directory, log

    def attach(self, hooks: Iterable[Hook]) -> "ChildAttaching":
        """See Attacher."""
        request = {
            "node": self._node,
            "run": self._run,
            "pin_directory": str(self._pin_directory),
            "hooks": [asdict(hook) for hook in hooks],
        }
        return ChildAttaching(child.start("hook", request, log=self._log))

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
