"""Windows that ClickHouse refuses, and a flows topic that takes nothing: the rest of the table goes on. Real parts."""

import signal
import time
from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from common.settings import ClickHouseSettings
from console.audit import sentences
from console.audit.read import Range, read
from console.store.client import Store
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

SHORT = "from streams.worker.output import refusals; refusals.BRING_IN_SECONDS = 1.0\n"


class Node:
    """Sends a packet a window to each of some ports; each batch closes its epoch, and its window."""

    def __init__(self, p: Pipeline, name: str, partition: int) -> None:
        self.p, self.name, self.partition = p, name, partition
        self.start = int(time.time()) // 60 * 60 - 300
        self.events = self.epoch = 0

    def send(self, *ports: int) -> int:
        """Returns the start of the window."""
        self.epoch += 1
        window = self.start + 2 * self.epoch
        packets = [Packet(time_ns=window * SECOND, dst_port=port, epoch=self.epoch) for port in ports]
        closing = counters(self.epoch, packets, start_ns=window * SECOND, end_ns=(window + 1) * SECOND)
        made = batch(
            packets, node=self.name, ring_start=self.events * STRIDE, clock_ns=(window + 2) * SECOND, counters=closing
        )
        self.events += len(packets)
        self.p.send([made], partition=self.partition)
        return window


def losses(p: Pipeline) -> list[str]:
    """What the audit says of windows that are refused."""
    with Store(ClickHouseSettings(url=p.clickhouse, database=p.database)) as store:
        found = read(store, Range(since=datetime(2020, 1, 1, tzinfo=UTC))).losses
    return [sentences._lost(loss) for loss in found]


def ports(p: Pipeline) -> list[int]:
    return [int(port) for (port,) in p.query("SELECT dst_port FROM flows ORDER BY ALL")]


def test_a_window_that_is_refused_holds_up_no_other_and_is_stored_in_the_end(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=2, prelude=SHORT) as p:
        one, other = Node(p, "n1", 0), Node(p, "n2", 1)
        p.start()
        one.send(80)
        p.until(lambda: p.stored_packets() == 1)
        p.command("ALTER TABLE flows ADD CONSTRAINT seven CHECK dst_port != 7001")
        window = one.send(7001, 443)
        for port in (7002, 7003):
            one.send(port)
            other.send(port)
        p.until(lambda: ports(p) == [80, 7002, 7002, 7003, 7003])  # nobody waits for it
        (trouble,) = p.health()["troubles"]
        assert (trouble["partition"], "VIOLATED_CONSTRAINT" in trouble["error"]) == (0, True)
        assert p.count("SELECT count() FROM refused FINAL") == 1  # before a later window was stored
        assert p.query("SELECT nodes, packets, toUnixTimestamp(window_begin) FROM refused") == [(["n1"], 2, window)]
        p.until(lambda: "set aside" in str(p.health().get("clickhouse")))
        (said,) = losses(p)
        assert said.startswith("n1: 2 packet(s) of the window ")
        one.send(7004)
        p.until(lambda: 7004 in ports(p))
        p.stop(signal.SIGKILL)  # whatever was acknowledged of it
        p.command("ALTER TABLE flows DROP CONSTRAINT seven")
        p.start()
        one.send(7005)
        p.until(lambda: losses(p) == [])
        p.until(lambda: 7005 in ports(p))
        assert ports(p) == [80, 443, 7001, 7002, 7002, 7003, 7003, 7004, 7005]
        assert p.query("SELECT sum(packets), sum(records) FROM services_1m") == [(9, 9)]
        p.until(lambda: p.count("SELECT sum(arraySum(consumed_packets)) FROM ledger FINAL") == 9)
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0


@pytest.mark.wide
def test_a_refused_window_is_stored_once_wherever_streams_is_killed(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server, prelude=SHORT) as p:
        node = Node(p, "n1", 0)
        p.start()
        node.send(80)
        p.until(lambda: p.stored_packets() == 1)
        p.command("ALTER TABLE flows ADD CONSTRAINT seven CHECK dst_port NOT IN (7001, 7003)")
        for port in range(7001, 7006):
            node.send(port)
        for pause in (0.3, 1.2, 2.0):
            p.until(lambda: p.stored_packets() >= 4)
            time.sleep(pause)
            p.stop(signal.SIGKILL)
            p.start()
        p.until(lambda: p.count("SELECT count() FROM refused FINAL") == 2)
        p.command("ALTER TABLE flows DROP CONSTRAINT seven")
        node.send(7006)
        p.until(lambda: p.stored_packets() >= 7)
        p.until(lambda: losses(p) == [])
        assert ports(p) == [80, *range(7001, 7007)]
        assert p.query("SELECT sum(packets) FROM flows_1h") == [(7,)]
        assert p.stop() == 0


def published(p: Pipeline) -> Node:
    """A node whose first window is stored, and its flow published."""
    node = Node(p, "n1", 0)
    p.start()
    node.send(80)
    p.until(lambda: len(p.messages(p.topics.flows)) == 1)
    return node


def test_while_the_flows_topic_takes_nothing_the_table_goes_on_and_what_waited_is_published(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        node = published(p)
        largest_message(p, 1)
        for port in range(7001, 7004):
            node.send(port)
            p.until(lambda port=port: port in ports(p))  # type: ignore[misc]
        p.until(lambda: "too large" in p.health()["kafka"])
        p.until(lambda: p.health()["unpublished_windows"] == 3)
        p.stop(signal.SIGKILL)  # who comes next sends it
        p.start()
        node.send(7004)
        p.until(lambda: 7004 in ports(p))
        assert len(p.messages(p.topics.flows)) == 1
        largest_message(p, 8 << 20)
        p.until(lambda: len({message.key() for message in p.messages(p.topics.flows)}) == 5)  # a connection each
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0


def largest_message(p: Pipeline, octets: int) -> None:
    """That the flows topic takes."""
    change = ConfigEntry("max.message.bytes", str(octets), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, p.topics.flows, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": p.kafka})
    admin.incremental_alter_configs([resource])[resource].result(60)


def test_a_flows_topic_that_is_deleted_under_traffic_holds_up_nothing(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        node = published(p)
        admin = AdminClient({"bootstrap.servers": kafka_broker})
        admin.delete_topics([p.topics.flows])[p.topics.flows].result(60)
        gone = time.monotonic()
        for port in range(7001, 7006):
            node.send(port)
        p.until(lambda: ports(p) == [80, *range(7001, 7006)])
        assert time.monotonic() - gone < 100  # held up, each of the five would wait for 30 s
        p.until(lambda: "it is made anew" in p.output)  # by streams itself
        node.send(7006)
        p.until(lambda: 7006 in ports(p) and p.health()["unpublished_windows"] == 0)
        assert p.messages(p.topics.flows)
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0
