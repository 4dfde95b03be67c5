"""A worker between fakes: what is sent to it, what it stored, what it acknowledged.

A partition looks at what is due when its first message came, and then each 0.2 seconds on the rig's clock.
"""

from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from common.settings import StreamsSettings
from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from streams import metrics
from streams.kafka.testing import MemoryBroker, MemoryMember, MemoryOffsets, MemoryPublisher
from streams.testing import HandThreads, ManualClock, MemoryStore, settle
from streams.worker.worker import Worker
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

START = 1_800_000_000
WINDOW = 10


@dataclass
class Message:
    """What Faust would hand over."""

    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = b"n1"
    timestamp: float = 1_000.0


@dataclass
class Source:
    """A node whose batches go to one partition. Each batch is an epoch, and closes it."""

    name: str = "n1"
    ring_id: int = 7
    sent: int = 0  # events
    epoch: int = 0

    def batch(self, *seconds: float, clock: float, closes: bool = True) -> PacketBatch:
        """One packet at each of these seconds after START; the node has seen all up to `clock`."""
        self.epoch += bool(seconds)
        packets = [Packet(time_ns=int((START + second) * SECOND), epoch=self.epoch) for second in seconds]
        made = batch(
            packets,
            node=self.name,
            ring_id=self.ring_id,
            ring_start=self.sent * STRIDE,
            clock_ns=int((START + clock) * SECOND),
            counters=counters(self.epoch, packets) if packets and closes else (),
        )
        self.sent += len(packets)
        return made


@dataclass
class Rig:
    """A worker that is not started; its lanes write all the same."""

    settings: dict[str, Any] = field(default_factory=dict)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    store: MemoryStore = field(default_factory=MemoryStore)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    offsets: MemoryOffsets = field(default_factory=MemoryOffsets)
    member: MemoryMember = field(default_factory=MemoryMember)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    threads: HandThreads = field(default_factory=HandThreads)
    codec: Any = field(default_factory=Codec)
    operators: list[Any] = field(default_factory=list)
    handed_over: list[tuple[int, int]] = field(default_factory=list)  # partition, offset
    end: dict[int, int] = field(init=False)  # offset of the next message, by partition

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.end = self.broker.end
        self.broker.begun = START
        self.member.broker = self.broker
        settings = {"window_seconds": WINDOW, "node_timeout_seconds": 1000, "publish_flows": True, **self.settings}
        self.worker = Worker(
            StreamsSettings(**settings),
            topic="t.packets",
            codec=self.codec,
            store=self.store,
            publisher=self.publisher,
            offsets=self.offsets,
            metrics=metrics.create(self.registry),
            member=self.member,
            broker=self.broker,
            clock=self.clock,
            executors=self.threads,
            operators=self.operators,
        )

    async def send(self, *messages: PacketBatch | bytes | None, partition: int = 0) -> None:
        """Hand messages over; returns when all that can be done for them is done."""
        for each in messages:
            self.hand_over(each, partition=partition)
        await settle()

    def hand_over(self, each: PacketBatch | bytes | None, *, partition: int = 0, offset: int | None = None) -> None:
        offset = self.end.get(partition, 0) if offset is None else offset
        self.end[partition] = offset + 1
        value = self.codec.encode_packet_batch(each) if isinstance(each, PacketBatch) else each
        self.handed_over.append((partition, offset))
        self.offsets.held.add((partition, offset))
        self.worker.take(Message(partition, offset, value))

    @property
    def acked(self) -> list[tuple[int, int]]:
        """Partition and offset of the messages that were acknowledged, in the order in which they came."""
        done = self.member.acknowledged
        return [(number, offset) for number, offset in dict.fromkeys(self.handed_over) if offset < done.get(number, 0)]

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"ayaflow_streams_{name}", labels)
        assert value is not None, f"there is no metric {name}"
        return value


async def refused(rig: Rig, node: Source) -> None:
    """The first of three windows is refused; the others are stored."""
    rig.store.refuses = {START}
    await rig.send(node.batch(1, 1, clock=10), node.batch(11, clock=20), node.batch(21, clock=30), node.batch(clock=31))
    await rig.clock.advance(1)
    await rig.clock.advance(1)
