"""Octets a packet in Kafka and a row in ClickHouse, on disk, for a mix like that of a server's uplink."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
from confluent_kafka import Producer

from common.settings import ClickHouseSettings, KafkaSettings
from schemas.avro.codec import Codec
from streams.partition.state import Partition
from streams.partition.storing import WindowId, store_window
from streams.store.clickhouse import ClickHouseStore
from tests.bench import traffic
from tests.bench.places import clickhouse, create_topic
from tests.bench.results import Row
from tests.fix_local import WRITER, running_kafka, temporary_directory

BATCHES, WINDOW = 400, 10
FOR_ROWS = 4 * BATCHES  # so many rows that ClickHouse stores each column in a file of its own, as it does with a day's


def run() -> Iterator[Row]:
    codec, batches = Codec(), list(traffic.realistic(BATCHES))
    packets = BATCHES * traffic.BATCH
    messages = [codec.encode_packet_batch(batch) for batch in batches]
    yield Row(
        what="flows a batch of 16,384 packets (mean)", value=sum(len(b.flows) for b in batches) / BATCHES, unit="flows"
    )
    yield Row(what="PacketBatch, not compressed", value=sum(map(len, messages)) / packets, unit="bytes a packet")
    for compression in ("lz4", "zstd"):
        size = _in_kafka(messages, compression)
        default = compression == KafkaSettings().compression
        yield Row(
            what=f"Kafka's log, {compression}{' (default)' if default else ''}",
            value=size / packets,
            unit="bytes a packet",
            at_most=6 if default else None,
        )
    size = _in_kafka([codec.encode_packet_batch(batch) for batch in traffic.named(traffic.realistic(BATCHES))], "zstd")
    yield Row(what="Kafka's log, zstd, flows with names", value=size / packets, unit="bytes a packet")
    for what, made, at_most in (
        ("", traffic.realistic(FOR_ROWS), 20),
        (", nine in ten with a name", traffic.named(traffic.realistic(FOR_ROWS)), 23),
    ):
        state = Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)
        for offset, batch in enumerate(made):
            state.take(offset, batch, now=0.0)
        yield from _in_clickhouse(state, what, at_most)


def _in_kafka(messages: list[bytes], compression: str) -> int:
    """Size of the topic's segments, with the producer's settings."""
    topic = f"bench-{compression}"
    with temporary_directory() as directory, running_kafka(directory) as (broker, _):
        create_topic(broker, topic)
        producer = Producer(
            {
                "bootstrap.servers": broker,
                "compression.type": compression,
                "linger.ms": 2,
                "enable.idempotence": True,
                "message.max.bytes": 1_010_000,
            }
        )
        for message in messages:
            producer.produce(topic, value=message, key=b"bench")
            producer.poll(0.001)
        if producer.flush(30):
            raise RuntimeError("Kafka did not take the messages")
        time.sleep(1)
        return sum(_used(path) for path in directory.rglob(f"{topic}-*/*.log"))


def _used(path: Path) -> int:
    """Without what is only reserved."""
    return path.stat().st_size


def _in_clickhouse(state: Partition, what: str, at_most: float) -> Iterator[Row]:
    begin = traffic.BEGIN_NS // 10**9
    with clickhouse() as url:
        store = ClickHouseStore(
            ClickHouseSettings(
                url=url, **WRITER, database="ayaflow_bench", flows_retention_days=28_000, rollup_retention_days=28_000
            ),
            "bench.packets",
        )
        rows = 0
        for start in range(begin, begin + 600, WINDOW):
            job: Any = state.begin(WindowId(start, WINDOW))
            rows += store_window(job, store).rows if job is not None else 0
        store.close()
        client = clickhouse_connect.get_client(dsn=f"{url}/ayaflow_bench", **WRITER, autogenerate_session_id=False)
        client.command("OPTIMIZE TABLE flows FINAL")
        on_disk = client.query(
            "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts "
            "WHERE active AND table = 'flows' AND database = 'ayaflow_bench'"
        ).result_rows[0]
        client.close()
    yield Row(what=f"flow rows{what}", value=rows, unit="rows")
    size = on_disk[0] / on_disk[1]
    yield Row(what=f"ClickHouse, flows table, on disk{what}", value=size, unit="bytes a row", at_most=at_most)
