"""Whoever has a partition after a rebalance reads it, or says that it does not and begins again. All parts are real."""

import signal
import time

import pytest

from tests.integration import test_recovery
from tests.integration.fix_streams import pipeline
from tests.integration.test_losses import until_acknowledged
from tests.integration.test_partitions import Node
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

PARTITIONS = 4


@pytest.mark.wide
def test_after_every_rebalance_each_partition_is_read(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=PARTITIONS) as p:
        p.start()
        nodes = [Node(p, f"n{partition}") for partition in range(PARTITIONS)]

        def all_are_read() -> None:
            for _ in range(20):  # so many that partitions wait when they are revoked
                for partition, node in enumerate(nodes):
                    node.send(partition, packets=10)
            p.until(lambda: all(node.stored() for node in nodes))

        all_are_read()
        listens, p.settings["streams_metrics_listen"] = p.metrics, "127.0.0.1:0"
        for starts, end in enumerate((signal.SIGTERM, signal.SIGKILL), start=2):
            second = p.start()
            p.until(lambda starts=starts: p.output.count("streams: started") == starts)  # type: ignore[misc]
            all_are_read()
            second.send_signal(end)
            second.wait(HANG_SECONDS)
            p.processes.remove(second)
            all_are_read()
        assert p.metrics == listens
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0
        assert "start again" not in p.output


NEVER_FETCHED = """
from faust.transport.consumer import Consumer
from streams.worker import standstill

resume = Consumer.resume_partitions
Consumer.resume_partitions = lambda self, tps: resume(self, {tp for tp in tps if tp.partition != 1})
standstill.TOLD_LOOKS, standstill.MOST_LOOKS = 1, 2
"""
"""Faust forgets to go on with a partition after a rebalance; and it is not waited for as long."""


def test_a_partition_that_faust_never_fetches_is_named_and_read_when_streams_begins_again(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server, partitions=2, prelude=NEVER_FETCHED) as p:
        process = p.start()
        held, free = Node(p, "held"), Node(p, "free")
        held.send(1)
        free.send(0)
        p.until(lambda: free.stored() and bool(p.health()["troubles"]))
        health = p.health()
        assert not health["ok"]
        assert [(each["partition"], each["error"]) for each in health["troubles"]] == [
            (1, "Kafka has messages from 0 on, and they are not fetched")
        ]
        assert process.wait(HANG_SECONDS) == 4
        assert "partition 1: Kafka has messages from 0 on, and they are not fetched; start again" in p.output
        p.prelude = ""
        p.start()
        p.until(held.stored)
        p.until(lambda: bool(p.health()["ok"]))
        assert p.stop() == 0


NEVER_COMMITS = """
import asyncio
from faust.transport.consumer import ThreadDelegateConsumer
from streams.worker import standstill

async def commit(self, offsets):
    await asyncio.Event().wait()

ThreadDelegateConsumer._commit = commit
standstill.TOLD_LOOKS, standstill.MOST_LOOKS = 1, 2
"""
"""Faust's commit is never answered, as after a broker's absence."""


def test_offsets_that_faust_never_commits_are_named_and_committed_when_streams_begins_again(
    kafka_broker: str, clickhouse_server: str
) -> None:
    node = test_recovery.Node("n1", int(time.time()) // 10 * 10 - 600, 31)
    with pipeline(kafka_broker, clickhouse_server, prelude=NEVER_COMMITS) as p:
        process = p.start()
        p.send([*(each for _ in range(20) for each in node.batches()), node.end()])
        p.until(lambda: bool(p.health().get("troubles")))
        assert [each["error"] for each in p.health()["troubles"]] == ["what is stored is not committed beyond -1"]
        assert process.wait(HANG_SECONDS) == 4
        assert "partition 0: what is stored is not committed beyond -1; start again" in p.output
        p.prelude = ""
        p.start()
        test_recovery.check(p, [node])
        until_acknowledged(p, 15)
        assert p.stop() == 0
