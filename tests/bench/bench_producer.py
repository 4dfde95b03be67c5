"""The producer process: CPU a packet from the ring to Kafka's acknowledgement, memory, idle cost, and its limit."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench import generator
from tests.bench.kernel import DETAILS
from tests.bench.node import Node, producer
from tests.bench.places import bpf_filesystem, kafka, pair
from tests.bench.process import cpu_seconds, peak_rss_mb, wait_until
from tests.bench.results import Row

RATE, SECONDS, IDLE_SECONDS, FEED_SECONDS, SETTLED_SECONDS = 300_000, 8, 10, 8, 1.5
RARELY = {"capture_epoch_ms": 5_000}
CPU_TARGETS = {
    ("packet", 4): 0.15,
    ("packet", 500): None,
    ("packet", 50_000): 0.50,
    ("flow", 4): 0.004,
    ("flow", 500): None,
    ("flow", 50_000): 0.25,
}
RSS_TARGETS = {4: 80, 500: None, 50_000: 120}


def run() -> Iterator[Row]:
    with kafka() as broker, bpf_filesystem() as bpffs:
        for detail in DETAILS:
            settings = {} if detail == "packet" else {"capture_detail": detail}
            for flows in (4, 500, 50_000):
                with pair() as (sender, watched), producer(broker, bpffs, watched, **settings) as node:
                    if flows == 4:
                        yield _idle(node, detail)
                    yield from _at_rate(node, sender, watched, detail, flows)
            if detail == "flow":
                with pair() as (sender, watched), producer(broker, bpffs, watched, **settings, **RARELY) as node:
                    time.sleep(IDLE_SECONDS)
                    yield _used(node, sender, "detail: flow, 4 flows, capture.epoch_ms 5000", 4)
            for flows in (4, 500):
                with pair() as (_, watched), producer(broker, bpffs, watched, **settings) as node:
                    yield from _fed(node, detail, flows)


def _idle(node: Node, detail: str) -> Row:
    """Nothing passes: a heartbeat a second, a look at the ring four times a second, and Kafka's client."""
    time.sleep(2)
    before = cpu_seconds(node.pid)
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(node.pid) - before) / IDLE_SECONDS * 100
    return Row(what=f"detail: {detail}, idle", value=share, unit="% of a core", at_most=0.5)


def _at_rate(node: Node, sender: str, watched: str, detail: str, flows: int) -> Iterator[Row]:
    label = f"detail: {detail}, {flows:,} flows"
    received = generator.received(watched)
    yield _used(node, sender, label, flows, CPU_TARGETS[detail, flows])
    arrived = generator.received(watched) - received
    node.settled(arrived)
    yield Row(what=f"{label}, highest memory", value=peak_rss_mb(node.pid), unit="MB RSS", at_most=RSS_TARGETS[flows])
    yield Row(
        what=f"{label}, lost without being counted",
        value=arrived - node.acknowledged() - node.dropped(),
        unit="packets",
        at_most=0,
    )
    yield Row(what=f"{label}, dropped and counted", value=node.dropped(), unit="packets", at_most=0)


def _used(node: Node, sender: str, label: str, flows: int, target: float | None = None) -> Row:
    before = cpu_seconds(node.pid)
    sent = generator.send(sender, packets=RATE * SECONDS, flows=flows, rate=RATE)
    time.sleep(SETTLED_SECONDS)  # asking it whether it is ready would be counted
    used = cpu_seconds(node.pid) - before
    return Row(
        what=f"{label}, {RATE:,} packets/s", value=used / sent.packets * 1e6, unit="CPU s per M packets", at_most=target
    )


def _fed(node: Node, detail: str, flows: int) -> Iterator[Row]:
    """As fast as TEST_RUN on the other core can fill the ring; Kafka's broker takes its share of the cores too."""
    command = [sys.executable, "-m", "tests.bench.feed", str(node.pins / "ingress"), str(flows), str(FEED_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as feeding:
        wait_until(lambda: node.acknowledged() > 0, 20, "the feed")
        time.sleep(1)
        before, added, used, begin = node.acknowledged(), node.added_up(), cpu_seconds(node.pid), time.monotonic()
        time.sleep(FEED_SECONDS - 3)
        used, seconds = cpu_seconds(node.pid) - used, time.monotonic() - begin
        stored, added = node.acknowledged() - before, node.added_up() - added
        fed = int(feeding.communicate()[0])
    node.settled(fed)
    label = f"detail: {detail}, {flows:,} flows, fed by TEST_RUN"
    yield Row(what=f"{label}: to Kafka", value=stored / seconds / 1e6, unit="M packets/s", at_least=4)
    if detail == "packet":
        yield Row(
            what=f"{label}: of these, with an event each",
            value=(stored - added) / seconds / 1e6,
            unit="M packets/s",
            at_least=4,
        )
    yield Row(what=f"{label}: CPU", value=used / stored * 1e6, unit="CPU s per M packets")
    yield Row(what=f"{label}: fed", value=fed / FEED_SECONDS / 1e6, unit="M packets/s")
    yield Row(what=f"{label}: dropped and counted", value=node.dropped() / fed, unit="of what was fed")
    yield Row(
        what=f"{label}: lost without being counted",
        value=fed - node.acknowledged() - node.dropped(),
        unit="packets",
        at_most=0,
    )
