"""The few rtnetlink messages that the steady process reads, by a plain socket: pyroute2 would bring 20 MB into it."""

import contextlib
import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from producer.interfaces.names import shown

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWROUTE, _DELROUTE = 24, 25
_NEWQDISC, _DELQDISC, _GETQDISC, _NEWTFILTER, _DELTFILTER = 36, 37, 38, 44, 45
_NEWNSID, _GETNSID = 88, 90
_NEWSTATS, _GETSTATS = 92, 94
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP, _DUMP_INTR = 0x01, 0x300, 0x10
_TRIES = 5  # of a question, when what is asked for changes while it is answered
_SECONDS = 5.0  # for an answer
_GROUPS = (1, 4, 7, 11)  # link, tc, IPv4 and IPv6 routes
_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_LINK_NETNSID, _IFLA_INFO_KIND = 3, 5, 10, 18, 37, 1
_NETNSA_NSID, _NETNSA_FD = 1, 3
_IFF_LOOPBACK = 0x8
_BUFFER = 1 << 20
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_TC = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_TC_H_INGRESS = 0xFFFFFFF1  # the parent of a qdisc that has hooks: clsact or ingress
_STATS = struct.Struct("=BxxxII")  # family, ifindex, which statistics
_STATS_LINK_64 = 1
_PASSED = struct.Struct("=4Q")  # the first of struct rtnl_link_stats64: received and sent packets, then bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface, as the kernel describes it."""

    ifindex: int
    name: str  # as it is shown
    type: int  # ARPHRD_…
    loopback: bool
    kind: str = ""  # veth, bridge, vlan, …; empty for hardware
    master: int = 0  # ifindex of the bridge or bond that it is a port of
    link: int = 0  # ifindex of what it stands on, or of a veth's other end
    link_nsid: int | None = None  # that one is in another namespace, by our namespace's number for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Interfaces, as the kernel lists them."""

    links: tuple[Link, ...]
    whole: bool  # all that there are; else interfaces changed each time that it was asked for: some may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStats:
    """What a device has counted."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int


@dataclass(slots=True)
class Changes:
    """What was heard since the last time."""

    links: bool = False  # interfaces came, went or changed
    routes: bool = False  # a default route came or went
    unhooked: frozenset[int] = frozenset()  # ifindexes whose hooks may have gone, or have another in their place
    lost: bool = False  # messages were: anything may have changed


class NetlinkSocket(Protocol):
    """What we use of a socket."""

    def fileno(self) -> int:
        """Can be read when there is a message."""

    def recv(self, size: int) -> bytes:
        """The next messages. Raises OSError; BlockingIOError when it does not wait and there is none."""

    def send(self, octets: bytes) -> int:
        """Send a message. Raises OSError."""

    def close(self) -> None:
        """Give the descriptor back."""


class RouteSocket:
    """Listens in the network namespace in which it was opened, also from elsewhere."""

    def __init__(self, events: NetlinkSocket, ask: NetlinkSocket) -> None:
        """`events`: one that does not wait, of the groups that tell of changes. `ask`: for questions."""
        self._events, self._ask, self._numbers = events, ask, itertools.count(1)

    @classmethod
    def open(cls) -> "RouteSocket":
        """In the network namespace of this thread. Raises OSError."""
        return cls.of(*sockets())

    @classmethod
    def of(cls, events: socket.socket, ask: socket.socket) -> "RouteSocket":
        """What `sockets` has opened, here or in another process."""
        events.setblocking(False)
        ask.settimeout(_SECONDS)
        return cls(events, ask)

    def close(self) -> None:
        """Stop listening."""
        self._events.close()
        self._ask.close()

    def fileno(self) -> int:
        """Can be read when something has happened."""
        return self._events.fileno()

    def changes(self) -> Changes:
        """What has happened since the last call. Does not wait."""
        found = Changes()
        while True:
            try:
                octets = self._events.recv(_BUFFER)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.lost = True
                continue
            for message in _messages(octets):
                kind, body = message.kind, message.body
                if kind in {_NEWLINK, _DELLINK}:
                    found.links = True
                    if kind == _DELLINK:  # another may be there already, with the same name and ifindex
                        found.unhooked |= {_LINK.unpack_from(body)[2]}
                elif kind in {_NEWROUTE, _DELROUTE}:
                    found.routes |= body[1] == 0  # length of the destination's prefix
                elif kind in {_DELQDISC, _NEWTFILTER, _DELTFILTER}:
                    found.unhooked |= {_TC.unpack_from(body)[1]}

    def links(self) -> Listing:
        """All interfaces now. Raises OSError."""
        found: dict[int, Link] = {}
        for _ in range(_TRIES):
            answers, whole = self._request(_GETLINK, _LINK.pack(0, 0, 0, 0, 0), _DUMP)
            links = [_link(body) for kind, body in answers if kind == _NEWLINK]
            if whole:
                return Listing(links=tuple(links), whole=True)
            found |= {link.ifindex: link for link in links}
        return Listing(links=tuple(found.values()), whole=False)

    def stats(self) -> dict[int, LinkStats]:
        """Of all interfaces, by ifindex, as far as the kernel answers. Raises OSError."""
        asked = _STATS.pack(0, 0, 1 << (_STATS_LINK_64 - 1))
        found = {}
        for kind, body in self._request(_GETSTATS, asked, _DUMP)[0]:
            values = dict(_attributes(body[_STATS.size :])).get(_STATS_LINK_64, b"")
            if kind == _NEWSTATS and len(values) >= _PASSED.size:
                received, sent, received_bytes, sent_bytes = _PASSED.unpack_from(values)
                found[_STATS.unpack_from(body)[1]] = LinkStats(
                    rx_packets=received, tx_packets=sent, rx_bytes=received_bytes, tx_bytes=sent_bytes
                )
        return found

    def may_have_filters(self) -> bool:
        """Whether an interface has a qdisc with hooks, without which there is no filter. Raises OSError."""
        answers, whole = self._request(_GETQDISC, _TC.pack(0, 0, 0, 0, 0), _DUMP)
        parents = {_TC.unpack_from(body)[3] for kind, body in answers if kind == _NEWQDISC}
        return _TC_H_INGRESS in parents or not whole

    def nsid(self, namespace_fd: int) -> int | None:
        """The number that this namespace has for another; None: it has none."""
        attribute = struct.pack("=BxxxHHI", 0, 8, _NETNSA_FD, namespace_fd)
        with contextlib.suppress(OSError):
            for kind, body in self._request(_GETNSID, attribute, 0)[0]:
                if kind == _NEWNSID:
                    number = dict(_attributes(body[4:])).get(_NETNSA_NSID)
                    value: int = struct.unpack("=i", number)[0] if number else -1
                    return value if value >= 0 else None
        return None

    def _request(self, kind: int, body: bytes, flags: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Messages of the answer, and whether they are all: nothing changed meanwhile, and none was lost."""
        number, found, whole = next(self._numbers) & 0xFFFFFFFF, list[tuple[int, bytes]](), True
        self._ask.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, number, 0) + body)
        while True:
            try:
                octets = self._ask.recv(_BUFFER)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return found, False  # what is left of the answer is passed over by its number
            for message in _messages(octets):
                if message.number != number:  # of a question that was given up
                    continue
                whole &= not message.flags & _DUMP_INTR
                if message.kind in {_ERROR, _DONE}:
                    code: int = -struct.unpack_from("=i", message.body)[0] if len(message.body) >= 4 else 0
                    if code == errno.EINTR:
                        return found, False
                    if code > 0:
                        raise OSError(code, os.strerror(code))
                    return found, whole
                found.append((message.kind, message.body))
                if not flags:
                    return found, whole


@dataclass(frozen=True, slots=True)
class _Message:
    kind: int
    flags: int
    number: int  # of the question
    body: bytes


def sockets() -> tuple[socket.socket, socket.socket]:
    """For what happens, and for questions, in the network namespace of this thread. Raises OSError."""
    events = _socket(sum(1 << (group - 1) for group in _GROUPS))
    try:
        return events, _socket(0)
    except OSError:
        events.close()
        raise


def _socket(groups: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, groups))
    return opened


def _messages(octets: bytes) -> Iterator[_Message]:
    offset = 0
    while offset + _HEADER.size <= len(octets):
        size, kind, flags, number, _ = _HEADER.unpack_from(octets, offset)
        yield _Message(kind, flags, number, octets[offset + _HEADER.size : offset + size])
        offset += (max(size, _HEADER.size) + 3) & ~3


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(octets):
        size, kind = struct.unpack_from("=HH", octets, offset)
        yield kind & 0x3FFF, octets[offset + 4 : offset + size]
        offset += (max(size, 4) + 3) & ~3


def _link(body: bytes) -> Link:
    _, kind, ifindex, flags, _ = _LINK.unpack_from(body)
    found = dict(_attributes(body[_LINK.size :]))
    info = dict(_attributes(found.get(_IFLA_LINKINFO, b"")))
    nsid = found.get(_IFLA_LINK_NETNSID)
    return Link(
        ifindex=ifindex,
        name=shown(found.get(_IFLA_IFNAME, b"").rstrip(b"\0")),
        type=kind,
        loopback=bool(flags & _IFF_LOOPBACK),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        master=_number(found.get(_IFLA_MASTER)),
        link=_number(found.get(_IFLA_LINK)),
        link_nsid=_number(nsid) if nsid else None,
    )


def _text(octets: bytes) -> str:
    return octets.rstrip(b"\0").decode("utf-8", "replace")


def _number(octets: bytes | None) -> int:
    return int(struct.unpack("=i", octets)[0]) if octets else 0
