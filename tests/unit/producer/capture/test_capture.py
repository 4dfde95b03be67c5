"""When batches are cut and what they carry: ring, clocks, counters and Kafka are in memory."""

from common.errors import ServiceUnavailable
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import FixedRegistry
from schemas.packets import PacketBatch
from tests.unit.producer.node import MS, WALL, Node


def test_a_packet_waits_no_longer_than_the_flush_time() -> None:
    node = Node()
    node.packet()
    assert node.after(230) == []
    (batch,) = node.after(20)
    assert (len(batch), batch.ring_start, batch.ring_end, batch.counters, batch.clock_ns) == (1, 0, 80, (), 0)
    assert batch.base_ns == WALL + 5_000 * MS


def test_a_full_batch_goes_at_once() -> None:
    node = Node(batch_packets=3)
    for _ in range(7):
        node.packet()
    assert [len(batch) for batch in node.after(20)] == [3, 3]


def test_batches_follow_one_another_without_a_gap() -> None:
    node = Node(batch_packets=3)
    batches = []
    for i in range(40):
        for _ in range(i % 5):
            node.packet()
        batches += node.after(100)
    batches += node.after(1_000)
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    assert [batch.ring_start for batch in batches] == [0, *(batch.ring_end for batch in batches[:-1])]
    assert sum(len(batch) for batch in batches) == 80
    assert node.ring.released == node.ring.producer_position()


def test_counters_come_with_the_last_packet_of_their_epoch_and_agree_with_the_packets() -> None:
    node = Node(batch_packets=7)
    seen: dict[tuple[int, int], list[int]] = {}
    wanted: dict[tuple[int, int], list[int]] = {}
    batches = []
    for i in range(300):
        node.packet(size=60 + i, direction=i % 2)
        if i % 10 == 0:
            node.packet(outcome="non_ip")
        if i % 30 == 0:
            node.packet(outcome="ring_full")
        batches += node.after(10)
    batches += node.after(1_000)
    closed = 0
    for batch in batches:
        for i, packets, size in zip(batch.flow, batch.packets, batch.bytes, strict=True):
            key = (int(batch.flows.epoch[i]), int(batch.flows.direction[i]))
            assert key[0] > closed, "a packet of an epoch whose counters have been sent"
            total = seen.setdefault(key, [0, 0])
            total[0] += int(packets)
            total[1] += int(size)
        for row in batch.counters:
            closed = max(closed, row.epoch)
            if not row.interface:
                continue
            wanted[row.epoch, row.direction] = [row.emitted_packets, row.emitted_bytes]
            parts = row.emitted_packets + row.non_ip_packets + row.malformed_packets + row.ring_full_packets
            assert row.seen_packets == parts
    assert seen == wanted
    assert len(wanted) > 8


def test_no_packet_comes_after_a_clock_that_is_later_than_it() -> None:
    node = Node(batch_packets=5)
    batches = []
    for _ in range(200):
        node.packet()
        batches += node.after(10)
    clock = 0
    for batch in batches:
        times = batch.base_ns + batch.time_offset_ns
        assert not len(times) or times.min() >= clock
        assert batch.clock_ns >= clock
        clock = batch.clock_ns
    assert clock > WALL + 6_000 * MS


def test_an_idle_node_sends_its_clock_once_a_second_and_a_row_of_its_own_for_each_epoch() -> None:
    node = Node()
    batches = node.after(10_000)
    assert 9 <= len(batches) <= 11
    assert not any(len(batch) for batch in batches)
    rows = [row for batch in batches for row in batch.counters]
    assert [row.epoch for row in rows] == list(range(1, len(batches) + 1))
    assert {(row.interface, row.seen_packets, row.ended) for row in rows} == {("", 0, False)}
    assert [b.clock_ns for b in batches] == sorted({b.clock_ns for b in batches})


def test_packets_that_make_no_event_are_reported_all_the_same() -> None:
    node = Node()
    node.packet(outcome="non_ip", size=42)
    rows = [row for batch in node.after(1_000) for row in batch.counters]
    assert [(row.epoch, row.seen_packets, row.non_ip_bytes, row.emitted_packets) for row in rows] == [(1, 1, 42, 0)]


def test_a_clock_that_steps_is_followed() -> None:
    node = Node()
    node.after(1_000)
    node.ahead += 3_600_000 * MS
    node.after(600)
    node.packet()
    (batch,) = [batch for batch in node.after(600) if len(batch)]
    assert abs(batch.base_ns - (node.now + node.ahead)) < 1_000 * MS
    assert abs(batch.clock_ns - batch.base_ns) < 1_000 * MS


def test_while_kafka_is_away_the_ring_is_kept_and_nothing_is_lost_when_it_comes_back() -> None:
    node = Node(batch_packets=10)
    node.broker.answers_itself = False
    for _ in range(100):
        node.packet()
        node.after(1_000)
    assert node.ring.released == 0
    waiting = len(node.broker.waiting)
    assert waiting < 320  # batches with packets, not a heartbeat each second on top
    node.broker.answers_itself = True
    batches = node.after(2_000)
    assert sum(len(batch) for batch in batches) == 100
    assert sum(row.emitted_packets for batch in batches for row in batch.counters) == 100
    assert node.ring.released == node.ring.producer_position()


def test_with_the_queue_full_for_hours_closed_epochs_do_not_pile_up_and_the_ledger_is_exact() -> None:
    node = Node(batch_packets=10)
    node.broker.room = 0
    for _ in range(400):
        node.packet(outcome="ring_full")
        node.after(500)
    node.packet()
    node.broker.room = 1_000
    batches = node.after(3_000)
    rows = [row for batch in batches for row in batch.counters]
    assert len(rows) < 250
    assert sum(row.ring_full_packets for row in rows) == 400
    assert sum(row.emitted_packets for row in rows) == 1 == sum(len(batch) for batch in batches)


def test_a_batch_too_large_for_a_message_is_cut_in_half() -> None:
    node = Node(batch_packets=40_000)
    node.ring.put([{"ktime_ns": node.now, "src_port": i, "epoch": 1, "flow_hash": i} for i in range(40_000)])
    batches = node.after(600)
    assert [len(batch) for batch in batches if len(batch)] == [20_000, 20_000]
    assert all(len(value) <= 1_000_000 for value in node.broker.stored)
    assert [batch.ring_start for batch in batches[1:]] == [batch.ring_end for batch in batches[:-1]]


def test_a_registry_that_is_away_delays_and_loses_nothing() -> None:
    away = True
    encode = BatchEncoder(FixedRegistry()).encode

    def sometimes(batch: PacketBatch) -> bytes:
        if away:
            raise ServiceUnavailable("the registry is away")
        return encode(batch)

    node = Node(batch_packets=2, encode=sometimes)
    for _ in range(5):
        node.packet()
        assert node.after(1_000) == []
    away = False
    assert sum(len(batch) for batch in node.after(2_000)) == 5


def test_at_the_end_all_that_was_counted_has_been_sent() -> None:
    node = Node()
    node.packet()
    node.after(20)
    node.packet()
    node.capture.finish()
    batches = node.after(20)
    assert node.capture.is_drained()
    assert sum(len(batch) for batch in batches) == 2
    rows = [row for batch in batches for row in batch.counters]
    assert [(row.epoch, row.interface, row.emitted_packets, row.ended) for row in rows] == [
        (1, "eth0", 2, False),
        (1, "", 0, True),
    ]
    assert not node.publisher.progress.unacknowledged


def test_what_the_kernel_added_up_comes_when_its_epoch_is_closed_and_before_its_counters() -> None:
    node = Node(batch_packets=3)
    node.packet()
    for port in range(7):
        node.coalesced(packets=5, src_port=port)
    batches = node.after(600)
    assert [(b.coalesced_start, b.coalesced_end, len(b)) for b in batches] == [
        (0, 0, 1),
        (0, 3, 3),
        (3, 6, 3),
        (6, 7, 1),
    ]
    assert [len(b.counters) for b in batches] == [0, 0, 0, 1]
    assert [b.clock_ns > 0 for b in batches] == [False, False, False, True]
    assert (batches[-1].counters[0].coalesced_packets, batches[-1].counters[0].emitted_packets) == (35, 1)
    node.coalesced(src_port=1)
    (batch,) = [b for b in node.after(2_000) if len(b)]
    assert (batch.coalesced_start, batch.coalesced_end, batch.ring_start, batch.ring_end) == (7, 8, 80, 80)
    assert batch.flows.epoch.tolist() == [2]


def test_an_epoch_is_closed_only_when_the_one_before_is_safe() -> None:
    node = Node()
    node.broker.answers_itself = False
    node.packet()
    node.after(3_000)
    assert node.state.open == 2
    node.broker.answers_itself = True
    node.after(20)
    assert node.state.stored >= 1
    assert node.state.open == 3
    node.after(3_000)
    assert node.state.open > 3


def test_a_ring_that_fills_is_answered_by_less_detail_until_it_is_nearly_empty() -> None:
    node = Node(ring_bytes=80 * 100)
    node.broker.answers_itself = False
    for _ in range(76):
        node.packet()
    node.after(20)
    assert node.switches.coalescing
    node.broker.answers_itself = True
    node.after(300)
    assert not node.switches.coalescing


def test_with_detail_flow_nothing_else_is_wanted_of_the_kernel_and_epochs_last_a_second() -> None:
    node = Node(only_flows=True)
    assert node.switches.coalescing
    node.after(5_000)
    assert node.switches.coalescing
    assert 4 <= node.state.stored <= 11


def test_a_crowded_flow_table_makes_epochs_shorter() -> None:
    node = Node(only_flows=True)

    def crowd(entries: int) -> None:
        for port in range(entries):
            node.coalesced(src_port=port)

    closed = []
    for entries in (600, 600, 600, 1, 1, 1):
        crowd(entries)
        before, waited = node.state.open, 0
        while node.state.open == before:
            node.after(10)
            waited += 10
        closed.append(waited)
    assert closed[1] < closed[0]
    assert closed[2] < closed[1]
    assert closed[5] == 500
