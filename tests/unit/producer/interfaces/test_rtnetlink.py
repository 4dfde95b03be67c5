"""Messages of the kernel as octets, and what is read from them."""

import errno
import struct

import pytest

from producer.interfaces.rtnetlink import Changes, Link, RouteSocket
from producer.interfaces.testing import MemoryNetlink

NEWLINK, DELLINK, NEWROUTE, DELROUTE, DELQDISC, DELTFILTER, NEWNSID = 16, 17, 24, 25, 37, 45, 88
ERROR, DONE = 2, 3


def message(kind: int, body: bytes = b"") -> bytes:
    octets = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return octets + bytes(-len(octets) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    octets = struct.pack("=HH", 4 + len(value), kind) + value
    return octets + bytes(-len(octets) % 4)


def link(ifindex: int, kind: int, flags: int, *attributes: bytes) -> bytes:
    return struct.pack("=BxHiII", 0, kind, ifindex, flags, 0) + b"".join(attributes)


def number(value: int) -> bytes:
    return struct.pack("=i", value)


@pytest.fixture
def events() -> MemoryNetlink:
    return MemoryNetlink()


@pytest.fixture
def ask() -> MemoryNetlink:
    return MemoryNetlink()


@pytest.fixture
def route(events: MemoryNetlink, ask: MemoryNetlink) -> RouteSocket:
    return RouteSocket(events, ask)


def test_nothing_has_happened(route: RouteSocket) -> None:
    heard = route.changes()
    assert heard == Changes()


@pytest.mark.parametrize(
    ("octets", "links", "routes", "unhooked"),
    [
        (message(NEWLINK), True, False, frozenset()),
        (message(DELLINK), True, False, frozenset()),
        (message(NEWROUTE, bytes([2, 0, 0, 0])), False, True, frozenset()),
        (message(DELROUTE, bytes([10, 0, 0, 0])), False, True, frozenset()),
        (message(NEWROUTE, bytes([2, 24, 0, 0])), False, False, frozenset()),
        (message(DELQDISC, struct.pack("=BxxxiIII", 0, 7, 0, 0, 0)), False, False, frozenset({7})),
        (message(DELTFILTER, struct.pack("=BxxxiIII", 0, 8, 0, 0, 0)), False, False, frozenset({8})),
        (message(20, bytes(8)), False, False, frozenset()),
        (message(NEWLINK) + message(NEWROUTE, bytes(4)), True, True, frozenset()),
    ],
)
def test_what_is_heard_is_told(
    route: RouteSocket, events: MemoryNetlink, octets: bytes, links: bool, routes: bool, unhooked: frozenset[int]
) -> None:
    events.incoming.append(octets)
    heard = route.changes()
    assert (heard.links, heard.routes, heard.unhooked, heard.lost) == (links, routes, unhooked, False)


def test_messages_that_were_lost_are_told_and_those_behind_are_read(route: RouteSocket, events: MemoryNetlink) -> None:
    events.incoming.extend([OSError(errno.ENOBUFS, "no room"), message(NEWLINK)])
    heard = route.changes()
    assert heard.lost
    assert heard.links


def test_another_error_is_one(route: RouteSocket, events: MemoryNetlink) -> None:
    events.incoming.append(OSError(errno.EBADF, "closed"))
    with pytest.raises(OSError, match="closed"):
        route.changes()


def test_interfaces_are_read_with_what_they_stand_on(route: RouteSocket, ask: MemoryNetlink) -> None:
    vlan = link(
        3,
        1,
        0x1,
        attribute(3, b"eth0.5\0"),
        attribute(5, number(2)),
        attribute(10, number(9)),
        attribute(18, attribute(1, b"vlan\0") + attribute(2, b"\1\2\3")),
        attribute(37, number(4)),
        attribute(0x8000 | 26, bytes(5)),
    )
    ask.incoming.extend(
        [message(NEWLINK, link(1, 772, 0x8, attribute(3, b"lo\0"))), message(NEWLINK, vlan), message(DONE)]
    )
    assert route.links() == [
        Link(ifindex=1, name="lo", type=772, loopback=True),
        Link(ifindex=3, name="eth0.5", type=1, loopback=False, kind="vlan", master=9, link=2, link_nsid=4),
    ]
    kind, flags = struct.unpack_from("=HH", ask.sent[0], 4)
    assert (kind, flags) == (18, 0x301)


def test_a_refusal_is_an_error(route: RouteSocket, ask: MemoryNetlink) -> None:
    ask.incoming.append(message(ERROR, number(-errno.EPERM) + bytes(16)))
    with pytest.raises(PermissionError):
        route.links()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (message(NEWNSID, bytes(4) + attribute(1, number(7))), 7),
        (message(NEWNSID, bytes(4) + attribute(1, number(-1))), None),
        (message(NEWNSID, bytes(4)), None),
        (message(ERROR, number(-errno.EINVAL) + bytes(16)), None),
        (message(DONE), None),
    ],
)
def test_a_namespace_may_have_a_number_for_another(
    route: RouteSocket, ask: MemoryNetlink, answer: bytes, found: int | None
) -> None:
    ask.incoming.append(answer)
    assert route.nsid(11) == found
    assert struct.unpack("=I", ask.sent[0][-4:]) == (11,)


def test_closing_closes_both(route: RouteSocket, events: MemoryNetlink, ask: MemoryNetlink) -> None:
    assert route.fileno() == events.fileno()
    route.close()
    assert events.closed
    assert ask.closed
