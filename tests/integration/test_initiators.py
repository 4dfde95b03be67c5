"""Who began a connection stays, whichever worker has its partition, with a real Kafka and ClickHouse."""

import signal
import time
from dataclasses import replace

import pytest

from schemas.packets import PacketBatch
from tests.integration.fix_streams import pipeline
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

WINDOW = 2
SYN, ACK = 0x02, 0x10
Side = tuple[str, int]

BEGIN_HERE: list[tuple[Side, Side]] = [  # against what ports and addresses tell
    (("10.0.0.9", 40000), ("10.0.0.1", 50000)),
    (("10.0.0.1", 22), ("10.0.0.9", 50022)),
    (("2001:db8::9", 775), ("2001:db8::1", 776)),
]
WERE_THERE: list[tuple[Side, Side]] = [
    (("10.0.0.1", 775), ("10.0.0.2", 2049)),
    (("10.0.0.8", 993), ("10.0.0.2", 2049)),
    (("10.0.0.1", 40000), ("10.0.0.2", 50000)),
]
MEANWHILE: list[tuple[Side, Side]] = [(("10.0.0.3", 40000), ("10.0.0.4", 443))]


def seen(window: int) -> list[tuple[Side, Side]]:
    """In every other window all of them pause: the next worker does not read of them again."""
    return MEANWHILE if window % 2 else BEGIN_HERE + WERE_THERE


class Node:
    """A node that sees connections once a window, both ways, the responder first."""

    def __init__(self, name: str, begin: int) -> None:
        self.name, self.begin, self.number, self.sent, self.epoch = name, begin, 0, 0, 0

    def window(self) -> list[PacketBatch]:
        """The packets of the next window, in two messages, and its end."""
        start = self.begin + self.number * WINDOW
        there, back = list[Packet](), list[Packet]()
        for client, server in seen(self.number):
            begins = self.number == 0 and (client, server) in BEGIN_HERE
            packet = Packet(
                time_ns=start * SECOND + 1000,
                src=client[0],
                src_port=client[1],
                dst=server[0],
                dst_port=server[1],
                tcp_flags=SYN if begins else ACK,
            )
            there.append(packet)
            answer = replace(packet, time_ns=start * SECOND, src=server[0], src_port=server[1], direction=1)
            back.append(replace(answer, dst=client[0], dst_port=client[1], tcp_flags=ACK))
        self.number += 1
        return [self._batch(back, start), self._batch(there, start + WINDOW)]

    def _batch(self, packets: list[Packet], clock: int) -> PacketBatch:
        """Each an epoch, so that it is acknowledged once it is stored."""
        self.epoch += 1
        packets = [replace(packet, epoch=self.epoch) for packet in packets]
        closing = counters(self.epoch, packets)
        made = batch(packets, node=self.name, ring_start=self.sent * STRIDE, clock_ns=clock * SECOND, counters=closing)
        self.sent += len(packets)
        return made


def test_a_connection_keeps_its_source_over_restarts_and_rebalances(kafka_broker: str, clickhouse_server: str) -> None:
    begin = int(time.time()) // 10 * 10 - 120
    nodes = [Node("n1", begin), Node("n2", begin)]
    with pipeline(kafka_broker, clickhouse_server, partitions=2, streams_node_timeout_seconds="600") as p:

        def windows(count: int) -> None:
            for _ in range(count):
                for partition, node in enumerate(nodes):
                    p.send(node.window(), partition=partition)
                sent = sum(node.sent for node in nodes)
                p.until(lambda sent=sent: p.stored_packets() == sent)  # type: ignore[misc]

        p.start()
        windows(2)
        assert p.stop() == 0
        p.start()
        windows(2)
        first = [node.window() for node in nodes]
        for partition, (back, _) in enumerate(first):
            p.send([back], partition=partition)
        p.stop(signal.SIGKILL)  # in a window
        p.start()
        for partition, (_, there) in enumerate(first):
            p.send([there], partition=partition)
        windows(1)
        dies = p.processes[-1]
        p.settings["streams_metrics_listen"] = "127.0.0.1:0"
        p.start()
        dies.kill()
        dies.wait()
        windows(2)
        expected = sorted(
            (begin + window * WINDOW, node.name, src, src_port, dst, dst_port, "ingress", 1, 1)
            for node in nodes
            for window in range(8)
            for (src, src_port), (dst, dst_port) in seen(window)
        )
        assert (
            sorted(
                p.query(
                    "SELECT toUnixTimestamp(window_begin), node, replaceOne(IPv6NumToString(src_addr), '::ffff:', ''), "
                    "src_port, replaceOne(IPv6NumToString(dst_addr), '::ffff:', ''), dst_port, direction, "
                    "sum(packets), sum(packets_rev) FROM flows GROUP BY ALL"
                )
            )
            == expected
        )
        assert p.stop() == 0
