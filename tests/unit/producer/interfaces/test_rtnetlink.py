"""Messages of the kernel as octets, and what is read from them."""

import errno
import struct

import pytest

from producer.interfaces.rtnetlink import Changes, Link, LinkStats, Listing, RouteSocket
from producer.interfaces.testing import MemoryNetlink

NEWLINK, DELLINK, NEWROUTE, DELROUTE, DELQDISC, NEWTFILTER, DELTFILTER, NEWNSID = 16, 17, 24, 25, 37, 44, 45, 88
NEWQDISC, NEWSTATS = 36, 92
ERROR, DONE = 2, 3
INTERRUPTED = 0x10


def message(kind: int, body: bytes = b"", *, of: int = 1, flags: int = 0) -> bytes:
    """`of`: the number of the question."""
    octets = struct.pack("=IHHII", 16 + len(body), kind, flags, of, 0) + body
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


def test_devices_counters_are_read_by_ifindex(route: RouteSocket, ask: MemoryNetlink) -> None:
    def stats(ifindex: int, *attributes: bytes) -> bytes:
        return message(NEWSTATS, struct.pack("=BxxxII", 0, ifindex, 1) + b"".join(attributes))

    counted = attribute(1, struct.pack("=25Q", *range(10, 35)))
    ask.incoming.append(stats(3, attribute(2, b"other"), counted) + stats(4) + stats(5, attribute(1, b"short")))
    ask.incoming.append(message(DONE, number(0)))
    assert route.stats() == {3: LinkStats(rx_packets=10, tx_packets=11, rx_bytes=12, tx_bytes=13)}
    (asked,) = ask.sent
    assert struct.unpack("=IHH", asked[:8]) == (28, 94, 0x301)


@pytest.mark.parametrize(
    ("parents", "flags", "expected"),
    [
        ((), 0, False),
        ((0xFFFFFFFF, 0x10001), 0, False),  # at the root of what leaves, and below it
        ((0xFFFFFFFF, 0xFFFFFFF1), 0, True),  # clsact, or ingress
        ((0xFFFFFFFF,), INTERRUPTED, True),  # nobody knows
    ],
)
def test_where_there_may_be_filters(
    route: RouteSocket, ask: MemoryNetlink, parents: tuple[int, ...], flags: int, expected: bool
) -> None:
    qdiscs = (struct.pack("=BxxxiIII", 0, 2, 0, parent, 0) for parent in parents)
    ask.incoming.append(b"".join(message(NEWQDISC, each, flags=flags) for each in qdiscs) + message(DONE, number(0)))
    assert route.may_have_filters() is expected
    assert struct.unpack_from("=HH", ask.sent[0], 4) == (38, 0x301)


def test_nothing_has_happened(route: RouteSocket) -> None:
    heard = route.changes()
    assert heard == Changes()


@pytest.mark.parametrize(
    ("octets", "links", "routes", "unhooked"),
    [
        (message(NEWLINK), True, False, frozenset()),
        (message(DELLINK, link(6, 1, 0)), True, False, frozenset({6})),
        (message(NEWROUTE, bytes([2, 0, 0, 0])), False, True, frozenset()),
        (message(DELROUTE, bytes([10, 0, 0, 0])), False, True, frozenset()),
        (message(NEWROUTE, bytes([2, 24, 0, 0])), False, False, frozenset()),
        (message(DELQDISC, struct.pack("=BxxxiIII", 0, 7, 0, 0, 0)), False, False, frozenset({7})),
        (message(NEWTFILTER, struct.pack("=BxxxiIII", 0, 9, 0, 0, 0)), False, False, frozenset({9})),
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
    assert route.links() == Listing(
        links=(
            Link(ifindex=1, name="lo", type=772, loopback=True),
            Link(ifindex=3, name="eth0.5", type=1, loopback=False, kind="vlan", master=9, link=2, link_nsid=4),
        ),
        whole=True,
    )
    kind, flags = struct.unpack_from("=HH", ask.sent[0], 4)
    assert (kind, flags) == (18, 0x301)


def named(ifindex: int, name: bytes = b"eth0", **fields: int) -> bytes:
    return message(NEWLINK, link(ifindex, 1, 0, attribute(3, name + b"\0")), **fields)


def test_a_name_that_is_no_text_is_shown_all_the_same(route: RouteSocket, ask: MemoryNetlink) -> None:
    ask.incoming.append(named(2, b"bad\xff\x1b") + message(DONE))
    assert [each.name for each in route.links().links] == ["bad\\xff\\x1b"]


@pytest.mark.parametrize(
    "broken",
    [
        [named(2, flags=INTERRUPTED), message(DONE)],
        [named(2), message(DONE, flags=INTERRUPTED)],
        [named(2), message(DONE, number(-errno.EINTR))],
        [named(2), OSError(errno.ENOBUFS, "no room")],
    ],
)
def test_what_changed_while_it_was_listed_is_asked_for_again(
    route: RouteSocket, ask: MemoryNetlink, broken: list[bytes | OSError]
) -> None:
    late = [named(9), message(DONE)]  # of the question that was given up
    ask.incoming.extend([*broken, *late, named(2, of=2), named(3, of=2), message(DONE, number(0), of=2)])
    listing = route.links()
    assert ([each.ifindex for each in listing.links], listing.whole) == ([2, 3], True)
    assert [struct.unpack_from("=I", asked, 8) for asked in ask.sent] == [(1,), (2,)]


def test_what_always_changes_is_told_as_far_as_it_was_seen(route: RouteSocket, ask: MemoryNetlink) -> None:
    for question in range(1, 20):
        ask.incoming.append(named(1 + question, of=question, flags=INTERRUPTED) + message(DONE, of=question))
    listing = route.links()
    assert ([each.ifindex for each in listing.links], listing.whole) == ([2, 3, 4, 5, 6], False)


def test_a_kernel_that_does_not_answer_is_an_error(route: RouteSocket, ask: MemoryNetlink) -> None:
    ask.incoming.extend([named(2), TimeoutError("timed out")])
    with pytest.raises(OSError, match="timed out"):
        route.links()


def test_an_error_at_the_end_of_a_list_is_one(route: RouteSocket, ask: MemoryNetlink) -> None:
    ask.incoming.append(named(2) + message(DONE, number(-errno.ENOMEM)))
    with pytest.raises(OSError, match="memory"):
        route.links()


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
