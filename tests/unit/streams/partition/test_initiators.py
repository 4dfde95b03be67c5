"""One src for the life of a connection: over windows, corrections, restarts; and in the live view beside them."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from schemas.addresses import to_text
from schemas.flows import FlowColumns
from schemas.packets import PacketBatch
from streams.live.feed import LiveFeed
from streams.partition.state import Partition
from streams.partition.storing import store_window
from streams.testing import MemoryStore
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch

START = 1_800_000_000
WINDOW = 10
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10

Side = tuple[str, int]


@dataclass
class Streams:
    """A partition, its live view, and the table."""

    table: MemoryStore = field(default_factory=MemoryStore)
    log: list[tuple[PacketBatch, float]] = field(default_factory=list)  # what Kafka has, and when it came
    sent: int = 0  # events
    now: float = START

    def __post_init__(self) -> None:
        self.feed = LiveFeed(1000)
        self.open(0)
        self.take([], clock=0)

    def open(self, offset: int) -> None:
        """As a worker does, be it the first or another one, from a message on."""
        self.state = Partition(0, position=offset, window_seconds=WINDOW, node_timeout_seconds=1e9)
        for rows in self.table.turned(self.state.source, WINDOW):
            self.state.initiators.learn(rows)
        self.read()

    def read(self) -> None:
        for made, now in self.log[self.state.position :]:
            self.feed.add(self.state, made, self.state.take(self.state.position, made, now), now)

    def take(self, packets: Sequence[Packet], clock: float) -> None:
        """Packets of a node that has seen all up to `clock`, seconds after START."""
        self.now = START + clock
        made = batch(list(packets), clock_ns=int(self.now * SECOND), ring_start=self.sent * STRIDE)
        self.sent += len(packets)
        self.log.append((made, self.now))
        self.read()

    def store(self, seconds: float = 0) -> None:
        """Write what is due so many seconds later."""
        for job in self.state.due(self.now + seconds):
            self.state.stored(job, store_window(job, self.table).known)

    def live(self) -> set[tuple[Side, Side]]:
        """What the live view shows: initiator and responder."""
        return {
            ((row["src_addr"], row["src_port"]), (row["dst_addr"], row["dst_port"]))
            for summary in self.feed.due({0: 0}, self.now)
            for row in summary()["top"]
        }

    def stored(self) -> list[tuple[int, Side, Side]]:
        """Start of the window after START, initiator, responder."""
        return [each for _, flows in self.table.blocks.values() for each in _ends(flows)]


def _ends(flows: FlowColumns) -> list[tuple[int, Side, Side]]:
    src, dst = to_text(flows.src_addr), to_text(flows.dst_addr)
    return [
        (flows.window_begin - START, (src[n], int(flows.src_port[n])), (dst[n], int(flows.dst_port[n])))
        for n in range(len(flows))
    ]


def packet(second: float, src: Side, dst: Side, **fields: object) -> Packet:
    made = Packet(time_ns=int((START + second) * SECOND), src=src[0], dst=dst[0], src_port=src[1], dst_port=dst[1])
    return replace(made, **{"tcp_flags": ACK, "direction": int(src > dst), **fields})  # type: ignore[arg-type]


def both(second: float, client: Side, server: Side, **fields: object) -> list[Packet]:
    """A packet each way, the server's first."""
    return [packet(second, server, client, **fields), packet(second + 0.1, client, server, **fields)]


CONNECTIONS = [
    (("10.0.0.1", 775), ("10.0.0.2", 2049)),
    (("10.0.0.9", 775), ("10.0.0.2", 2049)),
    (("10.0.0.1", 40000), ("10.0.0.2", 50000)),
    (("10.0.0.2", 40000), ("10.0.0.1", 50000)),
    (("10.0.0.9", 22), ("10.0.0.1", 50022)),
    (("2001:db8::9", 443), ("2001:db8::1", 443)),
]


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("begins", [True, False])
def test_a_connection_has_one_source_in_all_its_windows(connection: tuple[Side, Side], begins: bool) -> None:
    streams = Streams()
    shown = list[set[tuple[Side, Side]]]()
    for window in range(6):
        begin = [packet(1, *connection, tcp_flags=SYN)] if begins and window == 0 else []
        streams.take(begin + both(window * WINDOW + 2, *connection), clock=window * WINDOW + 5)
        shown.append(streams.live())
        streams.take([], clock=(window + 1) * WINDOW)
        if window != 3:  # of the fourth and fifth the table hears together
            streams.store()
    ends = [(src, dst) for _, src, dst in streams.stored()]
    assert len(ends) == 6
    assert len(set(ends)) == 1
    assert shown == [{ends[0]}] * 6
    if begins:
        assert ends[0] == connection


def test_while_nothing_can_be_stored_the_live_view_knows_who_began() -> None:
    streams, connection = Streams(), (("10.0.0.9", 22), ("10.0.0.1", 50022))
    for window in range(5):
        begin = [packet(1, *connection, tcp_flags=SYN)] if window == 0 else []
        streams.take(begin + both(window * WINDOW + 2, *connection), clock=window * WINDOW + 5)
        assert streams.live() == {connection}


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("open_window", [True, False])
def test_whoever_has_the_partition_next_knows_who_began(connection: tuple[Side, Side], open_window: bool) -> None:
    streams, shown = Streams(), set[tuple[Side, Side]]()
    for window in range(6):
        begin = [packet(1, *connection, tcp_flags=SYN)] if window == 0 else []
        streams.take(begin + both(window * WINDOW + 2, *connection), clock=window * WINDOW + 5)
        if open_window:
            streams.open(streams.state.committable(streams.now))
            streams.take([], clock=window * WINDOW + 6)
        shown |= streams.live()
        streams.take([], clock=(window + 1) * WINDOW)
        streams.store()
        if not open_window:
            streams.open(streams.state.committable(streams.now))
    assert sorted(streams.stored()) == [(window * WINDOW, *connection) for window in range(6)]
    assert shown == {connection}


def test_late_packets_have_the_source_of_their_connection() -> None:
    streams, connection = Streams(), (("10.0.0.9", 22), ("10.0.0.1", 50022))
    streams.take([packet(1, *connection, tcp_flags=SYN)], clock=30)
    streams.store()
    streams.take(both(2, *connection) + both(12, *connection), clock=31)
    streams.store(seconds=5)
    assert sorted(streams.stored()) == [(0, *connection), (0, *connection), (10, *connection)]


def test_a_syn_from_the_other_side_is_another_connection() -> None:
    a, b = ("10.0.0.1", 40000), ("10.0.0.2", 50000)
    streams = Streams()
    began = [(a, b), (a, b), (b, a), (b, a), (a, b), (a, b)]
    for window, (client, server) in enumerate(began):
        begin = [packet(window * WINDOW + 1, client, server, tcp_flags=SYN)] if window % 2 == 0 else []
        streams.take(begin + both(window * WINDOW + 2, a, b), clock=(window + 1) * WINDOW)
        streams.store()
    assert streams.stored() == [(n * WINDOW, *ends) for n, ends in enumerate(began)]


PLACES: list[dict[str, object]] = [
    {},
    {"interface": "eth1", "primary": 0},
    {"vlan_id": 5},
    {"tunnel_type": 1, "tunnel_id": 7, "outer_src": "10.9.0.1", "outer_dst": "10.9.0.2"},
]


class Network:
    """Connections that are there already or begin later, pause, and are seen at several places."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        ports = [22, 53, 443, 775, 2049, 5000, 40000, 50000, 60000]
        addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "2001:db8::2"]
        sides = [[(each, self.random.choice(ports)) for each in self.random.sample(addresses, 2)] for _ in range(60)]
        self.clients = {frozenset(each): each[0] for each in sides}
        self.begins = {ends: self.random.choice([-1, 0, 3, 5]) for ends in self.clients}

    def window(self, number: int) -> list[Packet]:
        """All its packets."""
        packets = list[Packet]()
        for ends, client in self.clients.items():
            (server,) = ends - {client}
            at = number * WINDOW + self.random.random() * 5
            if number == self.begins[ends]:
                packets.append(packet(at, client, server, tcp_flags=SYN))
            elif number < self.begins[ends] or self.random.random() < 0.3:
                continue
            for place in self.random.sample(PLACES, self.random.randrange(1, 4)):
                packets += self.random.sample(both(at + 1, client, server, **place), self.random.randrange(1, 3))
        self.random.shuffle(packets)
        return packets


@pytest.mark.parametrize("seed", range(5))
def test_over_many_windows_sources_stay_and_totals_are_exact(seed: int) -> None:
    """A tenth of the packets comes a window late, no SYN does: a stored row is not changed. Workers restart."""
    network, streams = Network(seed), Streams()
    sent, late = list[Packet](), list[Packet]()
    for window in range(10):
        made = network.window(window)
        sent += made
        tardy = [each for each in made if each.tcp_flags != SYN and network.random.random() < 0.1]
        streams.take(late + [each for each in made if each not in tardy], clock=(window + 1) * WINDOW)
        streams.store(seconds=network.random.choice([0, 5]))
        late = tardy
        if network.random.random() < 0.3:
            streams.open(streams.state.committable(streams.now))
    streams.take(late, clock=101)
    streams.store(seconds=100)
    sources = defaultdict[frozenset[Side], set[Side]](set)
    for _, src, dst in streams.stored():
        sources[frozenset([src, dst])].add(src)
    for ends, found in sources.items():
        assert len(found) == 1
        if network.begins[ends] >= 0:
            assert found == {network.clients[ends]}
    assert _directed(streams.table) == Counter(
        ((each.src, each.src_port), (each.dst, each.dst_port), each.time_ns // SECOND // WINDOW * WINDOW - START)
        for each in sent
    )


def _directed(table: MemoryStore) -> Counter[tuple[Side, Side, int]]:
    """Packets by sender, receiver and window."""
    sums = Counter[tuple[Side, Side, int]]()
    for _, flows in table.blocks.values():
        for n, (start, src, dst) in enumerate(_ends(flows)):
            sums[src, dst, start] += int(flows.packets[n])
            sums[dst, src, start] += int(flows.packets_rev[n])
    return +sums
