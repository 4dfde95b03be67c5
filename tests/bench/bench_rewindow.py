"""Windows made again, and packets kept as rows: what that costs, CPU of streams' side and of ClickHouse.

4.1 M packets of a server's uplink, of the day before yesterday, in a real Kafka and stored in windows of 10 seconds by
streams; then `ayaflow rewindow` with another length, and with the same one.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from common.settings import ClickHouseSettings
from common.times import iso
from schemas.defaults import entry_values
from schemas.packets import EpochCounters, PacketBatch
from streams.partition.blocks import Block, Part
from streams.partition.storing import KafkaPartition
from streams.store.packets import PacketStore
from tests.bench import traffic
from tests.bench.places import kafka
from tests.bench.process import cpu_seconds
from tests.bench.results import Row
from tests.fix_local import WRITER, running_clickhouse, temporary_directory
from tests.integration.fix_rewindow import noon, ran
from tests.integration.fix_streams import Pipeline, pipeline

BATCHES, A_BLOCK = 250, 6  # batches of a block: a second of 100,000 packets/s
PACKETS = BATCHES * traffic.BATCH


def run() -> Iterator[Row]:
    begin = noon()
    batches = list(_of_then(begin))
    with kafka() as broker, temporary_directory() as directory, running_clickhouse(directory) as (url, server):
        with pipeline(broker, url, streams_window_seconds="10", streams_publish_flows="false") as p:
            p.send([*batches, _end(batches)])
            p.start()
            p.until(lambda: p.stored_packets() == PACKETS)
            p.until(lambda: p.count("SELECT sum(arraySum(consumed_packets)) FROM ledger FINAL") == PACKETS)
            p.stop()
            for length, into in (("10s", "again"), ("1s", "seconds")):
                yield from _again(p, begin, length, into, server.pid)
            rows = "SELECT * EXCEPT (inserted, kafka_offset_end) FROM"
            differ = p.count(f"SELECT count() FROM ({rows} flows EXCEPT {rows} again)")
            yield Row(what="rows of 10 s that differ from the live ones", value=differ, unit="rows", at_most=0)
        yield from _packets(url, server.pid, batches)


def _of_then(begin: int) -> Iterator[PacketBatch]:
    """The batches, as if the first packet had come at `begin`."""
    moved = begin * 1_000_000_000 - traffic.BEGIN_NS
    for each in traffic.realistic(BATCHES):
        yield replace(each, base_ns=each.base_ns + moved, clock_ns=each.clock_ns + moved)


def _end(batches: list[PacketBatch]) -> PacketBatch:
    """A message with the counters of their epoch, which is one, and that the producer ended."""
    sums = np.zeros((2, 2), np.int64)
    for batch in batches:
        values = entry_values(batch)
        for way in range(2):
            chosen = batch.flows.direction[batch.flow] == way
            sums[way] += values["packets"][chosen].sum(), values["bytes"][chosen].sum()
    nothing, last = np.zeros(0, np.int64), batches[-1].clock_ns
    counters = tuple(
        EpochCounters.nothing(
            epoch=1,
            start_ns=batches[0].base_ns,
            end_ns=last,
            interface="eth0",
            direction=way,
            primary=bool(batches[0].flows.primary[0]),
            ended=True,
            **dict.fromkeys(("seen_packets", "emitted_packets"), int(packets)),
            **dict.fromkeys(("seen_bytes", "emitted_bytes"), int(size)),
        )
        for way, (packets, size) in enumerate(sums)
    )
    made = traffic.batch(traffic.records(nothing, nothing, nothing), BATCHES, last + 3_600 * 1_000_000_000)
    return replace(made, counters=counters)


def _again(p: Pipeline, begin: int, length: str, into: str, server: int) -> Iterator[Row]:
    before, used, wall = cpu_seconds(server), _children(), time.monotonic()
    ran(p, "rewindow", "--from", iso(begin), "--to", iso(begin + 3_600), "--window", length, "--into", into)
    wall, used, before = time.monotonic() - wall, _children() - used, cpu_seconds(server) - before
    rows = p.count(f"SELECT count() FROM {into}")
    what = f"rewindow to {length}, {rows:,} rows"
    yield Row(what=f"{what}: packets", value=PACKETS / used / 1e6, unit="M packets/CPU s")
    yield Row(what=f"{what}: ClickHouse's CPU beside it", value=before, unit="s")
    yield Row(what=f"{what}: from the command to its end", value=wall, unit="s")


def _children() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _packets(url: str, server: int, batches: list[PacketBatch]) -> Iterator[Row]:
    settings = ClickHouseSettings(url=url, **WRITER, database="ayaflow_bench")
    now = int(time.time()) - BATCHES
    with closing(PacketStore(settings, "bench.packets", 86_400)) as store:
        store.insert(_block(batches[:1], now - 1), KafkaPartition(1, 0))  # makes the tables
        begun, before = time.process_time(), cpu_seconds(server)
        for number in range(0, BATCHES, A_BLOCK):
            store.insert(_block(batches[number : number + A_BLOCK], now + number), KafkaPartition(1, 0))
        ours, theirs = time.process_time() - begun, cpu_seconds(server) - before
    for what, seconds in (("made and sent, streams' CPU", ours), ("stored, ClickHouse's CPU", theirs)):
        yield Row(what=f"table packets: {what}", value=PACKETS / seconds / 1e6, unit="M packets/CPU s")


def _block(batches: list[PacketBatch], second: int) -> Block:
    return Block(second, second, tuple(Part(batch, 0) for batch in batches))
