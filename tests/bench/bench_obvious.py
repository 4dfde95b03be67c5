"""Packets windowed a second: the streams component, and a plain Faust app with one PacketEvent a message."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer

from schemas.avro.codec import Codec
from schemas.packets import PacketEvents
from tests.bench import traffic
from tests.bench.places import clickhouse, create_topic, kafka
from tests.bench.process import cpu_seconds
from tests.bench.results import Row
from tests.integration.fix_streams import Pipeline, pipeline

MESSAGES, BATCHES, FLOWS = 40_000, 1_500, 500


def run() -> Iterator[Row]:
    with kafka() as broker, clickhouse() as url:
        plain = _plain(broker)
        yield Row(what="plain Faust, a PacketEvent a message, Table.tumbling", value=plain, unit="packets/s")
        with pipeline(broker, url, streams_window_seconds="10", streams_publish_flows="false") as ours:
            rate, used = _ours(ours)
        yield Row(
            what="ayaflow streams, from Kafka, windows stored",
            value=rate,
            unit="packets/s",
            against="plain Faust",
            ratio=rate / plain,
        )
        yield Row(what="ayaflow streams: how many times plain Faust", value=rate / plain, unit="times", at_least=1000)
        yield Row(what="ayaflow streams: CPU", value=used, unit="CPU s per M packets")


def _plain(broker: str) -> float:
    topic, codec = create_topic(broker, f"bench-events-{time.time_ns()}"), Codec()
    producer = Producer({"bootstrap.servers": broker, "queue.buffering.max.messages": 200_000})
    for batch in traffic.batches(-(-MESSAGES // traffic.BATCH), FLOWS):
        positions = batch.ring_start + np.arange(len(batch), dtype=np.int64) * 80
        for value in codec.encode_packet_events(PacketEvents(batch=batch, ring_position=positions)):
            producer.produce(topic, value=value, key=b"bench")
    if producer.flush(30):
        raise RuntimeError("Kafka did not take the messages")
    command = [sys.executable, "-m", "tests.bench.plain_faust", broker, topic, str(MESSAGES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    found = re.search(r"rate (\S+)", done.stdout)
    if not found:
        raise RuntimeError(f"the plain Faust app did not end well: {done.stderr[-2000:]}")
    return float(found[1])


def _ours(pipe: Pipeline) -> tuple[float, float]:
    """(packets a second, CPU seconds a million packets) while a topic that is full already is read."""
    pipe.send(list(traffic.batches(BATCHES, FLOWS)))
    process = pipe.start()
    pipe.until(lambda: pipe.health().get("partitions", 0) > 0)
    total = BATCHES * traffic.BATCH
    seen: list[tuple[float, float, float]] = []
    while not seen or seen[-1][1] < 0.95 * total:
        seen.append((time.monotonic(), pipe.metric("ayaflow_streams_packets_total"), cpu_seconds(process.pid)))
        time.sleep(0.05)
    first = next(each for each in seen if each[1] > 0)
    last = seen[-1]
    return (last[1] - first[1]) / (last[0] - first[0]), (last[2] - first[2]) / (last[1] - first[1]) * 1e6
