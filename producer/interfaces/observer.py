"""What interfaces there are on this machine, in our namespace and in others, and when that changes."""

import contextlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from producer.interfaces import namespaces
from producer.interfaces.names import shown, shown_in
from producer.interfaces.rtnetlink import Changes, Link, LinkStats, Listing, RouteSocket
from producer.interfaces.topology import Place, World

NAMESPACES_NS = 500_000_000  # between two looks at /run/netns
AGAIN_NS = 1_000_000_000  # after which interfaces are asked for again that could not be listed
REFUSED_NS = 10_000_000_000  # after which it is tried again to look into a namespace

Identity = tuple[int, int]
"""What tells one namespace from another of the same name."""


class Listening(Protocol):
    """What we use of rtnetlink.RouteSocket."""

    def close(self) -> None:
        """Stop listening."""

    def fileno(self) -> int:
        """Can be read when something has happened."""

    def changes(self) -> Changes:
        """What has happened since the last call. Does not wait."""

    def links(self) -> Listing:
        """All interfaces now. Raises OSError."""

    def stats(self) -> dict[int, LinkStats]:
        """What the devices have counted, by ifindex. Raises OSError."""

    def nsid(self, namespace_fd: int) -> int | None:
        """The number that this namespace has for another; None: it has none."""


class Machine(Protocol):
    """The network namespaces of a machine."""

    def named(self) -> Mapping[str, Identity]:
        """Those with a name, but our own. Raises OSError."""

    def open(self, name: str) -> tuple[Listening, int]:
        """Listen in one (empty: in ours), and a descriptor of it, for the caller to close. Raises OSError."""


class ThisMachine:
    """Machine, by /run/netns and setns."""

    def named(self) -> Mapping[str, Identity]:
        """See Machine."""
        return namespaces.named()

    def open(self, name: str) -> tuple[Listening, int]:
        """See Machine."""
        path = str(namespaces.RUN_NETNS / name) if name else namespaces.OWN
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with namespaces.entered(path if name else None):
                return RouteSocket.open(), fd
        except OSError:
            os.close(fd)
            raise


@dataclass(slots=True, kw_only=True)
class _Space:
    name: str  # empty: ours
    identity: Identity
    socket: Listening
    fd: int  # of the namespace
    links: Mapping[int, Link] = field(default_factory=dict)  # by ifindex, as far as they are known
    numbers: dict[int, int] = field(default_factory=dict)  # its number for another -> our number for that
    problem: str = ""  # why what is known of its interfaces may be old

    @property
    def path(self) -> str | None:
        return f"/proc/{os.getpid()}/fd/{self.fd}" if self.name else None

    @property
    def shown(self) -> str:
        return f"network namespace {shown(os.fsencode(self.name))}" if self.name else "this machine"

    def look(self) -> None:
        """See which interfaces there are. What is known stays when the kernel does not tell, or not all."""
        try:
            listing = self.socket.links()
        except OSError as error:
            self.problem = f"cannot list the interfaces of {self.shown}: {error.strerror or error}; trying again"
            return
        found = {link.ifindex: link for link in listing.links}
        self.links = found if listing.whole else {**self.links, **found}
        self.problem = "" if listing.whole else f"the interfaces of {self.shown} change too fast to be listed whole"

    def close(self) -> None:
        self.socket.close()
        os.close(self.fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    again_ns: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What has changed."""

    changed: bool  # look again
    unhooked: frozenset[Place]  # the hooks there may have gone


class Observer:
    """Sockets of all namespaces that are watched. A context manager."""

    def __init__(self, *, all_namespaces: bool, machine: Machine | None = None) -> None:
        """`all_namespaces`: those with a name, too. `machine`: None is this one. Raises OSError."""
        self._all, self._machine = all_namespaces, machine or ThisMachine()
        self._spaces = {0: self._open("", (0, 0))}
        self._next = 1
        self._looked_ns: int | None = None
        self._again_ns: int | None = None  # when interfaces are asked for again, though nothing was heard
        self._now_ns = 0  # of the last `poll`
        self._refused: dict[tuple[str, Identity], _Refused] = {}
        self._unlisted = ""  # why it is not known which namespaces there are

    def close(self) -> None:
        """Stop listening."""
        for space in self._spaces.values():
            space.close()
        self._spaces.clear()

    def descriptors(self) -> tuple[int, ...]:
        """Those that can be read when there are news."""
        return tuple(space.socket.fileno() for space in self._spaces.values())

    @property
    def looks_every(self) -> float:
        """Seconds between two looks at what no descriptor tells."""
        every = NAMESPACES_NS / 1e9 if self._all else math.inf
        return every if self._again_ns is None else min(every, AGAIN_NS / 1e9)

    @property
    def problems(self) -> Mapping[str, str]:
        """Of what we cannot see (all) interfaces, and why: sentences by what it is."""
        spaces = {space.shown: space.problem for space in self._spaces.values() if space.problem}
        if self._unlisted:
            spaces["*/*"] = self._unlisted
        return spaces | {f"{shown(os.fsencode(name))}/*": each.problem for (name, _), each in self._refused.items()}

    def poll(self, now_ns: int) -> News:
        """What has happened since the last call. Does not wait."""
        self._now_ns = now_ns
        changed = self._look_for_namespaces(now_ns)
        if self._again_ns is not None and now_ns >= self._again_ns:
            self._again_ns, changed = None, True
        unhooked: set[Place] = set()
        for number, space in self._spaces.items():
            try:
                heard = space.socket.changes()
            except OSError:  # what it was may come again, and `look` says so
                heard = Changes(lost=True)
            changed |= heard.links | heard.routes | heard.lost
            unhooked |= {(number, ifindex) for ifindex in heard.unhooked}
            if heard.lost:
                unhooked |= {(number, ifindex) for ifindex in space.links}
        return News(changed=changed, unhooked=frozenset(unhooked))

    def world(self) -> World:
        """All interfaces now, as far as the kernel tells: see `problems`."""
        found: dict[Place, Link] = {}
        for number, space in self._spaces.items():
            space.look()
            found |= {(number, ifindex): link for ifindex, link in space.links.items()}
        if any(space.problem for space in self._spaces.values()):
            self._again_ns = self._now_ns + AGAIN_NS
        return World(links=found, namespaces=self._numbers())

    def stats(self, numbers: Iterable[int]) -> dict[Place, LinkStats]:
        """What the devices of these namespaces have counted, as far as the kernel answers."""
        found: dict[Place, LinkStats] = {}
        for number in numbers:
            if number in self._spaces:
                with contextlib.suppress(OSError):
                    stats = self._spaces[number].socket.stats()
                    found |= {(number, ifindex): each for ifindex, each in stats.items()}
        return found

    def name(self, place: Place, link: Link) -> str:
        """The interface's name as it is shown: NAMESPACE/INTERFACE outside of ours."""
        space = self._spaces[place[0]].name
        return shown_in(os.fsencode(space), link.name) if space else link.name

    def path(self, number: int) -> str | None:
        """A file that setns takes; None: our own namespace."""
        return self._spaces[number].path

    def _numbers(self) -> Mapping[tuple[int, int], int]:
        """See World.namespaces. Asked for where an interface's other end is in a namespace that is not known yet."""
        found: dict[tuple[int, int], int] = {}
        for number, space in self._spaces.items():
            wanted = {link.link_nsid for link in space.links.values()} - {None, *space.numbers}
            for other, there in self._spaces.items() if wanted else ():
                nsid = space.socket.nsid(there.fd) if other != number else None
                if nsid is not None:
                    space.numbers[nsid] = other
            found |= {(number, nsid): other for nsid, other in space.numbers.items()}
        return found

    def _look_for_namespaces(self, now_ns: int) -> bool:
        if not self._all or (self._looked_ns is not None and now_ns - self._looked_ns < NAMESPACES_NS):
            return False
        self._looked_ns = now_ns
        before = self._unlisted, *self._refused
        try:
            named = self._machine.named()
        except OSError as error:  # what is known stays
            self._unlisted = f"cannot list {namespaces.RUN_NETNS}: {error.strerror or error}; trying again"
            return before != (self._unlisted, *self._refused)
        self._unlisted = ""
        known = {(space.name, space.identity): number for number, space in self._spaces.items() if number}
        self._refused = {key: each for key, each in self._refused.items() if named.get(key[0]) == key[1]}
        gone = [number for key, number in known.items() if named.get(key[0]) != key[1]]
        for number in gone:
            self._forget(number)
        new = [item for item in named.items() if item not in known and self._is_due(item, now_ns)]
        for name, identity in new:
            self._refused.pop((name, identity), None)
            try:
                self._spaces[self._next] = self._open(name, identity)
                self._next += 1
            except FileNotFoundError:  # it has gone
                continue
            except OSError as error:
                self._refused[name, identity] = _Refused(
                    again_ns=now_ns + REFUSED_NS,
                    problem=f"cannot look into the network namespace {shown(os.fsencode(name))}: "
                    f"{error.strerror or error}; run as root, or set capture.namespaces to false",
                )
        return bool(gone or new) or before != (self._unlisted, *self._refused)

    def _is_due(self, key: tuple[str, Identity], now_ns: int) -> bool:
        refused = self._refused.get(key)
        return refused is None or now_ns >= refused.again_ns

    def _forget(self, number: int) -> None:
        self._spaces.pop(number).close()
        for space in self._spaces.values():  # another namespace may get its number
            space.numbers = {nsid: other for nsid, other in space.numbers.items() if other != number}

    def _open(self, name: str, identity: Identity) -> _Space:
        socket, fd = self._machine.open(name)
        return _Space(name=name, identity=identity, socket=socket, fd=fd)
