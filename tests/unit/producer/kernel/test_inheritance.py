"""A producer that is killed at any moment, and the one that comes after it: every packet is in Kafka, and what stands
there twice can be told by its place.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.capture.testing import Killed
from schemas.packets import PacketBatch
from tests.unit.producer.node import CODEC, Node

PLACES = ("before open", "after open", "counters", "flows", "zero", "clear")


class Read:
    """What a consumer knows that drops what it has seen, by ring position and by number."""

    def __init__(self) -> None:
        self.position = self.coalesced = self.epoch = 0
        self.packets: Counter[Any] = Counter()  # by epoch
        self.counted: dict[Any, int] = {}
        self.repeated = 0

    def take(self, batches: Iterable[PacketBatch]) -> None:
        for batch in batches:
            if batch.coalesced:
                begin = max(0, self.coalesced - batch.coalesced_start)
                assert batch.coalesced_start <= self.coalesced, "entries are missing"
                self.coalesced = max(self.coalesced, batch.coalesced_end)
            else:
                assert batch.coalesced_end <= self.coalesced, "it says that entries were sent which have not come"
                begin = max(0, self.position - batch.ring_start) // 80
                assert batch.ring_start <= self.position, "events are missing"
                self.position = max(self.position, batch.ring_end)
            self.repeated += min(begin, len(batch))
            for flow, packets in zip(batch.flow[begin:], batch.packets[begin:], strict=True):
                epoch = int(batch.flows.epoch[flow])
                assert epoch > self.epoch, "a packet of an epoch whose counters have come"
                self.packets[epoch, int(batch.flows.direction[flow])] += int(packets)
            for row in batch.counters:
                if row.epoch > self.epoch:
                    self.counted[row.epoch, row.direction] = row.emitted_packets + row.coalesced_packets
            self.epoch = max([self.epoch, *(row.epoch for row in batch.counters)])


STEPS = st.one_of(
    st.tuples(st.just("packets"), st.integers(1, 9)),
    st.tuples(st.just("flows"), st.integers(1, 9)),
    st.tuples(st.just("time"), st.integers(1, 120)),
    st.tuples(st.just("kafka answers"), st.booleans()),
    st.tuples(st.just("killed"), st.booleans()),
    st.tuples(st.just("killed while closing"), st.sampled_from(PLACES)),
)


@given(st.lists(STEPS, max_size=40))
def test_killed_at_any_moment_nothing_is_lost_and_what_is_repeated_can_be_told(steps: list[tuple[str, Any]]) -> None:
    node, sent = Node(batch_packets=4), 0
    for what, value in [*steps, ("kafka answers", True)]:
        if what in {"packets", "flows"}:
            for port in range(value):
                direction = port % 2
                if what == "packets":
                    node.packet(src_port=port, direction=direction)
                    sent += 1
                else:
                    node.coalesced(packets=3, src_port=port, direction=direction)
                    sent += 3
        elif what == "time":
            node.after(10 * value)
        elif what == "kafka answers":
            node.broker.answers_itself = value
        elif what == "killed":
            start_again(node, told_by_kafka=value)
        else:
            node.maps.fails = {value}
            try:
                node.after(1_500)
            except Killed:
                node.maps.fails = set()
                start_again(node, told_by_kafka=True)
            node.maps.fails = set()
    start_again(node, told_by_kafka=True)
    node.after(3_000)
    node.capture.finish()
    node.after(3_000)
    assert node.capture.is_drained()
    read = Read()
    read.take(CODEC.decode_packet_batch(value) for value in node.broker.stored)
    assert sum(read.packets.values()) == sent
    assert +read.packets == +Counter(read.counted)
    if not any(step == ("killed", False) for step in steps):
        assert not read.repeated


def start_again(node: Node, *, told_by_kafka: bool) -> None:
    read = Read()
    if told_by_kafka:
        read.take(CODEC.decode_packet_batch(value) for value in node.broker.stored)
    node.start(position=max(node.ring.released, read.position), coalesced=read.coalesced, stored=read.epoch)
