"""A node in memory: the kernel's maps, the ring, clocks and Kafka are the test's to move."""

from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from producer.capture.batch import Source
from producer.capture.capture import Capture
from producer.capture.epochs import Epochs, Slot
from producer.capture.sender import Outlet
from producer.capture.testing import MemoryMaps, MemoryRing, MemorySwitches, memory_state, records
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.inspection.inspection import Inspection
from producer.inspection.reading import NameReading
from producer.inspection.testing import MemoryCopies, MemoryReader, MemoryRedaction, MemoryTable
from producer.kafka.encoding import Encoding, PatientEncoding
from producer.kafka.publisher import Publisher
from producer.kafka.testing import MemoryTransport
from producer.kernel.abi import COALESCED
from producer.metrics import ProducerMetrics
from schemas.avro.codec import Codec
from schemas.avro.names import NameEncoder
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import FixedRegistry
from schemas.names import NameBatch
from schemas.packets import PacketBatch
from schemas.topics import TopicNames

MS = 1_000_000
WALL = 10**18
CODEC = Codec()


class Node:
    """A node whose kernel, clocks and broker the test moves."""

    def __init__(
        self, ring_bytes: int = 1 << 20, batch_packets: int = 1000, encode: Any = None, *, only_flows: bool = False
    ) -> None:
        self.now, self.ahead = 5_000 * MS, WALL
        self.ring, self.maps, self.broker = MemoryRing(size=ring_bytes), MemoryMaps(2), MemoryTransport()
        self.clock = WallClock(lambda: self.now, lambda: self.now + self.ahead)
        self.state, self.switches = memory_state(), MemorySwitches()
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
        self.copies: MemoryCopies | None = None
        self.table = MemoryTable()
        self.start()

    def inspect(self, size: int = 1 << 16) -> MemoryCopies:
        """From the next start on its kernel copies payload."""
        self.copies = MemoryCopies(size=size)
        self.start()
        return self.copies

    def start(self, *, position: int = 0, coalesced: int = 0, stored: int = 0, names: tuple[int, int] = (0, 0)) -> None:
        """A producer starts, and knows that so much is in Kafka."""
        self.broker.waiting.clear()
        self.publisher = Publisher(
            node="n",
            position=position,
            open_transport=lambda _: self.broker,
            monotonic=lambda: self.now,
            names_topic="t.names",
        )
        self.safe_names = names
        self.capture = self.read(self.publisher, position=position, coalesced=coalesced, stored=stored)

    def epochs(self) -> Epochs:
        """Those of its kernel."""
        return Epochs(
            maps=self.maps,
            state=self.state,
            clock=self.clock,
            producer_position=self.ring.producer_position,
            slots=tuple(Slot(key=d, interface="eth0", direction=d) for d in (0, 1)),
        )

    def read(
        self, outlet: Outlet, epochs: Epochs | None = None, *, position: int = 0, coalesced: int = 0, stored: int = 0
    ) -> Capture:
        """What reads this node's ring."""
        epochs = epochs or self.epochs()
        if stored >= self.state.open - 1 and self.state.closing != self.state.open:
            epochs.confirm(self.state.open - 1)
        encoder = Encoding(self.encode, None, TopicNames.of("t."), encode_names=NameEncoder(FixedRegistry()).encode)
        encoding, inspection = PatientEncoding(encoder, self.clock.monotonic), None
        if self.copies is not None:
            inspection = Inspection(
                self.copies,
                NameReading(MemoryReader(), self.table, MemoryRedaction(), position=self.copies.released),
                clock=self.clock,
                encoding=encoding,
                start=self.copies.released,
                safe=self.safe_names[0],
                safe_ns=self.safe_names[1],
            )
        return Capture(
            ring=self.ring,
            position=position,
            coalesced=coalesced,
            epochs=epochs,
            switches=self.switches,
            clock=self.clock,
            outlet=outlet,
            source=Source(node="n", ring_id=9, interfaces=((3, "eth0"),)),
            encoding=encoding,
            timing=self.timing,
            metrics=ProducerMetrics(CollectorRegistry()),
            inspection=inspection,
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
            self.capture.step(self.publisher.poll(0))
        self.publisher.poll(0)
        values = zip(self.broker.topics[before:], self.broker.stored[before:], strict=True)
        return [CODEC.decode_packet_batch(value) for topic, value in values if topic == "t.packets"]

    @property
    def names(self) -> list[NameBatch]:
        """All batches of names that the broker has."""
        values = zip(self.broker.topics, self.broker.stored, strict=True)
        return [CODEC.decode_name_batch(value) for topic, value in values if topic == "t.names"]
