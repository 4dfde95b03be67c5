"""`storage.packets`: each packet is in the table once, whatever is killed; the questions of the page have answers."""

import random
import re
import signal
import time

import pytest

from tests.fix_local import REPOSITORY
from tests.integration.fix_streams import pipeline
from tests.unit.streams.past import Past

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

QUESTIONS = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "docs/windows.md").read_text(), re.DOTALL)


def test_each_packet_is_kept_once_through_kills(kafka_broker: str, clickhouse_server: str) -> None:
    nodes = [Past(f"n{n}", int(time.time()) - 100, n) for n in range(2)]
    r = random.Random(1)
    with pipeline(kafka_broker, clickhouse_server, partitions=2, storage_packets="1h") as p:
        entries = 0
        for round_ in range(3):
            p.start()
            for _ in range(8):
                for i, node in enumerate(nodes):
                    one = node.half_second(20)
                    entries += len(one)
                    p.send([one, one] if r.random() < 0.3 else [one], partition=i)  # some come twice
                time.sleep(0.3)
            if round_ < 2:
                p.stop(signal.SIGKILL)
        wanted = sum(node.packets for node in nodes)
        for i, node in enumerate(nodes):
            p.send([node.end()], partition=i)
        time.sleep(1.1)
        for i, node in enumerate(nodes):  # a message of another second completes the block before
            p.send([node.half_second(0)], partition=i)
        p.until(lambda: p.stored_packets() >= wanted)
        p.until(lambda: p.count("SELECT count() FROM packets") >= entries)
        assert p.count("SELECT count() FROM packets") == entries
        kept = p.query("SELECT node, protocol, sum(packets), sum(bytes) FROM packets GROUP BY ALL ORDER BY ALL")
        both = "sum(packets + packets_rev), sum(bytes + bytes_rev)"
        assert kept == p.query(f"SELECT node, protocol, {both} FROM flows GROUP BY ALL ORDER BY ALL")
        assert len(kept) == 4
        p.until(lambda: p.audit()[0] == 0 or not p.audit()[1]["differs"])
        assert len(QUESTIONS) == 4
        for question in QUESTIONS:
            assert p.query(question), question
        assert p.query("SELECT DISTINCT node FROM packets WHERE src_port = 8101 AND NOT has([6, 17], protocol)") == []
        assert p.stop() == 0


def test_packets_are_not_kept_unless_it_is_said(kafka_broker: str, clickhouse_server: str) -> None:
    node = Past("n1", int(time.time()) - 100, 1)
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        p.send([node.half_second(), node.end()])
        p.until(lambda: p.stored_packets() == node.packets)
        assert ("packets",) not in p.query("SHOW TABLES")
        assert p.stop() == 0
