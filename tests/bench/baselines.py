"""What others' ways cost, measured in this process on the same input as ours: bcc's callback, fastavro per record."""

import ctypes
import io
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np

from producer.capture.batch import Source, Span, build
from producer.kernel import bpfsys
from producer.kernel.abi import RECORD
from schemas.avro.codec import Codec
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import newest, open_registry
from schemas.topics import TopicNames
from streams.partition.state import Partition
from tests.bench import traffic
from tests.bench.kernel import Programs, frame, programs
from tests.bench.process import median_cpu_seconds

EVENTS = 4 * traffic.BATCH
RECORDS = 4096
_SOURCE = Source(node="bench", ring_id=1, interfaces=((0, "eth0"),))


def empty_callback(_context: Any, _data: Any, _size: int) -> None:
    """The body that costs least."""


def counting_callback() -> Callable[[Any, Any, int], None]:
    """Packets by flow."""
    counts: dict[int, int] = {}

    def count(_context: Any, data: int, _size: int) -> None:
        flow = ctypes.c_uint64.from_address(data + 8).value
        counts[flow] = counts.get(flow, 0) + 1

    return count


def callback_cost(callback: Callable[[Any, Any, int], None]) -> float:
    """CPU seconds a million events of bcc's own reader of the ring."""
    with programs() as ours:
        ours.module[b"events"].open_ring_buffer(callback)
        return _cost(ours, ours.module.ring_buffer_consume)


def our_cost() -> float:
    """CPU seconds a million events from the ring to encoded batches."""
    encoder = BatchEncoder(open_registry(None, TopicNames.of("ayaflow.")))

    def work() -> None:
        start, end = ours.ring.consumer_position(), ours.ring.producer_position()
        step = traffic.BATCH * RECORD.itemsize
        while start < end:
            stop = min(start + step, ours.ring.readable(start))
            span = Span(start=start, end=stop, records=ours.ring.span(start, stop))
            encoder.encode(
                build(
                    span, source=_SOURCE, first_epoch=1, boundaries=[], offset_ns=0, sequence=0, clock_ns=0, counters=()
                ).batch
            )
            start = stop

    with programs() as ours:
        return _cost(ours, work)


def _cost(ours: Programs, work: Callable[[], object]) -> float:
    ours.flows(500)
    times = []
    for _ in range(6):
        bpfsys.prog_test_run(ours.fds["bench_ingress"], frame(), repeat=EVENTS)
        filled = ours.ring.producer_position() - ours.ring.consumer_position()
        assert filled == EVENTS * RECORD.itemsize, f"the ring holds {filled} octets"
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
        ours.release()
    return statistics.median(times[1:]) / EVENTS * 1e6


def record_costs() -> tuple[float, float]:
    """CPU seconds a million packets encoded: a PacketEvent each by fastavro, and in batches as we do."""
    schema, records = _single_records()

    def each() -> None:
        for record in records:
            fastavro.schemaless_writer(io.BytesIO(), schema, record)

    encoder, batch = BatchEncoder(open_registry(None, TopicNames.of("ayaflow."))), next(traffic.batches(1, 500))
    fast = median_cpu_seconds(each, 5) / RECORDS * 1e6
    return fast, median_cpu_seconds(lambda: [encoder.encode(batch) for _ in range(8)], 5) / 8 / traffic.BATCH * 1e6


def decoding_costs() -> tuple[float, float]:
    """CPU seconds a million packets decoded and added up: a PacketEvent each by fastavro, and batches as we do."""
    schema, records = _single_records()
    buffer, codec = io.BytesIO(), Codec()
    for record in records:
        fastavro.schemaless_writer(buffer, schema, record)
    octets = buffer.getvalue()
    messages = [codec.encode_packet_batch(batch) for batch in traffic.batches(8, 500)]

    def each() -> None:
        stream, counts = io.BytesIO(octets), Counter[tuple[Any, ...]]()
        for _ in range(RECORDS):
            record: Any = fastavro.schemaless_reader(stream, schema, None)
            counts[record["src_addr"], record["dst_addr"], record["src_port"], record["time_us"] // 10**7] += record[
                "packets"
            ]

    def batched() -> None:
        state = Partition(0, position=0, window_seconds=10, node_timeout_seconds=10)
        for offset, message in enumerate(messages):
            state.take(offset, codec.decode_packet_batch(message), now=0.0)

    fast = median_cpu_seconds(each, 5) / RECORDS * 1e6
    return fast, median_cpu_seconds(batched, 5) / len(messages) / traffic.BATCH * 1e6


def _single_records() -> tuple[Any, list[dict[str, Any]]]:
    schema = fastavro.parse_schema(json.loads(newest("PacketEvent")))
    rng = np.random.default_rng(1)
    records = [
        {
            "node": "bench",
            "interface": "eth0",
            "time_ns": traffic.BEGIN_NS + i,
            "src_addr": f"10.0.0.{i % 250}",
            "dst_addr": "192.0.2.1",
            "src_port": 32_768 + i % 500,
            "dst_port": 443,
            "protocol": 6,
            "packets": 1,
            "bytes": int(rng.integers(60, 1514)),
            "tcp_flags": 16,
        }
        for i in range(RECORDS)
    ]
    return schema, records
