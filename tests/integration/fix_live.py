"""A node's messages in the live topic."""

from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Producer

from common.times import iso
from schemas.avro.codec import Codec
from tests.waiting import HANG_SECONDS


class Node:
    """A node's messages in the live topic, one a call."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._topic = f"{prefix}live"
        self._codec = Codec()
        self._second = 0
        self._start = datetime.now(UTC)

    @property
    def newest(self) -> str:
        """The time of the last message, as the API writes it."""
        return iso(self._start + timedelta(seconds=self._second), digits=6)

    def send(self, node: str = "n1", **changes: Any) -> None:
        """`changes`: what this one says otherwise."""
        self._second += 1
        time = self._start + timedelta(seconds=self._second)
        stats = {
            "node": node,
            "time": time,
            "interval_ms": 1000,
            "active_flows": 2,
            "open_windows": 1,
            "lag_messages": 0,
            "interfaces": [
                {
                    "interface": "eth0",
                    "direction": "ingress",
                    "packets": 10,
                    "bytes": 5000,
                    "primary_packets": 10,
                    "primary_bytes": 5000,
                    "non_ip_packets": 0,
                    "malformed_packets": 0,
                    "unknown_link_packets": 0,
                    "ring_full_packets": 1,
                }
            ],
            "top": [
                {
                    "interface": "eth0",
                    "direction": "ingress",
                    "protocol": 6,
                    "src_addr": "10.0.0.1",
                    "dst_addr": "2001:db8::1",
                    "src_port": port,
                    "dst_port": 443,
                    "vlan_id": 0,
                    "icmp_type": 0,
                    "icmp_code": 0,
                    "packets": self._second,
                    "bytes": port * self._second,
                    "packets_rev": 0,
                    "bytes_rev": 0,
                    "first_seen": self._start,
                    "last_seen": time,
                }
                for port in (1000, 2000)
            ],
            **changes,
        }
        self._producer.produce(self._topic, self._codec.encode_live_stats(stats), key=node)
        self._producer.produce(self._topic, b"not one of ours")
        self._producer.flush(HANG_SECONDS)
