"""Which kernel program is wanted, and what loading it gives. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A form of the kernel program."""

    ring_pages: int
    flow_entries: int = 1  # a replay has none
    decapsulate: Collection[str] = ()  # tunnels to be opened, of schemas.fields.TUNNEL_TYPES
    inspect: int = 0  # octets of payload to be copied where there may be a name; 0: nothing is looked at
    copy_pages: int = 0  # of the ring that they are copied into
    replay: bool = False  # with bpf/replay.h

    @classmethod
    def of(cls, request: Mapping[str, Any], **more: Any) -> Self:
        """From a request to the child, which has the same names."""
        return cls(**{name: request[name] for name in cls.__dataclass_fields__ if name in request}, **more)


class Module(Protocol):
    """A program with its maps, which are in the kernel already."""

    @property
    def maps(self) -> Mapping[str, int]:
        """Descriptors by name."""

    def load(self, name: str) -> int:
        """Have the verifier look at a function of it -> descriptor. Raises EnvironmentProblem."""
