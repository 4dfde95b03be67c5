"""Names of captures: the kernel program copies what may hold them, and they are on flows and in messages."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP

from common.settings import NamesSettings
from common.stopping import stop_on_signals
from producer.inspection.opening import OpenedNames
from producer.kafka.outbox import Message
from producer.replay.feed import Block, Feed
from producer.replay.program import ReplayProgram
from producer.replay.run import Pace, Replay
from schemas.avro.codec import Codec
from schemas.names import NameBatch
from schemas.packets import EGRESS, INGRESS, PacketBatch
from tests.kernel.name_frames import CLIENT, ETHER, SERVER, answer, four, query, syn, tcp
from tests.kernel.test_replay import save
from tests.unit.producer.names.making import client_hello, records

pytestmark = pytest.mark.root

CODEC = Codec()
Play = Callable[..., tuple[list[PacketBatch], list[NameBatch], Feed]]


@pytest.fixture(scope="module")
def inspecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayProgram]:
    with ReplayProgram(tmp_path_factory.mktemp("names") / "kernel.log", inspect=2048) as program:
        yield program


@pytest.fixture
def play(inspecting: ReplayProgram, tmp_path: Path) -> Play:
    """Frames as a capture -> batches of packets and of names, and what was counted."""

    def play(*frames: bytes) -> tuple[list[PacketBatch], list[NameBatch], Feed]:
        batches: list[PacketBatch] = []
        names: list[NameBatch] = []
        feed = Feed(inspecting, node="test", ring_id=1, names=OpenedNames(NamesSettings()).reading(0))

        def encode(batch: NameBatch) -> Message:
            return Message(topic="names", value=CODEC.encode_name_batch(batch))

        class Sink:
            def take(self, block: Block) -> None:
                batches.append(feed.batch(block).batch)
                names.extend(CODEC.decode_name_batch(message.value) for message in feed.names(encode, block))

            def idle(self, _seconds: float, _clock_ns: int) -> None:
                raise AssertionError

        with stop_on_signals(once=True) as stop:
            replay = Replay(feed=feed, sink=Sink(), pace=Pace(None), tell=lambda _: None, stop=stop)
            assert not replay.run([str(save(tmp_path / "a.pcap", *frames))])
        Sink().take(feed.end(2 * 10**18))
        feed.totals.check()
        return batches, names, feed

    return play


def domains(batches: list[PacketBatch]) -> dict[tuple[int, int], str]:
    """Of flows, by their ports."""
    return {
        (int(flows.src_port[i]), int(flows.dst_port[i])): batch.domains[place]
        for batch in batches
        for flows in (batch.flows,)
        for i, place in enumerate(flows.domain.tolist())
        if place >= 0
    }


def test_flows_have_the_names_that_clients_asked_for(play: Play) -> None:
    whole = records(client_hello(b"tls.example"))
    batches, names, feed = play(
        four(UDP(sport=5000, dport=53), query("www.example")),
        bytes(ETHER / IP(src=SERVER, dst=CLIENT) / UDP(sport=53, dport=5000) / answer("www.example")),
        bytes(ETHER / IP(src=CLIENT, dst="203.0.113.9") / TCP(sport=6000, dport=443, flags="S")),
        bytes(ETHER / IP(src="203.0.113.9", dst=CLIENT) / TCP(sport=443, dport=6000, flags="SA")),
        bytes(ETHER / IP(src="192.0.2.99", dst="203.0.113.9") / TCP(sport=7000, dport=443, flags="S")),
        syn(),
        tcp(whole[:90]),
        tcp(whole[90:], 90),
        tcp(b"GET / HTTP/1.1\r\nHost: http.example\r\n\r\n", sport=8000, dport=80),
    )
    assert domains(batches) == {
        (6000, 443): "www.example",
        (443, 6000): "www.example",
        (40_000, 9999): "tls.example",
        (8000, 80): "http.example",
    }
    rows = {
        batch.names[place]: int(copies)
        for batch in names
        for place, copies in zip(batch.name, batch.row_copies, strict=True)
    }
    assert rows == {"www.example": 2, "tls.example": 2, "http.example": 1}
    assert feed.totals.counted["inspected_packets"] == feed.totals.counted["copied_packets"] == 5


def test_copies_have_the_direction_of_their_packets(play: Play) -> None:
    """A capture that does not say: what the lower address sends is ingress."""
    batches, names, _ = play(
        four(UDP(sport=5000, dport=53), query()),
        bytes(ETHER / IP(src=SERVER, dst=CLIENT) / UDP(sport=53, dport=5000) / answer()),
    )
    copied = {row.direction: row.copied_packets for batch in batches for row in batch.counters if row.interface}
    assert copied == {INGRESS: 1, EGRESS: 1}
    assert [batch.direction.tolist() for batch in names] == [[EGRESS]]


def test_what_is_open_at_the_end_is_told(play: Play) -> None:
    _, names, _ = play(four(UDP(sport=5000, dport=53), query()), syn(), tcp(records(client_hello())[:100]))
    assert sorted(status for batch in names for status in batch.status.tolist()) == [0, 1]
    assert (names[-1].open_copies, sum(batch.copies for batch in names)) == (0, 2)


def test_names_of_thousands_of_packets_are_all_read(play: Play) -> None:
    one = four(UDP(sport=40_000, dport=53), query("n-----.example"))  # scapy would take a second for each two thousand
    _, names, feed = play(*(one.replace(b"-----", b"%05d" % number) for number in range(15_000)))
    found = {batch.names[place] for batch in names for place in batch.name.tolist()}
    assert found == {f"n{number:05}.example" for number in range(15_000)}
    assert feed.totals.counted["copied_packets"] == 15_000
    assert all(one.ring_end == other.ring_start for one, other in pairwise(names))
