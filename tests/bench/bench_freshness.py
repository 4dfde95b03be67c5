"""How long a packet takes to its row in ClickHouse and to ayaflow.live, at 100,000 packets a second."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer

from schemas.avro.registry import newest
from tests.bench import generator
from tests.bench.places import pair, temporary_directory
from tests.bench.process import Every
from tests.bench.results import Row
from tests.e2e.system import System, ayaflow_up

RATE, SECONDS, FLOWS, WINDOW = 100_000, 30, 500, 2
Seen = list[tuple[float, int]]
"""(wall time in seconds, packets that are visible then)."""


def run() -> Iterator[Row]:
    with (
        temporary_directory() as directory,
        pair() as (sender, watched),
        ayaflow_up(directory / "data", watched, window_seconds=WINDOW) as system,
    ):
        stored: Seen = []
        live = _Live(system)
        with Every(0.05, lambda: stored.append((time.time(), _stored(system)))), Every(0.01, live.poll):
            sent = generator.send(sender, packets=RATE * SECONDS, flows=FLOWS, rate=RATE)
            deadline = time.monotonic() + 20
            while (not stored or stored[-1][1] < sent.packets) and time.monotonic() < deadline:
                time.sleep(0.1)
        live.close()
        missing = sent.packets - stored[-1][1]
    to_row = _latencies(stored, sent)
    to_live = _latencies(live.seen, sent)
    yield Row(what="packet to row, p50", value=float(np.quantile(to_row, 0.5)), unit="s")
    beyond = float(np.quantile(to_row, 0.99)) - WINDOW
    yield Row(what=f"packet to row, p99, less the window of {WINDOW} s", value=beyond, unit="s", at_most=1.5)
    yield Row(what="packet to ayaflow.live, p50", value=float(np.quantile(to_live, 0.5)), unit="s")
    yield Row(what="packet to ayaflow.live, p99", value=float(np.quantile(to_live, 0.99)), unit="s", at_most=1.5)
    yield Row(what="packets that never became a row", value=missing, unit="packets", at_most=0)


def _stored(system: System) -> int:
    return int(system.rows("SELECT sum(packets + packets_rev) AS n FROM ayaflow.flows")[0]["n"])


class _Live:
    """Adds up what the messages of ayaflow.live say has passed."""

    def __init__(self, system: System) -> None:
        self._schema = fastavro.parse_schema(json.loads(newest("LiveStats")))
        self._consumer = Consumer(
            {
                "bootstrap.servers": system.kafka,
                "group.id": "bench",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe(["ayaflow.live"])
        self.seen: Seen = []
        self._total = 0

    def poll(self) -> None:
        message = self._consumer.poll(0)
        if message is None or message.error():
            return
        value = message.value()
        assert value is not None
        stats: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schema, None)
        self._total += sum(stats["interface_packets"])
        self.seen.append((time.time(), self._total))

    def close(self) -> None:
        self._consumer.close()


def _latencies(seen: Seen, sent: generator.Sent) -> npt.NDArray[np.float64]:
    """Seconds from the sending of packet n to the moment when n packets are visible, for each hundredth packet."""
    times, visible = np.array([at for at, _ in seen]), np.array([count for _, count in seen])
    numbers = np.arange(100, int(visible.max()) + 1, 100)
    at = times[np.searchsorted(visible, numbers)]
    return np.asarray(at - (sent.started_ns / 1e9 + numbers / sent.rate))
