"""Which interfaces to watch. `Links.of_this_machine` reads what there is; the choice itself asks nobody."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from common.errors import EnvironmentProblem, SettingsError
from producer.interfaces import namespaces
from producer.interfaces.names import shown

_DEFAULT_V6 = b"0" * 32
_ROUTE_UP, _ROUTE_REJECT = 0x0001, 0x0200


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What is known of this machine's interfaces."""

    names: tuple[str, ...]
    routes_v4: bytes  # /proc/net/route
    routes_v6: bytes  # /proc/net/ipv6_route

    @classmethod
    def of_this_machine(cls) -> "Links":
        """As they are now, in our network namespace."""
        return cls(
            names=tuple(namespaces.interfaces().values()),
            routes_v4=_read(Path("/proc/net/route")),
            routes_v6=_read(Path("/proc/net/ipv6_route")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """capture.interfaces, understood. Names of other namespaces are `namespace/interface`."""

    auto: bool  # those with a default route
    wanted: tuple[str, ...]  # names and globs
    unwanted: tuple[str, ...]

    @classmethod
    def of(cls, patterns: list[str]) -> "Selection":
        """`auto`, names, globs and `!exclusions`. Nothing but exclusions means all that is auto but them."""
        unwanted = tuple(pattern[1:] for pattern in patterns if pattern.startswith("!"))
        wanted = tuple(pattern for pattern in patterns if not pattern.startswith("!"))
        if "" in patterns or "" in unwanted:
            raise SettingsError("capture.interfaces: a name is empty; write auto, a name, a glob (eth*) or !name")
        names = tuple(pattern for pattern in wanted if pattern != "auto")
        return cls(auto=not wanted or "auto" in wanted, wanted=names, unwanted=unwanted)

    def takes(self, name: str, automatic: Collection[str], *, loopback: bool = False) -> bool:
        """Whether an interface is to be watched. `automatic`: those with a default route.

        In other namespaces patterns with a slash count; without any, all but the loopback interface is taken.
        """
        if any(fnmatchcase(name, pattern) for pattern in self._of_its_kind(self.unwanted, name)):
            return False
        patterns = self._of_its_kind(self.wanted, name)
        if "/" in name and not patterns:
            return not loopback
        return (self.auto and name in automatic) or any(fnmatchcase(name, pattern) for pattern in patterns)

    @staticmethod
    def _of_its_kind(patterns: tuple[str, ...], name: str) -> list[str]:
        return [pattern for pattern in patterns if ("/" in pattern) == ("/" in name)]

    @property
    def exact(self) -> list[str]:
        """Names of our own namespace that are no globs."""
        return [name for name in self.wanted if not set(name) & set("*?[/")]


def check(selection: Selection, links: Links) -> None:
    """At the start: raise when a name is not there, or `auto` finds nothing and nothing else is wanted."""
    known = ", ".join(links.names) or "none"
    for name in selection.exact:
        if name not in links.names:
            near = difflib.get_close_matches(name, links.names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"this machine has: {known}"
            raise SettingsError(f"capture.interfaces: there is no interface {name}; {hint}")
    if selection.auto and not selection.wanted and not with_default_route(links):
        raise EnvironmentProblem(
            f"no interface has a default route; name those to watch with --interface. This machine has: {known}"
        )


def choose(wanted: list[str], links: Links) -> tuple[str, ...]:
    """The interfaces of our own namespace that are watched as things are. Raises as `check`."""
    selection = Selection.of(wanted)
    check(selection, links)
    automatic = with_default_route(links) if selection.auto else []
    return tuple(
        name
        for name in dict.fromkeys([*automatic, *selection.exact, *links.names])
        if name in links.names and selection.takes(name, automatic)
    )


def with_default_route(links: Links) -> list[str]:
    """Interfaces with a default route, IPv4 first."""
    found: list[bytes] = []
    for line in links.routes_v4.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == b"00000000" and fields[7] == b"00000000" and _usable(int(fields[3], 16)):
            found.append(fields[0])
    for line in links.routes_v6.splitlines():
        fields = line.split()
        if len(fields) >= 10 and fields[0] == _DEFAULT_V6 and fields[1] == b"00" and _usable(int(fields[8], 16)):
            found.append(fields[9])
    return [name for name in dict.fromkeys(map(shown, found)) if name in links.names and name != "lo"]


def automatic() -> list[str]:
    """The interfaces of this machine with a default route, as they are now."""
    return with_default_route(Links.of_this_machine())


def _usable(flags: int) -> bool:
    return bool(flags & _ROUTE_UP) and not flags & _ROUTE_REJECT


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a kernel without IPv6
        return b""
