"""What interfaces there are on this machine, in our namespace and in others, and when that changes."""

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common import logs
from producer.interfaces import namespaces
from producer.interfaces.rtnetlink import Changes, Link, RouteSocket
from producer.interfaces.topology import Place, World

NAMESPACES_NS = 500_000_000  # between two looks at /run/netns

log = logs.get("producer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    name: str  # empty: ours
    identity: tuple[int, int]
    socket: RouteSocket
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

    def __init__(self, *, all_namespaces: bool, directory: Path = namespaces.RUN_NETNS) -> None:
        """`all_namespaces`: those with a name, too. Raises OSError."""
        self._all, self._directory = all_namespaces, directory
        self._spaces = {0: _open("", namespaces.OWN, (0, 0))}
        self._next = 1
        self._looked_ns: int | None = None
        self._refused: set[tuple[str, tuple[int, int]]] = set()

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
            heard: Changes = space.socket.changes()
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

    def knows(self, number: int) -> bool:
        """Whether the namespace still has its name."""
        return number in self._spaces

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
        named = namespaces.named(self._directory)
        known = {(space.name, space.identity): number for number, space in self._spaces.items() if number}
        self._refused &= set(named.items())
        gone = [number for key, number in known.items() if named.get(key[0]) != key[1]]
        for number in gone:
            self._spaces.pop(number).close()
        new = [item for item in named.items() if item not in known and item not in self._refused]
        for name, identity in new:
            try:
                self._spaces[self._next] = _open(name, str(self._directory / name), identity)
                self._next += 1
            except OSError as error:
                self._refused.add((name, identity))
                log.warning("cannot look into a network namespace", namespace=name, error=str(error))
        return bool(gone or new)


def _open(name: str, path: str, identity: tuple[int, int]) -> _Space:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespaces.entered(path if name else None):
            return _Space(name=name, identity=identity, socket=RouteSocket(), fd=fd)
    except OSError:
        os.close(fd)
        raise


def _links(space: _Space) -> list[Link]:
    with contextlib.suppress(OSError):
        return space.socket.links()
    return []
