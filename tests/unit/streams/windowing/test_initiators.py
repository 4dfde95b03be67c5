from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import from_text
from streams.windowing import services
from streams.windowing.initiators import End, Initiators, StoredConnections, by_rule, identities

Side = tuple[str, int]
A, B = "10.0.0.1", "10.0.0.2"


def end(*sides: Side) -> End:
    addresses = from_text([address for address, _ in sides])
    return End.of(addresses, np.array([port for _, port in sides], np.uint16))


def began(*sides: Side) -> Side:
    """Of two."""
    a, b = sides
    (first,), (second,) = by_rule(end(a), end(b)), by_rule(end(b), end(a))
    assert bool(first) != bool(second)
    return a if first else b


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (40000, 443),
        (775, 2049),  # NFS from a privileged port
        (993, 2049),  # that IMAP has
        (1023, 111),
        (1022, 513),
        (721, 515),
        (68, 67),
        (546, 547),
        (8080, 443),  # a client that may take any port above 1023
        (2049, 443),
        (50000, 775),  # a service that took a privileged port
        (700, 3306),
        (12345, 51820),
        (40000, 50051),
        (51820, 5432),
        (40000, 12345),
        (61000, 27017),
    ],
)
def test_the_port_that_is_less_a_services_is_the_clients(client: int, server: int) -> None:
    for here, there in ((A, B), (B, A)):
        assert began((here, client), (there, server)) == (here, client)


@pytest.mark.parametrize("ports", [(40000, 50000), (50000, 40000), (5, 5), (0, 0), (53, 123), (20, 775)])
def test_between_ports_alike_the_lower_address_began(ports: tuple[int, int]) -> None:
    assert began((A, ports[0]), (B, ports[1])) == (A, ports[0])
    assert began(("9.255.0.1", ports[0]), (A, ports[1])) == ("9.255.0.1", ports[0])
    assert began(("fd00::2", ports[0]), ("fd00::100", ports[1])) == ("fd00::2", ports[0])


def test_of_one_address_the_lower_port_began() -> None:
    assert began(("::1", 50000), ("::1", 40000)) == ("::1", 40000)


@pytest.mark.parametrize("group", ["224.0.0.251", "239.1.2.3", "255.255.255.255", "ff02::fb"])
def test_nobody_is_asked_by_a_multicast_or_broadcast_address(group: str) -> None:
    for sender in ("10.0.0.1", "fe80::1", "2001:db8::1", "255.255.255.254"):
        assert began((sender, 5004), (group, 40000)) == (sender, 5004)


@pytest.mark.parametrize("address", ["223.255.255.255", "240.0.0.1", "254.0.0.1", "fe80::1", "::", "::e000:1"])
def test_other_addresses_may_begin(address: str) -> None:
    assert began((address, 40000), (A, 443)) == (address, 40000)


ends = st.tuples(
    st.sampled_from([A, B, "224.0.0.1", "255.255.255.255", "ff02::1", "2001:db8::1", "::"]), st.integers(0, 65535)
)


@given(ends, ends)
def test_the_rule_says_the_same_both_ways(one: Side, other: Side) -> None:
    if one != other:
        began(one, other)


def test_each_table_of_services_ascends_and_is_in_its_range() -> None:
    for table, low, high in (
        (services._WELL_KNOWN, 1, 511),
        (services._ASKED_BY_ROOT, 512, 32767),
        (services._SYSTEM, 512, 1023),
        (services._USER, 1024, 32767),
        (services._HIGH, 32768, 65535),
    ):
        ports = services._ports(table)
        assert ports == sorted(set(ports))
        assert low <= ports[0] <= ports[-1] <= high
    sizes = np.bincount(services.RANKS, minlength=8).tolist()
    assert sum(sizes) == 65536
    assert min(sizes) > 0


def connections(*pairs: tuple[Side, Side], window: int = 10, node: str = "n1", protocol: int = 6) -> StoredConnections:
    """Rows from the first side to the second."""
    src, dst = zip(*pairs, strict=True)
    return StoredConnections(
        node_names=("n0", node),
        node=np.full(len(pairs), 1, np.int32),
        protocol=np.full(len(pairs), protocol, np.uint8),
        src_addr=from_text([address for address, _ in src]),
        dst_addr=from_text([address for address, _ in dst]),
        src_port=np.array([port for _, port in src], np.uint16),
        dst_port=np.array([port for _, port in dst], np.uint16),
        window_begin=np.full(len(pairs), window, np.uint32),
    )


def turned(initiators: Initiators, *pair: Side, node: str = "n1") -> bool:
    one, other = (
        bool(initiators.turned(identities((node,), np.zeros(1, np.int32), end(a), end(b)))[0])
        for a, b in (pair, pair[::-1])
    )
    assert one == other
    return one


RULE = ((A, 40000), (B, 443))
AGAINST = ((B, 443), (A, 40000))


def test_only_connections_against_the_rule_are_remembered() -> None:
    initiators = Initiators()
    initiators.learn(connections(RULE, ((A, 1), (B, 1))))
    assert len(initiators) == 0
    initiators.learn(connections(RULE, ((B, 1), (A, 1)), ((B, 22), (A, 50000))))
    assert len(initiators) == 2
    assert turned(initiators, (A, 1), (B, 1))
    assert turned(initiators, (A, 50000), (B, 22))
    assert not turned(initiators, *RULE)
    assert not turned(initiators, (A, 22), (B, 50000))
    assert not turned(initiators, (A, 50000), (B, 22), node="n2")


def test_what_is_not_tcp_shows_no_beginning_and_is_not_remembered() -> None:
    initiators = Initiators()
    initiators.learn(connections(AGAINST, protocol=17))
    assert len(initiators) == 0


def test_the_newest_window_counts_and_of_one_window_what_comes_later() -> None:
    initiators = Initiators()
    initiators.learn(connections(AGAINST, window=20))
    initiators.learn(connections(RULE, window=10))  # a correction of an old window
    assert turned(initiators, *RULE)
    initiators.learn(connections(RULE, window=20))
    assert not turned(initiators, *RULE)
    initiators.learn(connections(AGAINST, AGAINST, window=30))
    assert (len(initiators), turned(initiators, *RULE)) == (1, True)
    mixed = connections(RULE, AGAINST, RULE)
    for known in (initiators, Initiators()):
        known.learn(replace(mixed, window_begin=np.array([50, 60, 40], np.uint32)))
        assert turned(known, *RULE)
        known.learn(replace(mixed, window_begin=np.array([80, 70, 70], np.uint32)))
        assert len(known) == 0
    fresh = Initiators()
    fresh.learn(replace(mixed, window_begin=np.array([80, 70, 70], np.uint32)))
    assert len(fresh) == 0


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    initiators = Initiators(most=100)
    for window in range(50):
        initiators.learn(connections(*(((B, 443), (A, 40000 + window * 10 + n)) for n in range(10)), window=window))
        initiators.learn(connections(AGAINST, window=window))  # lives, and is seen in each
    assert len(initiators) == 100
    assert turned(initiators, *RULE)
    assert turned(initiators, (A, 40495), (B, 443))
    assert not turned(initiators, (A, 40001), (B, 443))


def test_a_flood_of_syns_does_not_push_out_a_connection_that_lives() -> None:
    initiators = Initiators(most=100)
    for window in range(0, 60, 10):
        initiators.learn(connections(AGAINST, window=window))
    for window in range(60, 100, 10):
        initiators.learn(connections(*(((B, 443), (A, 40001 + window * 10 + n)) for n in range(200)), window=window))
        assert len(initiators) == 100
        assert turned(initiators, *RULE)
    for window in range(100, 120, 10):  # it was silent for longer than it lived
        initiators.learn(connections(*(((B, 443), (A, 40001 + window * 10 + n)) for n in range(200)), window=window))
    assert not turned(initiators, *RULE)


def test_a_copy_learns_by_itself() -> None:
    first = Initiators()
    first.learn(connections(AGAINST))
    second = first.copy()
    second.learn(connections(RULE))
    assert (turned(first, *RULE), turned(second, *RULE)) == (True, False)
