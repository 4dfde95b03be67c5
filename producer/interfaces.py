"""Which interfaces to watch. Pure, but for the three files and one call that `Links.of_this_machine` reads."""

import difflib
import socket
from dataclasses import dataclass
from pathlib import Path

from common.errors import EnvironmentProblem, SettingsError

_DEFAULT_V6 = "0" * 32
_ROUTE_UP, _ROUTE_REJECT = 0x0001, 0x0200


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What is known of this machine's interfaces."""

    names: tuple[str, ...]
    routes_v4: str  # /proc/net/route
    routes_v6: str  # /proc/net/ipv6_route

    @classmethod
    def of_this_machine(cls) -> "Links":
        """As they are now, in our network namespace."""
        return cls(
            names=tuple(name for _, name in socket.if_nameindex()),
            routes_v4=_read(Path("/proc/net/route")),
            routes_v6=_read(Path("/proc/net/ipv6_route")),
        )


def choose(wanted: list[str], links: Links) -> tuple[str, ...]:
    """The interfaces to watch: those wanted, or else those with a default route. Raises when there is none."""
    known = ", ".join(links.names) or "none"
    for name in wanted:
        if name not in links.names:
            near = difflib.get_close_matches(name, links.names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"this machine has: {known}"
            raise SettingsError(f"capture.interfaces: there is no interface {name}; {hint}")
    chosen = dict.fromkeys(wanted or with_default_route(links))
    if not chosen:
        raise EnvironmentProblem(
            f"no interface has a default route; name those to watch with --interface. This machine has: {known}"
        )
    return tuple(chosen)


def with_default_route(links: Links) -> list[str]:
    """Interfaces with a default route, IPv4 first."""
    found = []
    for line in links.routes_v4.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000" and _usable(int(fields[3], 16)):
            found.append(fields[0])
    for line in links.routes_v6.splitlines():
        fields = line.split()
        if len(fields) >= 10 and fields[0] == _DEFAULT_V6 and fields[1] == "00" and _usable(int(fields[8], 16)):
            found.append(fields[9])
    return [name for name in dict.fromkeys(found) if name in links.names and name != "lo"]


def _usable(flags: int) -> bool:
    return bool(flags & _ROUTE_UP) and not flags & _ROUTE_REJECT


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:  # a kernel without IPv6
        return ""
