"""Fakes of what following interfaces stands on: each obeys the Protocol that it names, and is the test's to move."""

import errno
import os
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from common.errors import AyaflowError
from producer.interfaces.attach.hook import ATTACHED, FAILED, KEPT, Hook, Outcome, Seen
from producer.interfaces.observer import News
from producer.interfaces.rtnetlink import Changes, Link, LinkStats, Listing
from producer.interfaces.topology import Place, World


class MemoryTables:
    """Obeys producer.interfaces.hooks.KernelTables."""

    def __init__(self) -> None:
        self.interfaces: dict[int, tuple[int, int, str]] = {}  # flags, namespace, name by slot
        self.watched: set[Place] = set()

    def set_interface(self, slot: int, flags: int, namespace: int, name: str) -> None:
        self.interfaces[slot] = (flags, namespace, name)

    def watch(self, place: Place) -> None:
        self.watched.add(place)

    def unwatch(self, place: Place) -> None:
        self.watched.remove(place)

    def places(self) -> set[Place]:
        return set(self.watched)


class MemoryObserver:
    """Obeys producer.interfaces.hooks.Observes."""

    looks_every = 0.5

    def __init__(self) -> None:
        self.links: dict[Place, Link] = {}
        self.spaces = {0: "", 1: "blue"}
        self.changed, self.unhooked = False, set[Place]()
        self.counted: dict[Place, LinkStats] = {}
        self.problems: dict[str, str] = {}
        self.closed = False

    def add(self, name: str, ifindex: int, *, namespace: int = 0, **fields: Any) -> Place:
        place = (namespace, ifindex)
        self.links[place] = Link(ifindex=ifindex, name=name, **({"type": 1, "loopback": False} | fields))
        self.changed = True
        return place

    def remove(self, place: Place) -> None:
        del self.links[place]
        self.changed = True

    def descriptors(self) -> tuple[int, ...]:
        return (7,)

    def poll(self, now_ns: int) -> News:
        news = News(changed=self.changed, unhooked=frozenset(self.unhooked))
        self.changed, self.unhooked = False, set()
        return news

    def world(self) -> World:
        return World(links=dict(self.links), namespaces={})

    def stats(self, numbers: Iterable[int]) -> dict[Place, LinkStats]:
        return {place: stats for place, stats in self.counted.items() if place[0] in numbers}

    def name(self, place: Place, link: Link) -> str:
        space = self.spaces[place[0]]
        return f"{space}/{link.name}" if space else link.name

    def path(self, number: int) -> str | None:
        return f"/run/netns/{self.spaces[number]}" if number else None

    def close(self) -> None:
        self.closed = True


class MemoryAttacher:
    """Obeys producer.interfaces.attach.attacher.Attacher.

    `becomes`: the state of a hook, by name, that is not attached. `lacks`: what one that is does not see. `before`: the
    programs that run before one. `attached`: the test removes hooks from it.
    """

    def __init__(self) -> None:
        self.lacks: dict[str, str] = {}
        self.before: dict[str, tuple[str, ...]] = {}
        self.looked: list[list[str]] = []
        self.released: list[int] = []
        self.becomes: dict[str, str] = {}
        self.attached: set[str] = set()
        self.asked: list[list[Hook]] = []
        self.kept: list[tuple[str, ...]] = []
        self.done, self.killed = True, False
        self.error: AyaflowError | None = None  # of what was begun
        self.refuses: AyaflowError | None = None  # to begin
        self.keeps: AyaflowError | None = None  # what is to be let go

    def attach(self, hooks: Iterable[Hook]) -> "MemoryAttaching":
        self.asked.append(list(hooks))
        if self.refuses is not None:
            raise self.refuses
        return MemoryAttaching(self, self.asked[-1])

    def look(self, hooks: Iterable[Hook]) -> dict[int, Seen]:
        hooks = list(hooks)
        self.looked.append([hook.name for hook in hooks])
        return {
            hook.slot: Seen(in_place=hook.name in self.attached, before=self.before.get(hook.name, ()))
            for hook in hooks
        }

    def release(self, slot: int) -> None:
        self.released.append(slot)

    def detach_others(self, keep: Collection[str]) -> None:
        if self.keeps is not None:
            raise self.keeps
        self.kept.append(tuple(keep))


@dataclass
class MemoryAttaching:
    """Obeys producer.interfaces.attach.attacher.Attaching."""

    attacher: MemoryAttacher
    hooks: list[Hook]

    def is_done(self) -> bool:
        return self.attacher.done

    def wait(self) -> list[Outcome]:
        if self.attacher.error is not None:
            raise self.attacher.error
        return [self._outcome(hook) for hook in self.hooks]

    def kill(self) -> None:
        self.attacher.killed = True

    def _outcome(self, hook: Hook) -> Outcome:
        attacher = self.attacher
        state = KEPT if hook.name in attacher.attached else attacher.becomes.get(hook.name, ATTACHED)
        if state == ATTACHED:
            attacher.attached.add(hook.name)
        error = f"cannot attach to {hook.name}" if state == FAILED else attacher.lacks.get(hook.name, "")
        return Outcome(slot=hook.slot, state=state, error=error)


@dataclass
class MemoryListening:
    """Obeys producer.interfaces.observer.Listening."""

    number: int  # instead of a descriptor
    found: list[Link] = field(default_factory=list)
    heard: Changes = field(default_factory=Changes)
    counted: dict[int, LinkStats] = field(default_factory=dict)  # by ifindex
    numbers: dict[int, int] = field(default_factory=dict)  # descriptor of a namespace -> our number for it
    error: OSError | None = None  # of listing and of hearing
    whole: bool = True  # what is found is all that there is
    asked: int = 0  # for a number
    closed: bool = False

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return self.number

    def changes(self) -> Changes:
        if self.error is not None:
            raise self.error
        heard, self.heard = self.heard, Changes()
        return heard

    def links(self) -> Listing:
        if self.error is not None:
            raise self.error
        return Listing(links=tuple(self.found), whole=self.whole)

    def stats(self) -> dict[int, LinkStats]:
        return self.counted

    def nsid(self, namespace_fd: int) -> int | None:
        self.asked += 1
        return self.numbers.get(namespace_fd)


class MemoryMachine:
    """Obeys producer.interfaces.observer.Machine. Descriptors of namespaces are those of an empty file."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[int, int]] = {}
        self.opened: dict[str, tuple[MemoryListening, int]] = {}
        self.refuses: set[str] = set()
        self.error: OSError | None = None  # of naming them

    def named(self) -> dict[str, tuple[int, int]]:
        if self.error is not None:
            raise self.error
        return dict(self.names)

    def open(self, name: str) -> tuple[MemoryListening, int]:
        if name in self.refuses:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.opened[name] = (MemoryListening(100 + len(self.opened)), os.open(os.devnull, os.O_RDONLY))
        return self.opened[name]


@dataclass
class MemoryNetlink:
    """Obeys producer.interfaces.rtnetlink.NetlinkSocket. `incoming`: what is received, or raised, next."""

    incoming: deque[bytes | OSError] = field(default_factory=deque)
    sent: list[bytes] = field(default_factory=list)
    closed: bool = False

    def fileno(self) -> int:
        return 5

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise BlockingIOError
        message = self.incoming.popleft()
        if isinstance(message, OSError):
            raise message
        return message

    def send(self, octets: bytes) -> int:
        self.sent.append(octets)
        return len(octets)

    def close(self) -> None:
        self.closed = True
