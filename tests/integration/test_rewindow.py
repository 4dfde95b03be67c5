"""Windows are made again from Kafka: the same as live ones, of another length, through kills and late packets."""

import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from common import kafka
from common.settings import KafkaSettings
from common.times import iso
from schemas.clickhouse.rollups import BY_TIME
from schemas.fields import STORED, names
from streams.partition.storing import MADE_AGAIN
from tests.integration.fix_rewindow import finished, killed, noon, ran
from tests.integration.fix_streams import Pipeline, pipeline
from tests.unit.streams.past import Past
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

SECONDS = 12
ROWS = ", ".join((*names(STORED), "topic_id", "kafka_partition", "revision", "record_id"))
SUMS = "sum(packets), sum(bytes), sum(packets_rev), sum(bytes_rev)"


def rows(p: Pipeline, table: str = "flows") -> list[tuple[Any, ...]]:
    return p.query(f"SELECT {ROWS} FROM {table} ORDER BY ALL")


def made(p: Pipeline, table: str) -> list[tuple[Any, ...]]:
    """Rows without what says whose they are: of windows that take the place of others, revisions are high."""
    columns = ", ".join((*names(STORED), "topic_id", "kafka_partition", f"revision % {MADE_AGAIN}"))
    return p.query(f"SELECT {columns} FROM {table} ORDER BY ALL")


@pytest.fixture
def live(kafka_broker: str, clickhouse_server: str) -> Iterator[tuple[Pipeline, list[Past], int]]:
    """Twelve seconds of two nodes, stored in windows of two seconds, and streams that goes on."""
    begin = noon()
    nodes = [Past("n1", begin, 1), Past("n2", begin, 2)]
    with pipeline(kafka_broker, clickhouse_server, partitions=2) as p:
        p.start()
        send(p, nodes)
        yield p, nodes, begin


def send(p: Pipeline, nodes: list[Past]) -> None:
    for i, node in enumerate(nodes):
        p.send([node.half_second() for _ in range(2 * SECONDS)], partition=i)
        p.send([node.end()], partition=i)
    settle(p, nodes)


def settle(p: Pipeline, nodes: list[Past]) -> None:
    packets = sum(node.packets for node in nodes)
    p.until(lambda: p.stored_packets() == packets)
    p.until(lambda: p.count("SELECT sum(arraySum(consumed_packets)) FROM ledger FINAL") == packets)


def hour(begin: int) -> list[str]:
    return ["--from", iso(begin), "--to", iso(begin + 3_600)]


def assert_rollups_are_flows(p: Pipeline) -> None:
    for table in BY_TIME:
        assert p.query(f"SELECT {SUMS}, sum(records) FROM {table}") == p.query(f"SELECT {SUMS}, count() FROM flows")
    assert "all rollups are what flows is" in ran(p, "audit", "--rollups", "--since", "4d")


def test_windows_of_the_live_length_are_the_live_ones(live: tuple[Pipeline, list[Past], int]) -> None:
    p, _, begin = live
    before = rows(p)
    assert p.count("SELECT uniqExact(window_begin) FROM flows") == SECONDS // 2
    said = ran(p, "rewindow", *hour(begin), "--window", "2s", "--into", "again")
    assert f"{len(before):,} rows" in said
    assert "kept in the table again" in said
    assert rows(p, "again") == before
    assert {row[-2] for row in before} == {0}  # nothing came late
    assert any(row for row in before if "www.example.org" in row)  # names, too
    assert "again already" in ran(p, "rewindow", *hour(begin), "--window", "2s", "--into", "again", code=2)
    ran(p, "rewindow", *hour(begin), "--window", "2s")  # and in their place nothing changes
    assert rows(p) == before
    assert_rollups_are_flows(p)
    assert p.audit()[0] == 0
    assert p.stop() == 0


def test_windows_of_a_second_add_up_and_the_audit_knows_them(live: tuple[Pipeline, list[Past], int]) -> None:
    p, nodes, begin = live
    before = p.query(f"SELECT node, interface, direction, primary, {SUMS} FROM flows GROUP BY ALL ORDER BY ALL")
    said = ran(p, "rewindow", *hour(begin), "--window", "1s")
    assert "as the ledger says" in said
    assert p.query("SELECT DISTINCT window_seconds FROM flows") == [(1,)]
    assert p.count("SELECT uniqExact(window_begin) FROM flows") == SECONDS
    assert p.count("SELECT sum(packets + packets_rev) FROM flows") == sum(node.packets for node in nodes)
    # who is initiator may be known a second earlier or later: sums by passage, both directions, do not change
    assert {row[:2] for row in before} == {("n1", "eth0"), ("n2", "eth0")}
    assert_rollups_are_flows(p)
    code, told = p.audit()
    assert code == 0, told["message"]
    assert [table for (table,) in p.query("SHOW TABLES") if table.startswith("rewindow_")] == ["rewindow_progress"]
    # what comes late for these windows is stored beside them, once, also by who reads again what they were made of
    late = [Past(node.name, begin + 4, 9 + i, ring_id=8) for i, node in enumerate(nodes)]
    for i, node in enumerate(late):
        p.send([*(node.half_second() for _ in range(3)), node.end()], partition=i)
    p.stop(signal.SIGKILL)
    p.start()
    settle(p, [*nodes, *late])
    p.until(lambda: p.audit()[0] == 0)
    assert p.query("SELECT DISTINCT window_seconds FROM flows ORDER BY 1") == [(1,), (2,)]
    assert p.count("SELECT min(revision) FROM flows WHERE window_seconds = 2") > 0
    assert_rollups_are_flows(p)
    assert p.stop() == 0


def test_a_filter_keeps_what_matches(live: tuple[Pipeline, list[Past], int]) -> None:
    p, _, begin = live
    words = ["--window", "1s", "--filter", "dst_addr = 10.0.1.101 and protocol = tcp"]
    assert "--into NAME" in ran(p, "rewindow", *hour(begin), *words, code=2)
    ran(p, "rewindow", *hour(begin), *words, "--into", "some")
    assert p.query("SELECT DISTINCT toString(dst_addr), protocol FROM some") == [("::ffff:10.0.1.101", 6)]
    whole = p.count("SELECT sum(packets) FROM flows WHERE dst_addr = toIPv6('10.0.1.101') AND protocol = 6")
    assert 0 < p.count("SELECT sum(packets) FROM some") <= whole
    first = TopicPartition(p.topics.packets, 0, 3)  # Kafka removes the oldest messages, as retention does
    admin = kafka.admin(KafkaSettings(bootstrap_servers=p.kafka))  # held until the answer is there
    admin.delete_records([first])[first].result(HANG_SECONDS)
    said = ran(p, "rewindow", *hour(begin), "--window", "1s", "--into", "gone", code=2)
    assert "no longer has packets from" in said
    assert "it is possible from" in said
    assert p.stop() == 0


@pytest.mark.parametrize("each", [2, pytest.param(10, marks=pytest.mark.wide)])
def test_kills_change_nothing(live: tuple[Pipeline, list[Past], int], each: int) -> None:
    p, _, begin = live
    words = ["rewindow", *hour(begin), "--window", "1s"]
    began = time.monotonic()
    ran(p, *words, "--into", "whole")
    whole, want = time.monotonic() - began, made(p, "whole")
    r, kills = random.Random(17), 0
    for place in (*(["--into", f"into_{n // 5}"] for n in range(each)), *([] for _ in range(each))):
        if killed(p, r.uniform(0.3, 1.0) * whole, *words, *place):
            kills += 1
        elif not place:
            whole /= 2  # the machine has less to do than it had
    assert kills >= each // 2
    for n in range(0, each, 5):  # what no kill let end
        finished(p, *words, "--into", f"into_{n // 5}")
        assert made(p, f"into_{n // 5}") == want
    ran(p, *words)
    assert made(p, "flows") == want
    assert_rollups_are_flows(p)
    assert p.audit()[0] == 0
    assert p.query("SHOW TABLES LIKE 'rewindow_%\\\\_%'") == []
    assert p.stop() == 0
