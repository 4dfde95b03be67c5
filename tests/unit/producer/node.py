"""A node in memory: the kernel's maps, the ring, clocks and Kafka are the test's to move."""

from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry

from producer.capture.batch import Source
from producer.capture.capture import Capture, Timing
from producer.capture.epochs import COUNTERS, Epochs, Slot, fresh_counters
from producer.clock import WallClock
from producer.kafka.encoding import Encoding
from producer.kafka.publisher import Publisher
from producer.kernel.abi import COALESCED, Records
from producer.kernel.run_state import in_memory
from producer.metrics import ProducerMetrics
from schemas.avro.codec import Codec
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import FixedRegistry
from schemas.packets import PacketBatch
from schemas.topics import TopicNames
from tests.unit.producer.records import MemoryRing, records
from tests.unit.producer.transport import MemoryTransport

MS = 1_000_000
_KEY = np.dtype([("flow_hash", "=u8"), ("number", "=u8")])
WALL = 10**18
CODEC = Codec()


class Killed(BaseException):
    """The process ends here."""


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
        keys = np.array(sorted(table), _KEY)
        entries = np.concatenate([np.zeros(0, COALESCED), *(table[key] for key in sorted(table))])
        return keys, entries

    def clear(self, epoch: int, keys: Records) -> None:
        table = self.tables[epoch & 1]
        for key in keys.tolist():
            del table[key]
            self._may_fail("clear")


class MemorySwitches:
    """Obeys producer.capture.detail.KernelSwitches."""

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
            epoch_ns=500 * MS,
            flush_ns=250 * MS,
            batch_bytes=batch_packets * 80,
            batch_entries=batch_packets,
            flow_entries=1000,
            only_flows=only_flows,
        )
        self.start()

    def start(self, *, position: int = 0, coalesced: int = 0, stored: int = 0) -> None:
        """A producer starts, and knows that so much is in Kafka."""
        self.broker.waiting.clear()
        self.publisher = Publisher(
            node="n", position=position, open_transport=lambda _: self.broker, monotonic=lambda: self.now
        )
        epochs = Epochs(
            maps=self.maps,
            state=self.state,
            clock=self.clock,
            producer_position=self.ring.producer_position,
            slots=tuple(Slot(key=d, interface="eth0", direction=d) for d in (0, 1)),
        )
        if stored >= self.state.open - 1 and self.state.closing != self.state.open:
            epochs.confirm(self.state.open - 1)
        self.capture = Capture(
            ring=self.ring,
            position=position,
            coalesced=coalesced,
            epochs=epochs,
            switches=self.switches,
            clock=self.clock,
            publisher=self.publisher,
            source=Source(node="n", ring_id=9, interfaces=((3, "eth0"),)),
            encoding=Encoding(self.encode, None, TopicNames.of("t."), self.clock.monotonic),
            timing=self.timing,
            metrics=ProducerMetrics(CollectorRegistry()),
        )

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
