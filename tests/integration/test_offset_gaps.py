"""Offsets without a message, and messages that Faust leaves out: all is stored once, and committed. All is real."""

import signal
import time

import pytest
from confluent_kafka import Producer

from tests.integration.fix_streams import Pipeline, pipeline
from tests.integration.test_losses import remove_all, until_acknowledged
from tests.integration.test_recovery import Node, check
from tests.unit.streams.batches import SECOND
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


class Transactions:
    """Sends each message in a transaction of its own, as exactly-once mirrors may: a mark follows it."""

    def __init__(self, p: Pipeline) -> None:
        self._p = p
        self._producer = Producer({"bootstrap.servers": p.kafka, "transactional.id": p.prefix, "linger.ms": 0})
        self._producer.init_transactions(HANG_SECONDS)

    def send(self, node: Node, rounds: int) -> int:
        """Some rounds of batches and a heartbeat that closes all windows. Returns how many messages."""
        batches = [each for _ in range(rounds) for each in node.batches()]
        for each in (*batches, node.end()):
            self._producer.begin_transaction()
            self._producer.produce(
                self._p.topics.packets, self._p.codec.encode_packet_batch(each), key=each.node, partition=0
            )
            self._producer.commit_transaction(HANG_SECONDS)
        node.clock += 120 * SECOND
        return len(batches) + 1


def begin() -> int:
    return int(time.time()) // 10 * 10 - 3600


def test_marks_of_transactions_hold_up_neither_what_is_stored_nor_what_is_committed(
    kafka_broker: str, clickhouse_server: str
) -> None:
    """Faust alone commits one of these gaps each half a second (see docs/decisions/0015)."""
    with pipeline(kafka_broker, clickhouse_server) as p:
        transactions, node, sent = Transactions(p), Node("n1", begin(), 21), 0
        for rounds, end in ((60, signal.SIGTERM), (15, signal.SIGKILL)):  # where it begins again is a mark
            p.start()
            sent += transactions.send(node, rounds)
            p.until(lambda: p.stored_packets() == node.packets)
            begun = time.monotonic()
            until_acknowledged(p, 2 * sent - 12)  # the last message of each series of a ring is kept back
            assert time.monotonic() - begun < 50  # Faust alone: half a second for each of 60 or more
            p.stop(end)
        p.start()
        p.until(lambda: p.health().get("lag_messages") == 0)
        check(p, [node])
        assert p.stop() == 0


def test_a_gap_behind_the_first_message_of_all_does_not_end_committing(
    kafka_broker: str, clickhouse_server: str
) -> None:
    """Faust alone does not see a gap behind offset 0, and waits for what will never come."""
    node = Node("n1", begin(), 22)
    with pipeline(kafka_broker, clickhouse_server) as p:
        process = p.start()
        p.send([node.end()])
        p.until(lambda: p.metric("ayaflow_streams_batches_total") == 1 if p.health() else False)
        process.send_signal(signal.SIGSTOP)
        time.sleep(
            2
        )  # what it asked the broker for is answered: there was nothing. It stays in the group for 6 seconds
        p.send([node.end() for _ in range(5)])
        assert remove_all(p) == 6
        process.send_signal(signal.SIGCONT)
        p.send([each for _ in range(20) for each in node.batches()])
        node.clock += 120 * SECOND
        p.send([node.end(), node.end()])
        p.until(lambda: p.stored_packets() == node.packets)
        until_acknowledged(p, 6 + 20)
        p.stop(signal.SIGKILL)
        p.start()
        p.until(lambda: p.health().get("lag_messages") == 0)
        assert p.query("SELECT kind, gap_start, gap_end FROM losses FINAL") == [("messages", 1, 6)]
        assert p.stop() == 0


LEAVES_OUT = """
from faust.transport.consumer import Consumer

getmany = Consumer.getmany

async def most(self, timeout):
    async for tp, message in getmany(self, timeout):
        if message.offset not in (30, 31):
            yield tp, message

Consumer.getmany = most
"""
"""Faust does not hand over all that it has fetched, as it does with a partition that is paused in its own way."""


def test_a_message_that_faust_leaves_out_is_read_when_streams_begins_again(
    kafka_broker: str, clickhouse_server: str
) -> None:
    node = Node("n1", begin(), 23)
    with pipeline(kafka_broker, clickhouse_server, prelude=LEAVES_OUT) as p:
        p.send([each for _ in range(40) for each in node.batches()])
        node.clock += 120 * SECOND
        p.send([node.end(), node.end()])
        process = p.start()
        code = process.wait(HANG_SECONDS)
        assert code not in {0, 1}, p.output[-4000:]
        assert "did not come, and" in p.output
        assert p.stored_packets() < node.packets
        p.prelude = ""
        p.start()
        check(p, [node])
        assert p.stop() == 0
