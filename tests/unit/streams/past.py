"""A node of the past: half seconds of packets both ways, with names, late SYNs, late packets and what is sent twice."""

import random
from dataclasses import replace

import numpy as np

from schemas.packets import PacketBatch
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

DOMAINS = ("", "www.example.org", "mail.example.org")


class Past:
    """A producer of half seconds of event time: both directions, names, SYNs late in a connection."""

    def __init__(self, name: str, begin: int, seed: int, *, ring_id: int = 7) -> None:
        self.name, self.random, self.ring_id = name, random.Random(seed), ring_id
        self.clock, self.position, self.epoch, self.packets = begin * SECOND, 0, 1, 0

    def half_second(self, packets: int = 60, late: int = 0) -> PacketBatch:
        """Its packets; `late`: seconds that some of them are older."""
        r = self.random
        made = [self._packet(late if late and n % 7 == 0 else 0) for n in range(packets)]
        begin, self.clock = self.clock, self.clock + SECOND // 2
        one = batch(
            made,
            node=self.name,
            ring_id=self.ring_id,
            ring_start=self.position,
            clock_ns=self.clock,
            counters=counters(self.epoch, made, start_ns=begin, end_ns=self.clock),
        )
        self.epoch += 1
        self.position += STRIDE * len(made)
        self.packets += sum(each.packets for each in made)
        domain = np.array([r.randint(-1, len(DOMAINS) - 1) for _ in range(len(one.flows))], np.int32)
        source = np.where(domain > 0, r.randint(1, 4), 0).astype(np.uint8)
        flows = replace(
            one.flows,
            domain=np.where(domain > 0, domain, -1).astype(np.int32),
            domain_source=source,
            domain_count=np.where(domain > 0, 2, 0).astype(np.uint16),
            ja4=np.full(len(domain), -1, np.int32),
            alpn=np.full(len(domain), -1, np.int32),
        )
        return replace(one, flows=flows, domains=DOMAINS)

    def _packet(self, late: int) -> Packet:
        r = self.random
        low, high, there = r.randint(1, 30), r.randint(100, 104), r.random() < 0.6
        ends = {"src": f"10.0.0.{low}", "dst": f"10.0.1.{high}", "src_port": 40_000 + low, "dst_port": 8_000 + high}
        back = {"src": ends["dst"], "dst": ends["src"], "src_port": ends["dst_port"], "dst_port": ends["src_port"]}
        syn = 0x02 if r.random() < 0.05 else 0x10
        return Packet(
            time_ns=self.clock + r.randint(0, SECOND // 2 - 1) - late * SECOND,
            direction=0 if there else 1,
            packets=r.randint(1, 9),
            bytes=r.randint(60, 9_000),
            protocol=r.choice((6, 17)),
            tcp_flags=syn,
            epoch=self.epoch,
            **(ends if there else back),  # type: ignore[arg-type]
        )

    def end(self) -> PacketBatch:
        """What closes its ring."""
        last = [replace(each, ended=True) for each in counters(self.epoch, [], end_ns=self.clock + SECOND // 2)]
        return batch(
            [],
            node=self.name,
            ring_id=self.ring_id,
            ring_start=self.position,
            clock_ns=self.clock + 3_600 * SECOND,
            counters=[replace(each, start_ns=self.clock) for each in last],
        )
