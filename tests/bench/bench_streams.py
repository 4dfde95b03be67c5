"""The streams side: decoding and windowing on one core (CPU time), rows into ClickHouse, memory of open flows."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from common.settings import ClickHouseSettings
from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from streams.partition.state import Partition
from streams.partition.storing import WindowId, store_window
from streams.store.clickhouse import ClickHouseStore
from tests.bench import traffic
from tests.bench.places import clickhouse
from tests.bench.process import median_cpu_seconds, rss_mb
from tests.bench.results import Row
from tests.fix_local import WRITER

WINDOW = 10
ROWS = 1_000_000


def run() -> Iterator[Row]:
    yield from _memory()
    codec = Codec()
    for flows, label, target in ((500, "500 flows a batch", 8.0), (0, "every packet a new flow", 1.0)):
        batches = list(traffic.batches(64 if flows else 24, flows))
        messages = [codec.encode_packet_batch(batch) for batch in batches]
        packets = len(messages) * traffic.BATCH
        # one after the other, as the worker does: what is decoded is not kept
        decode = median_cpu_seconds(lambda: deque(map(codec.decode_packet_batch, messages), 0), 5)  # noqa: B023
        window = median_cpu_seconds(lambda: _windowed(batches), 5)  # noqa: B023
        both = median_cpu_seconds(lambda: _windowed(map(codec.decode_packet_batch, messages)), 5)  # noqa: B023
        encode = median_cpu_seconds(lambda: [codec.encode_packet_batch(batch) for batch in batches], 5)  # noqa: B023
        yield Row(what=f"decode and window, {label}", value=packets / both / 1e6, unit="M packets/s", at_least=target)
        yield Row(what=f"decode, {label}", value=decode / packets * 1e9, unit="ns a packet")
        yield Row(what=f"window, {label}", value=window / packets * 1e9, unit="ns a packet")
        yield Row(what=f"encode (in the producer), {label}", value=encode / packets * 1e9, unit="ns a packet")
    yield from _into_clickhouse(codec)


def _windowed(batches: Iterable[PacketBatch]) -> Partition:
    state = partition()
    for offset, batch in enumerate(batches):
        state.take(offset, batch, now=0.0)
    return state


def partition() -> Partition:
    return Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)


def _memory() -> Iterator[Row]:
    """Before anything else: growth of a process is only seen when there is nothing free in it."""
    codec, state, count = Codec(), partition(), ROWS // traffic.BATCH
    for batch in traffic.batches(1, 0):  # allocates what is needed once
        _windowed([codec.decode_packet_batch(codec.encode_packet_batch(batch))])
    before = rss_mb(os.getpid())
    for offset, batch in enumerate(traffic.batches(count, 0)):
        state.take(offset, _owned(batch), now=0.0)
    grown = (rss_mb(os.getpid()) - before) * (1 << 20)
    flows = count * traffic.BATCH
    yield Row(what="memory of an open flow (growth of the process)", value=grown / flows, unit="bytes", at_most=400)
    yield Row(what="memory of an open flow (its columns)", value=state.nbytes / flows, unit="bytes")


def _owned(batch: PacketBatch) -> PacketBatch:
    """With columns of its own, as a decoded message has them."""
    columns: dict[str, Any] = {each.name: getattr(batch, each.name) for each in fields(batch)}
    return PacketBatch(
        **{name: value.copy() if isinstance(value, np.ndarray) else value for name, value in columns.items()}
    )


def _into_clickhouse(codec: Codec) -> Iterator[Row]:
    """Windows with as many rows as packets: grouped, made bidirectional, inserted, read back."""
    per_window = 12  # batches
    with clickhouse() as url:
        store = ClickHouseStore(
            ClickHouseSettings(
                url=url, **WRITER, database="ayaflow_bench", flows_retention_days=28_000, rollup_retention_days=28_000
            ),
            "bench.packets",
        )
        store.check()
        wall, used, published, rows = 0.0, 0.0, 0.0, 0
        for number in range(5):
            state = _windowed([])
            made = traffic.batches(
                per_window, 0, rate=1_000_000, first=number * 1000
            )  # 16 s apart: a window of its own
            for offset, batch in enumerate(made):
                state.take(offset, batch, now=0.0)
            for job in jobs(state):
                begin, cpu = time.perf_counter(), time.process_time()
                outcome = store_window(job, store)
                wall, used = wall + time.perf_counter() - begin, used + time.process_time() - cpu
                rows += outcome.rows
                begin = time.perf_counter()
                for revision, flows in outcome.publish:
                    codec.encode_flow_records(flows, topic_id=1, kafka_partition=0, revision=revision)
                published += time.perf_counter() - begin
        store.close()
    yield Row(what="rows into ClickHouse, sink included", value=rows / wall, unit="rows/s", at_least=200_000)
    yield Row(what="rows into ClickHouse: CPU of streams", value=used / rows * 1e6, unit="µs a row")
    yield Row(what="encoding a row for the flows topic", value=published / rows * 1e6, unit="µs a row")


def jobs(state: Partition) -> list[Any]:
    windows = sorted(
        WindowId(start, WINDOW) for start in range(traffic.BEGIN_NS // 10**9 - WINDOW, traffic.BEGIN_NS // 10**9 + 120)
    )
    return [job for window in windows if (job := state.begin(window)) is not None]
