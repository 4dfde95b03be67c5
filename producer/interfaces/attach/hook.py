"""What is asked for an interface, and what became of it. Pure."""

from dataclasses import dataclass

WAYS = ("tcx", "clsact")
"""How a program may be attached, the best first; tests leave one out."""
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
    error: str = ""  # a sentence, when it failed, or when what is attached does not see all


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found of one."""

    in_place: bool  # in both directions
    before: tuple[str, ...] = ()  # programs of others that run before ours: what they end we do not see
