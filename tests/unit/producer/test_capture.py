"""When batches are cut and what they carry: ring, clocks, counters and Kafka are in memory."""

from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry

from common.errors import ServiceUnavailable
from producer.batch import Source
from producer.capture import Capture, Timing
from producer.clock import WallClock
from producer.epochs import COUNTERS, Epochs, Slot, fresh_counters
from producer.event import COALESCED, Records
from producer.metrics import ProducerMetrics
from producer.publish import Publisher
from producer.run_state import in_memory
from schemas.codec import Codec
from schemas.packet_encoder import BatchEncoder
from schemas.packets import PacketBatch
from schemas.registry import FixedRegistry
from schemas.topics import TopicNames
from tests.unit.producer.kafka import MemoryTransport
from tests.unit.producer.records import MemoryRing, records

MS = 1_000_000
WALL = 10**18
CODEC = Codec()


class MemoryMaps:
    """Two maps of one CPU's counters, and two flow tables; `count` and `add_up` are the kernel."""

    def __init__(self, keys: int) -> None:
        self.maps = [{key: fresh_counters(epoch, 1) for key in range(keys)} for epoch in (2, 1)]
        self.tables: list[dict[tuple[int, int], Records]] = [{}, {}]
        self.epoch = 1
        self.fails: set[str] = set()

    def count(self, key: int, packets: int, size: int, outcome: str) -> int:
        row = self.maps[self.epoch & 1][key]
        for name in ("seen", outcome):
            row[f"{name}_packets"] += packets
            row[f"{name}_bytes"] += size
        return int(row["epoch"][0])

    def add_up(self, entry: Records) -> None:
        """An entry of the open epoch's flow table: of dtype COALESCED, shape (1,)."""
        table = self.tables[self.epoch & 1]
        table[int(entry["first"]["flow_hash"][0]), len(table)] = entry

    def _may_fail(self, what: str) -> None:
        if what in self.fails:
            raise Killed(what)

    def open(self, epoch: int) -> None:
        self._may_fail("before open")
        self.epoch = epoch
        self._may_fail("after open")

    def counters(self, epoch: int, key: int) -> npt.NDArray[np.void]:
        self._may_fail("counters")
        return self.maps[epoch & 1][key]

    def zero(self, epoch: int, key: int) -> None:
        assert self.maps[epoch & 1][key].dtype == COUNTERS
        self.maps[epoch & 1][key] = fresh_counters(epoch, 1)
        self._may_fail("zero")

    def flows(self, epoch: int) -> tuple[Records, Records]:
        self._may_fail("flows")
        table = self.tables[epoch & 1]
        keys = np.array(sorted(table), COALESCED_KEY_OF_TESTS)
        return keys, np.concatenate([np.zeros(0, COALESCED), *(table[key] for key in sorted(table))])

    def clear(self, epoch: int, keys: Records) -> None:
        table = self.tables[epoch & 1]
        for key in keys.tolist():
            del table[key]
            self._may_fail("clear")


class Killed(BaseException):
    """The process ends here."""


COALESCED_KEY_OF_TESTS = np.dtype([("flow_hash", "=u8"), ("number", "=u8")])


class MemorySwitches:
    """Obeys producer.capture.KernelSwitches."""

    coalescing = False
    lived_ns = 0

    def live(self, now_ns: int, offset_ns: int) -> None:
        self.lived_ns = now_ns

    def coalesce(self, wanted: bool) -> None:
        self.coalescing = wanted


class Node:
    """A node whose kernel, clocks and broker the test moves."""

    def __init__(
        self, ring_bytes: int = 1 << 20, batch_packets: int = 1000, encode: Any = None, *, only_flows: bool = False
    ) -> None:
        self.now, self.ahead = 5_000 * MS, WALL
        self.ring, self.maps, self.broker = MemoryRing(size=ring_bytes), MemoryMaps(2), MemoryTransport()
        self.clock = WallClock(lambda: self.now, lambda: self.now + self.ahead)
        self.state, self.switches = in_memory(), MemorySwitches()
        self.state.begin(ring_id=9, opened_ns=self.now)
        self.encode = encode or BatchEncoder(FixedRegistry()).encode
        self.timing = Timing(
            epoch_ns=500 * MS, flush_ns=250 * MS, batch_bytes=batch_packets * 80, batch_entries=batch_packets,
            flow_entries=1000, only_flows=only_flows,
        )  # fmt: skip
        self.start()

    def start(self, *, position: int = 0, coalesced: int = 0, stored: int = 0) -> None:
        """A producer starts, and knows that so much is in Kafka."""
        self.broker.waiting.clear()
        self.publisher = Publisher(
            node="n", position=position, open_transport=lambda _: self.broker, monotonic=lambda: self.now
        )
        epochs = Epochs(
            maps=self.maps, state=self.state, clock=self.clock, producer_position=self.ring.producer_position,
            slots=tuple(Slot(key=d, interface="eth0", direction=d) for d in (0, 1)),
        )  # fmt: skip
        if stored >= self.state.open - 1 and self.state.closing != self.state.open:
            epochs.confirm(self.state.open - 1)
        self.capture = Capture(
            ring=self.ring, position=position, coalesced=coalesced, epochs=epochs, switches=self.switches,
            clock=self.clock, publisher=self.publisher, source=Source(node="n", ring_id=9, interfaces=((3, "eth0"),)),
            encode_batch=self.encode, encode_events=None, topics=TopicNames.of("t."), timing=self.timing,
            metrics=ProducerMetrics(CollectorRegistry()),
        )  # fmt: skip

    def coalesced(self, size: int = 100, packets: int = 1, **fields: Any) -> None:
        """Packets that the kernel adds up."""
        epoch = self.maps.count(fields.get("direction", 0), packets, packets * size, "coalesced")
        entry = np.zeros(1, COALESCED)
        record = records([{"ktime_ns": self.now, "bytes": size, "epoch": epoch & 0xFF} | fields])
        entry["first"], entry["last_ktime_ns"] = record["event"], self.now
        entry["packets"], entry["bytes"] = packets, packets * size
        entry["min_packet_bytes"] = entry["max_packet_bytes"] = size
        self.maps.add_up(entry)

    def packet(self, size: int = 100, outcome: str = "emitted", **fields: Any) -> None:
        epoch = self.maps.count(fields.get("direction", 0), 1, size, outcome)
        if outcome == "emitted":
            self.ring.put([{"ktime_ns": self.now, "bytes": size, "epoch": epoch & 0xFF} | fields])

    def after(self, milliseconds: int) -> list[PacketBatch]:
        """Let time pass in steps of 10 ms; the batches that came out."""
        before = len(self.broker.stored)
        for _ in range(milliseconds // 10):
            self.now += 10 * MS
            self.publisher.poll(0)
            self.capture.step()
        self.publisher.poll(0)
        return [CODEC.decode_packet_batch(value) for value in self.broker.stored[before:]]


def test_a_packet_waits_no_longer_than_the_flush_time() -> None:
    node = Node()
    node.packet()
    assert node.after(250) == []
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


def test_an_idle_node_sends_its_clock_once_a_second() -> None:
    node = Node()
    batches = node.after(10_000)
    assert 9 <= len(batches) <= 11
    assert all(not len(batch) and not batch.counters for batch in batches)
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
    assert [(row.epoch, row.emitted_packets) for batch in batches for row in batch.counters] == [(1, 2)]
    assert not node.publisher.outbox.entries
