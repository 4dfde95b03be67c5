"""ayaflow.consume on one core (CPU time): messages to columns, and from a real Kafka to parts."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import Producer

from ayaflow.consume import Flows, Packets
from ayaflow.consume.reading import Reading
from common import kafka
from common.settings import KafkaSettings
from schemas.avro.codec import Codec
from schemas.topics import topics
from streams.partition.storing import store_window
from streams.testing import MemoryStore
from tests.bench import traffic
from tests.bench.bench_streams import jobs, partition
from tests.bench.process import median_cpu_seconds
from tests.bench.results import Row
from tests.fix_local import running_kafka, temporary_directory
from tests.unit.ayaflow.consume.fetched import fetched

RECORDS = 60_000
BATCHES = 256
ROUNDS = 5


def run() -> Iterator[Row]:
    codec = Codec()
    records = [value for _, value in _records(codec, 0)]
    packets = [codec.encode_packet_batch(batch) for batch in traffic.batches(BATCHES, 500)]
    decode = median_cpu_seconds(lambda: codec.decode_flow_records(records), ROUNDS)
    yield Row(what="flow records to columns", value=len(records) / decode / 1e6, unit="M records/s", at_least=1.0)
    once = median_cpu_seconds(lambda: _parts(Flows(), records, RECORDS), ROUNDS)
    yield Row(what="the same, each record_id once", value=len(records) / once / 1e6, unit="M records/s")
    once = median_cpu_seconds(lambda: _parts(Packets(), packets, 16), ROUNDS)
    count = BATCHES * traffic.BATCH
    yield Row(what="packets to columns, each once", value=count / once / 1e6, unit="M packets/s", at_least=5.0)
    yield from _from_kafka(codec, packets)


def _records(codec: Codec, revision: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of a window of as many flows as records."""
    state, store = partition(), MemoryStore()
    for offset, batch in enumerate(traffic.batches(-(-RECORDS // traffic.BATCH), 0)):
        state.take(offset, batch, now=0.0)
    for job in jobs(state):
        store_window(job, store)
    flows = max((rows for _, rows in store.blocks.values()), key=len)
    keys, values = codec.encode_flow_records(flows, topic_id=1, kafka_partition=0, revision=revision)
    return list(zip(keys, values, strict=True))[:RECORDS]


def _parts(reader: Reading[Any, Any], values: Sequence[bytes], size: int) -> None:
    memory = reader._memory()
    for begin in range(0, len(values), size):
        some = values[begin : begin + size]
        assert len(reader._part(fetched(memory, some, first=begin)))


def _from_kafka(codec: Codec, packets: Sequence[bytes]) -> Iterator[Row]:
    with temporary_directory() as directory, running_kafka(directory) as (bootstrap, _):
        settings = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=f"b{uuid.uuid4().hex}.")
        kafka.create_missing(settings, topics(settings))
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 20})
        for revision in range(8):
            for key, value in _records(codec, revision):
                producer.produce(f"{settings.topic_prefix}flows", value, key)
            producer.flush()
        for value in packets:
            producer.produce(f"{settings.topic_prefix}packets", value)
        producer.flush()
        flows = _cost(lambda: Flows(bootstrap, topic=f"{settings.topic_prefix}flows"), 8 * RECORDS)
        of_packets = _cost(lambda: Packets(bootstrap, topic=f"{settings.topic_prefix}packets"), BATCHES * traffic.BATCH)
    yield Row(what="flow records from Kafka, with librdkafka's threads", value=1 / flows / 1e6, unit="M records/CPU s")
    yield Row(what="packets from Kafka, likewise", value=1 / of_packets / 1e6, unit="M packets/CPU s")


def _cost(reader: Callable[[], Reading[Any, Any]], count: int) -> float:
    """CPU seconds of a row, all threads together."""
    begin = time.process_time()
    with reader() as reading:
        assert sum(map(len, reading)) == count
    return (time.process_time() - begin) / count
