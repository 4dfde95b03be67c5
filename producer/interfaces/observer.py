"""What interfaces there are on this machine, in our namespace and in others, and when that changes."""

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from common import logs
from producer.interfaces import namespaces
from producer.interfaces.rtnetlink import Changes, Link, RouteSocket
from producer.interfaces.topology import Place, World

NAMESPACES_NS = 500_000_000  # between two looks at /run/netns

log = logs.get("producer")


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

    def links(self) -> list[Link]:
        """All interfaces now. Raises OSError."""

    def nsid(self, namespace_fd: int) -> int | None:
        """The number that this namespace has for another; None: it has none."""


class Machine(Protocol):
    """The network namespaces of a machine."""

    def named(self) -> Mapping[str, Identity]:
        """Those with a name, but our own."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    name: str  # empty: ours
    identity: Identity
    socket: Listening
    fd: int  # of the namespace

    @property
    def path(self) -> str | None:
        return f"/proc/{os.getpid()}/fd/{self.fd}" if self.name else None

    def close(self) -> None:
        self.socket.close()
        os.close(self.fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What has changed."""

    changed: bool  # look again
    unhooked: frozenset[Place]  # somebody removed a qdisc or a filter there


class Observer:
    """Sockets of all namespaces that are watched. A context manager."""

    def __init__(self, *, all_namespaces: bool, machine: Machine | None = None) -> None:
        """`all_namespaces`: those with a name, too. `machine`: None is this one. Raises OSError."""
        self._all, self._machine = all_namespaces, machine or ThisMachine()
        self._spaces = {0: self._open("", (0, 0))}
        self._next = 1
        self._looked_ns: int | None = None
        self._refused: set[tuple[str, Identity]] = set()

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
        return NAMESPACES_NS / 1e9 if self._all else math.inf

    def poll(self, now_ns: int) -> News:
        """What has happened since the last call. Does not wait."""
        changed = self._look_for_namespaces(now_ns)
        unhooked: set[Place] = set()
        for number, space in self._spaces.items():
            heard = space.socket.changes()
            changed |= heard.links | heard.routes | heard.lost
            unhooked |= {(number, ifindex) for ifindex in heard.unhooked}
            if heard.lost:
                unhooked |= {(number, link.ifindex) for link in _links(space)}
        return News(changed=changed, unhooked=frozenset(unhooked))

    def world(self) -> World:
        """All interfaces now."""
        found: dict[Place, Link] = {}
        for number, space in self._spaces.items():
            found |= {(number, link.ifindex): link for link in _links(space)}
        return World(links=found, namespaces=self._numbers())

    def name(self, place: Place, link: Link) -> str:
        """The interface's name as it is shown: NAMESPACE/INTERFACE outside of ours."""
        space = self._spaces[place[0]].name
        return f"{space}/{link.name}" if space else link.name

    def path(self, number: int) -> str | None:
        """A file that setns takes; None: our own namespace."""
        return self._spaces[number].path

    def _numbers(self) -> Mapping[tuple[int, int], int]:
        """See World.namespaces."""
        if len(self._spaces) == 1:
            return {}
        found = {}
        for number, space in self._spaces.items():
            for other, there in self._spaces.items():
                nsid = space.socket.nsid(there.fd) if other != number else None
                if nsid is not None:
                    found[number, nsid] = other
        return found

    def _look_for_namespaces(self, now_ns: int) -> bool:
        if not self._all or (self._looked_ns is not None and now_ns - self._looked_ns < NAMESPACES_NS):
            return False
        self._looked_ns = now_ns
        named = self._machine.named()
        known = {(space.name, space.identity): number for number, space in self._spaces.items() if number}
        self._refused &= set(named.items())
        gone = [number for key, number in known.items() if named.get(key[0]) != key[1]]
        for number in gone:
            self._spaces.pop(number).close()
        new = [item for item in named.items() if item not in known and item not in self._refused]
        for name, identity in new:
            try:
                self._spaces[self._next] = self._open(name, identity)
                self._next += 1
            except OSError as error:
                self._refused.add((name, identity))
                log.warning("cannot look into a network namespace", namespace=name, error=str(error))
        return bool(gone or new)

    def _open(self, name: str, identity: Identity) -> _Space:
        socket, fd = self._machine.open(name)
        return _Space(name=name, identity=identity, socket=socket, fd=fd)


def _links(space: _Space) -> list[Link]:
    with contextlib.suppress(OSError):
        return space.socket.links()
    return []
