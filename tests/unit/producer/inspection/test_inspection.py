"""Names of a node that is watched: read, put on flows, sent once whatever happens, and counted."""

from itertools import pairwise

import numpy as np
import pytest

from common.errors import ServiceUnavailable
from producer.inspection.inspection import MOST_PENDING
from schemas.names import NameBatch
from tests.unit.producer.node import MS, WALL, Node

SECOND = 1000


@pytest.fixture
def node() -> Node:
    node = Node()
    node.inspect()
    return node


def put(node: Node, payload: str) -> None:
    """A packet with a copy."""
    node.packet()
    assert node.copies is not None
    node.copies.put(payload.encode(), ktime_ns=node.now, epoch=node.state.open)


def rows(batches: list[NameBatch]) -> list[str]:
    return [batch.names[place] for batch in batches for place in batch.name.tolist()]


def lost(batches: list[NameBatch]) -> int:
    """Copies that the messages of a ring do not account for."""
    missing, before = 0, 0
    for batch in batches:
        missing += before + batch.copies - int(batch.row_copies.sum()) - batch.unused_copies - batch.open_copies
        before = batch.open_copies
    return missing


def test_a_name_is_sent_with_the_end_of_its_epoch_and_is_on_the_flow(node: Node) -> None:
    put(node, "www.example")
    (first, *_) = [batch for batch in node.after(SECOND) if len(batch)]
    assert first.domains == ("www.example",)
    assert (first.flows.domain.tolist(), first.flows.domain_source.tolist()) == ([0], [4])
    (names,) = [batch for batch in node.names if len(batch)]
    assert rows([names]) == ["www.example"]
    assert (names.node, names.ring_id, names.sequence, names.interface_names) == ("n", 9, 0, ("eth0",))
    assert names.base_ns + names.time_offset_ns[0] == first.base_ns + first.time_offset_ns[0]
    assert (names.copies, names.epoch.tolist(), names.epoch_copies.tolist()) == (1, [1], [1])


def test_messages_of_names_follow_one_another_without_a_gap_and_before_their_packets(node: Node) -> None:
    for number in range(50):
        put(node, f"{number}.example")
        node.after(100)
    node.after(2 * SECOND)
    names = node.names
    assert rows(names) == [f"{number}.example" for number in range(50)]
    assert all(one.ring_end == other.ring_start for one, other in pairwise(names))
    assert [batch.sequence for batch in names] == list(range(len(names)))
    assert lost(names) == 0
    assert node.broker.topics[-1] == "t.packets"
    assert all(other == "t.packets" for one, other in pairwise(node.broker.topics) if one == "t.names")


def test_what_was_waited_for_in_vain_is_sent_too_without_another_packet(node: Node) -> None:
    put(node, "?late.example")
    node.after(600)
    assert [(len(batch), batch.open_copies) for batch in node.names] == [(0, 1)]
    node.after(2 * SECOND)
    assert rows(node.names) == ["late.example"]
    assert (node.names[-1].copies, node.names[-1].open_copies, lost(node.names)) == (0, 0, 0)


def test_copies_that_make_no_row_are_told(node: Node) -> None:
    for payload in ("", "one.example", ""):
        put(node, payload)
    node.after(SECOND)
    assert sum(batch.unused_copies for batch in node.names) == 2
    assert lost(node.names) == 0


def test_what_settings_hide_leaves_neither_with_names_nor_with_flows(node: Node) -> None:
    put(node, "secret.example")
    batches = node.after(SECOND)
    assert rows(node.names) == ["hidden"]
    assert {domain for batch in batches for domain in batch.domains} == {"hidden"}
    assert b"secret" not in b"".join(node.broker.stored)


def test_a_fault_of_the_reader_ends_nothing_and_its_copies_are_missed(node: Node) -> None:
    put(node, "!")
    node.after(SECOND)
    put(node, "fine.example")
    node.after(SECOND)
    assert rows(node.names) == ["fine.example"]
    assert lost(node.names) == 1
    assert "a fault of ayaflow" in str(node.capture.names_fault), "for a minute"
    node.after(62 * SECOND)
    assert node.capture.names_fault is None


def test_while_kafka_takes_nothing_copies_wait_in_the_ring_and_none_is_released(node: Node) -> None:
    copies, node.broker.answers_itself = node.copies, False
    assert copies is not None
    for number in range(20):
        put(node, f"{number}.example")
        node.after(200)
    assert copies.released == 0
    node.broker.answers_itself = True
    node.after(2 * SECOND)
    assert rows(node.names) == [f"{number}.example" for number in range(20)]


def test_no_more_are_read_than_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    most = MOST_PENDING // 8
    monkeypatch.setattr("producer.inspection.inspection.MOST_PENDING", most)
    node = Node()
    copies = node.inspect(1 << 21)
    for _ in range(3 * most):
        copies.put(b"x", ktime_ns=node.now)
    node.packet()
    node.capture.step(node.publisher.poll(0))
    assert node.capture.copies_fill > 0
    node.after(5 * SECOND)
    assert node.capture.copies_fill == 0
    assert sum(batch.copies for batch in node.names) == 3 * most
    assert lost(node.names) == 0


def test_a_ring_that_fills_is_read_although_no_packet_is_sent() -> None:
    node = Node()
    copies = node.inspect(4096)
    for number in range(12):
        copies.put(f"{number}.example".encode(), ktime_ns=node.now)
    assert node.capture.copies_fill > 0.25
    node.capture.step(node.publisher.poll(0))
    assert node.capture.copies_fill == 0


def test_a_quarter_of_the_ring_is_kept_for_whoever_comes_next() -> None:
    node = Node()
    copies = node.inspect(4096)
    for number in range(40):
        put(node, f"{number}.example")
        node.after(500)
    assert 1024 <= copies.end - copies.released <= 1024 + 2 * 96


def test_at_the_end_all_is_sent_also_what_waits(node: Node) -> None:
    put(node, "one.example")
    put(node, "?two.example")
    node.capture.finish()
    node.after(SECOND)
    assert node.capture.is_drained()
    assert sorted(rows(node.names)) == ["one.example", "two.example"]
    assert (node.names[-1].open_copies, lost(node.names)) == (0, 0)
    assert node.broker.topics[-1] == "t.packets"


def test_a_registry_that_is_away_loses_no_name() -> None:
    node = Node()

    def away(_batch: object) -> bytes:
        raise ServiceUnavailable("it is away")

    encode, node.encode = node.encode, away
    node.inspect()
    put(node, "one.example")
    node.after(2 * SECOND)
    assert node.names == []
    node.encode = encode
    node.start()
    node.after(2 * SECOND)
    assert rows(node.names) == ["one.example"]


@pytest.mark.parametrize("known", [True, False], ids=["Kafka tells", "Kafka does not"])
def test_a_kill_loses_no_name_and_sends_none_twice(node: Node, known: bool) -> None:
    """Whoever comes next reads again what is left in the ring, for what is open; a message it sends again is cut."""
    put(node, "one.example")
    put(node, "?two.example")
    node.after(600)
    (told,) = node.names
    assert (rows([told]), told.open_copies) == (["one.example"], 1)
    put(node, "three.example")
    stored = node.state.open - 1
    safe = (told.ring_end, told.clock_ns) if known else (0, 0)
    node.start(position=node.ring.released, stored=stored, names=safe)  # the one before was killed
    node.after(3 * SECOND)
    kept, end = [], 0
    for batch in node.names:
        places = batch.ring_start + batch.ring_offset
        kept += [batch.names[place] for place in batch.name[places >= end].tolist()]
        end = max(end, batch.ring_end)
    assert sorted(kept) == ["one.example", "three.example", "two.example"]
    assert node.names[1].sequence == 0
    if known:
        assert node.names[1].ring_start == told.ring_end
        assert lost(node.names) == 0


def test_what_a_killed_one_had_waited_for_in_vain_is_not_sent_again(node: Node) -> None:
    put(node, "?one.example")
    node.after(3 * SECOND)
    assert rows(node.names) == ["one.example"]
    last = node.names[-1]
    node.start(position=node.ring.released, stored=node.state.open - 1, names=(last.ring_end, last.clock_ns))
    node.after(3 * SECOND)
    assert rows(node.names) == ["one.example"]


def test_the_next_one_knows_the_names_that_are_left_in_the_ring(node: Node) -> None:
    put(node, "one.example")
    node.after(SECOND)
    last = node.names[-1]
    node.table.known.clear()
    node.start(position=node.ring.released, stored=node.state.open - 1, names=(last.ring_end, last.clock_ns))
    assert [name for _, name in node.table.known] == ["one.example"]


def test_a_flow_is_asked_about_with_the_times_of_its_packets_on_the_kernel_s_clock(node: Node) -> None:
    node.packet(src_port=1)
    node.now += 50 * MS
    node.packet(src_port=1)
    node.packet(src_port=2)
    begin = node.now
    node.after(300)
    asked = node.table.asked[0]
    order = np.argsort(asked["src_port"])
    assert asked["src_port"][order].tolist() == [1, 2]
    assert asked["first_ns"][order].tolist() == [begin - 50 * MS, begin]
    assert asked["last_ns"][order].tolist() == [begin, begin]
    assert node.clock.wall_ns(begin) - begin == WALL
