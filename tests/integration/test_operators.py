"""Users' operators in a real worker: what they find is stored once, whatever is killed, and they hold nothing up."""

import json
import random
import signal
import time
from typing import Any

import pytest

from schemas.packets import PacketBatch
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

COUNTING, RAISING, SLOW = (f"tests.integration.fix_operators:{name}" for name in ("Counting", "Raising", "Slow"))
SYN, RST_ACK = 0x02, 0x14


class Node:
    """Half a second of packets a batch; now and then one is late."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.clock, self._position, self._epoch = int(time.time() - 3600) // 10 * 10 * SECOND, 0, 1
        self.packets = 0

    def batch(self) -> PacketBatch:
        r = self._random
        packets = [
            Packet(
                time_ns=self.clock + r.randint(0, SECOND // 2 - 1) - (4 * SECOND if r.random() < 0.05 else 0),
                src_port=r.randint(1024, 1100),
                epoch=self._epoch,
            )
            for _ in range(r.randint(10, 40))
        ]
        return self._sent(packets)

    def scan(self, ports: int) -> PacketBatch:
        """One host tries the ports of another, which refuses."""
        packets = []
        for port in range(1, ports + 1):
            tried = Packet(
                time_ns=self.clock, src="192.0.2.1", dst="192.0.2.2", src_port=50_000, dst_port=port,
                tcp_flags=SYN, epoch=self._epoch,
            )  # fmt: skip
            refused = Packet(
                time_ns=self.clock + 1, src="192.0.2.2", dst="192.0.2.1", src_port=port, dst_port=50_000,
                tcp_flags=RST_ACK, direction=1, epoch=self._epoch,
            )  # fmt: skip
            packets += [tried, refused]
        return self._sent(packets)

    def end(self) -> PacketBatch:
        """A heartbeat that closes all windows."""
        return batch([], ring_start=self._position, clock_ns=self.clock + 60 * SECOND)

    def _sent(self, packets: list[Packet]) -> PacketBatch:
        begin, self.clock = self.clock, self.clock + SECOND // 2
        closing = counters(self._epoch, packets, start_ns=begin, end_ns=self.clock)
        made = batch(packets, ring_start=self._position, clock_ns=self.clock, counters=closing)
        self._epoch += 1
        self._position += STRIDE * len(packets)
        self.packets += len(packets)
        return made


def total(p: Pipeline, operator: str) -> int:
    return p.count(f"SELECT sum(packets) FROM operator_{operator}")


def test_what_an_operator_finds_is_there_once_although_streams_is_killed_again_and_again(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.settings["streams_operators"] = f"{COUNTING},port_scan"
        p.settings["streams_operator_options"] = "{port_scan: {targets: 75}}"
        node, chance = Node(1), random.Random(2)
        p.start()
        for _ in range(4):
            for _ in range(20):
                p.send([node.batch()])
                time.sleep(chance.uniform(0, 0.05))
            time.sleep(chance.uniform(0, 1.5))
            p.stop(signal.SIGKILL)
            p.start()
        p.send([node.scan(80), node.end()])
        p.until(lambda: p.stored_packets() == node.packets)
        p.until(lambda: total(p, "counting") == node.packets)
        assert p.query("SELECT count() - uniqExact(record_id) FROM operator_counting") == [(0,)]
        p.until(lambda: p.count("SELECT count() FROM operator_port_scan") == 1)
        assert p.query("SELECT kind, src_addr, targets FROM operator_port_scan") == [("vertical", "192.0.2.1", 80)]
        told: dict[str, dict[str, object]] = {}
        for message in p.messages(f"{p.prefix}operator.counting"):
            value = json.loads(message.value())
            assert message.key().decode() == value["record_id"]
            assert told.setdefault(value["record_id"], value) == value  # one that comes twice is the same
        assert sum(int(str(value["packets"])) for value in told.values()) == node.packets
        (scan,) = {message.value() for message in p.messages(f"{p.prefix}operator.port-scan")}
        assert json.loads(scan)["targets"] == 80
        assert p.stop() == 0


def test_operators_that_raise_or_are_slow_hold_nothing_up_and_are_named(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.settings["streams_operators"] = f"{RAISING},{SLOW},{COUNTING}"
        node = Node(3)
        p.start()
        p.send([node.batch() for _ in range(20)] + [node.end()])
        p.until(lambda: p.stored_packets() == node.packets)
        p.until(lambda: total(p, "counting") == node.packets)
        p.until(lambda: bool(p.health().get("troubles")))
        health = p.health()
        assert not health["ok"]
        errors = {each["service"]: each["error"] for each in health["troubles"]}
        assert "LookupError: this operator is broken" in errors["the operator raising"]

        def operators() -> dict[str, Any]:
            return {each["operator"]: each for each in p.health()["operators"]}

        p.until(lambda: operators()["counting"]["windows"] > 0)  # counted when its messages are sent, too
        p.until(lambda: (now := operators())["raising"]["left_out"] == now["counting"]["windows"])
        assert operators()["slow"]["windows"] == 0
        assert p.stop() == 0  # although one of them sleeps


def test_an_operator_that_is_none_is_said_before_anything_starts(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.settings["streams_operators"] = "no.such:Thing"
        assert p.start().wait(60) == 2
        assert "streams.operators: no.such:Thing cannot be made: ModuleNotFoundError" in p.output
        assert "Traceback" not in p.output
