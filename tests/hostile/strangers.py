"""Nodes that exist only as messages: whoever can write to the packets topic can be one, with any clock and any name."""

import random

from schemas.packets import EpochCounters, PacketBatch
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

HALF = SECOND // 2
NAMES = (
    "\x1b[31mred\x1b]0;title\x07",
    "a\u202egpj.exe",
    "<script>alert(1)</script>",
    "=cmd|calc",
    "日本語🎉",
    "x" * 300,
    'new\nline\r{"level": "error"}',
    "no'quote\\ `tick` %s {0} ${HOME}",
    "\u00e9 or e\u0301",
)
"""Node and interface names that do harm where they are shown or put into a query as they are."""


class Stranger:
    """A producer as its messages show it."""

    def __init__(self, name: str, clock: float, *, seed: int = 1, ring_id: int = 7, interface: str = "eth0") -> None:
        """`clock`: what it takes the time to be, seconds since the Unix epoch."""
        self.name, self.interface, self._ring_id = name, interface, ring_id
        self._clock, self._dice = int(clock) * SECOND, random.Random(seed)
        self._position, self._epoch = 0, 1
        self.packets = 0  # sent so far

    def step(self, seconds: float) -> None:
        """Its clock is set."""
        self._clock += int(seconds * SECOND)

    def batches(self, count: int, *, size: int = 20) -> list[PacketBatch]:
        """The next half seconds, one batch each."""
        return [self._batch(size) for _ in range(count)]

    def end(self) -> PacketBatch:
        """The last one: the producer was told to stop."""
        last = EpochCounters.nothing(epoch=self._epoch, start_ns=self._clock, end_ns=self._clock + HALF, ended=True)
        return batch(
            [],
            node=self.name,
            ring_id=self._ring_id,
            ring_start=self._position,
            clock_ns=self._clock + HALF,
            counters=[last],
        )

    def _batch(self, size: int) -> PacketBatch:
        begin, self._clock = self._clock, self._clock + HALF
        packets = [
            Packet(
                time_ns=begin + self._dice.randrange(HALF),
                src_port=self._dice.randint(1024, 1040),
                packets=1,
                bytes=self._dice.randint(60, 1500),
                protocol=17,
                interface=self.interface,
                epoch=self._epoch,
            )
            for _ in range(size)
        ]
        made = batch(
            packets,
            node=self.name,
            ring_id=self._ring_id,
            ring_start=self._position,
            clock_ns=self._clock,
            counters=counters(self._epoch, packets, start_ns=begin, end_ns=self._clock),
        )
        self._epoch += 1
        self._position += STRIDE * len(packets)
        self.packets += len(packets)
        return made
