"""Where the kernel program is attached: what the steady process asks its child for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Both hooks of one interface."""

    slot: int  # see bpf/event.h
    ifindex: int
    name: str  # for messages; of other namespaces NAMESPACE/INTERFACE
    namespace: str | None  # a file that setns takes; None: our own


ATTACHED, KEPT, GONE, FAILED = "attached", "kept", "gone", "failed"
"""What became of one: it was not there and is now; it was there; the interface is not there; see the error."""
