"""The streams component with a real Kafka and the embedded ClickHouse: what goes in as packets comes out as flows."""

import time
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.packets import EpochCounters
from streams.metrics import LEDGER_FIGURES
from tests.integration.fix_streams import pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


def _traffic(start: int, node: str) -> tuple[list[list[Packet]], list[list[EpochCounters]]]:
    """Five seconds of two connections and a ping, one epoch a second."""
    seconds, closings = [], []
    for second in range(5):
        at, epoch = (start + second) * SECOND, second + 1
        packets = []
        for i in range(20):
            packets += [
                Packet(time_ns=at + i * 1000, tcp_flags=2 if second == i == 0 else 16, bytes=100, epoch=epoch),
                Packet(
                    time_ns=at + i * 1000 + 500,
                    src="10.0.0.2",
                    dst="10.0.0.1",
                    src_port=443,
                    dst_port=40000,
                    direction=1,
                    tcp_flags=16,
                    bytes=1400,
                    packets=3,
                    epoch=epoch,
                ),
                Packet(
                    time_ns=at + i * 1000,
                    src="2001:db8::1",
                    dst="2001:db8::2",
                    protocol=58,
                    src_port=0,
                    dst_port=0,
                    icmp_type=128,
                    epoch=epoch,
                ),
            ]
        seconds.append(packets)
        closings.append(counters(epoch, packets, start_ns=at, end_ns=at + SECOND, non_ip=2))
    return seconds, closings


def test_batches_become_flows_ledger_rows_and_messages(kafka_broker: str, clickhouse_server: str) -> None:
    start = int(time.time()) // 10 * 10 - 20
    # a slow machine must not let the node seem silent: its window would be closed early, and come in two revisions
    with pipeline(kafka_broker, clickhouse_server, streams_node_timeout_seconds="600") as p:
        p.start()
        position = 0
        seconds, closings = _traffic(start, "n1")
        sent = []
        for second, (packets, closing) in enumerate(zip(seconds, closings, strict=True)):
            sent.append(batch(packets, ring_start=position, clock_ns=(start + second + 1) * SECOND, counters=closing))
            position += STRIDE * len(packets)
        p.send([sent[0], sent[0], b"nonsense", *sent[1:]])  # one of them twice, and something foreign
        p.send([batch([], ring_start=position, clock_ns=(start + 30) * SECOND)])
        p.until(lambda: p.stored_packets() == 500)
        rows = p.query(
            "SELECT toUnixTimestamp(window_begin), protocol, IPv6NumToString(src_addr), src_port, dst_port, direction, "
            "packets, bytes, packets_rev, bytes_rev, tcp_flags, tcp_flags_rev, revision, node, interface "
            "FROM flows ORDER BY window_begin, protocol"
        )
        expected = []
        for window, n in ((start, 2), (start + 2, 2), (start + 4, 1)):
            expected += [
                (
                    window,
                    6,
                    "::ffff:10.0.0.1",
                    40000,
                    443,
                    "ingress",
                    20 * n,
                    2000 * n,
                    60 * n,
                    28000 * n,
                    18 if window == start else 16,
                    16,
                    0,
                    "n1",
                    "eth0",
                ),
                (window, 58, "2001:db8::1", 0, 0, "ingress", 20 * n, 1200 * n, 0, 0, 0, 0, 0, "n1", "eth0"),
            ]
        assert rows == expected
        assert p.query("SELECT sum(packets + packets_rev), sum(bytes + bytes_rev) FROM services_1m") == [(500, 156000)]

        p.until(lambda: p.count("SELECT count() FROM ledger FINAL") == 10)
        assert p.query(
            "SELECT sum(seen_packets), sum(emitted_packets), sum(non_ip_packets), sum(arraySum(consumed_packets)), "
            "sum(arraySum(consumed_bytes)), countIf(emitted_packets != arraySum(consumed_packets)) "
            "FROM ledger FINAL"
        ) == [(520, 500, 20, 500, 156000, 0)]

        (letter,) = p.messages(p.topics.dead_letter)
        headers = dict(letter.headers())
        assert letter.value() == b"nonsense"
        assert headers["source-topic"] == p.topics.packets.encode()
        assert (headers["source-partition"], headers["source-offset"]) == (b"0", b"2")
        assert b"framing" in headers["error"]

        p.until(lambda: len(p.messages(p.topics.flows)) == 6)
        assert p.metric("ayaflow_streams_duplicate_packets_total") == 100
        assert p.metric("ayaflow_streams_stored_packets_total") == 500
        name = 'ayaflow_streams_ledger_packets_total{{figure="{}"}}'
        figures = {figure: p.metric(name.format(figure)) for figure in LEDGER_FIGURES}
        counted = {"seen": 520, "emitted": 500, "non_ip": 20, "consumed": 500}
        assert figures == dict.fromkeys(LEDGER_FIGURES, 0) | counted
        health = p.health()
        assert health["ok"]
        assert health["dead_letters"] == 1
        assert health["lag_messages"] == 0
        assert p.stop() == 0


def test_a_message_that_is_huge_once_it_is_unpacked_is_cut_and_reading_goes_on(
    kafka_broker: str, clickhouse_server: str
) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        hostile = Producer(
            {"bootstrap.servers": kafka_broker, "compression.type": "zstd", "message.max.bytes": 100 << 20}
        )
        hostile.produce(p.topics.packets, value=bytes(12 << 20), key=b"evil", partition=0)
        assert hostile.flush(HANG_SECONDS) == 0
        start = int(time.time()) // 2 * 2
        packets = [Packet(time_ns=start * SECOND + n) for n in range(10)]
        p.send([batch(packets, clock_ns=(start + 4) * SECOND)])
        p.until(lambda: p.count("SELECT sum(packets) FROM flows") == 10)
        (letter,) = p.messages(p.topics.dead_letter)
        headers = dict(letter.headers())
        assert (len(letter.value()), headers["original-length"]) == (1 << 20, str(12 << 20).encode())
        assert (headers["source-partition"], headers["source-offset"]) == (b"0", b"0")
        assert p.health()["dead_letters"] == 1
        assert p.stop() == 0


def test_live_statistics_come_once_a_second(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(
        kafka_broker, clickhouse_server, streams_window_seconds="3600", streams_node_timeout_seconds="600"
    ) as p:
        p.start()
        p.until(lambda: bool(p.health() and p.health()["ok"]))
        position, total = 0, 0
        begin = int(time.time()) // 3600 * 3600 - 1800  # far from a window's end
        for i in range(8):
            at = begin * SECOND + i * SECOND // 2
            packets = [Packet(time_ns=at, src_port=1000 + n, bytes=100 * (n + 1)) for n in range(60)]
            p.send([batch(packets, ring_start=position, clock_ns=at + 1)])
            position += STRIDE * 60
            total += 60
            if i % 2:
                p.until(lambda seconds=i // 2: len(p.messages(p.topics.live)) > seconds)  # type: ignore[misc]

        def told() -> list[dict[str, Any]]:
            return [p.codec.decode_live_stats(message.value()) for message in p.messages(p.topics.live)]

        p.until(lambda: sum(row["packets"] for each in told() for row in each["interfaces"]) >= total)
        stats = told()
        assert stats[-1]["node"] == "n1"
        assert sum(row["packets"] for each in stats for row in each["interfaces"]) == total
        assert stats[-1]["active_flows"] == 60
        assert len(stats[-1]["top"]) == 50
        first = stats[-1]["top"][0]
        assert (first["src_port"], first["dst_port"], first["packets"], first["bytes"]) == (1059, 443, 8, 48000)
        assert (first["src_addr"], first["interface"], first["direction"]) == ("10.0.0.1", "eth0", "ingress")
        assert p.stored_packets() == 0  # the window is open
        assert p.stop() == 0
        assert p.stored_packets() == 0  # and is not closed early by a stop


def test_rows_older_than_the_retention_are_told(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server) as p:
        p.start()
        long_ago = int(time.time() - 100 * 86400) * SECOND
        p.send([batch([Packet(time_ns=long_ago)], clock_ns=long_ago + 10 * SECOND)])
        p.until(lambda: bool(p.health()) and p.metric("ayaflow_streams_expired_rows_total") == 1)
        assert "flows_retention_days" in p.output
        p.until(lambda: len(p.messages(p.topics.flows)) == 1)
        p.until(lambda: p.health()["open_windows"] == 0)
        assert p.stop() == 0


def test_a_node_that_falls_silent_does_not_hold_its_windows_open(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(
        kafka_broker, clickhouse_server, streams_window_seconds="3600", streams_node_timeout_seconds="1"
    ) as p:
        p.start()
        at = (int(time.time()) - 60) * SECOND
        p.send([batch([Packet(time_ns=at)], clock_ns=at)])
        p.until(lambda: p.stored_packets() == 1)
        p.send([batch([Packet(time_ns=at + 1)], clock_ns=at + 2, ring_start=STRIDE)])
        p.until(lambda: p.stored_packets() == 2)
        assert p.query("SELECT packets, revision FROM flows ORDER BY revision") == [(1, 0), (1, 1)]
        assert p.stop() == 0
