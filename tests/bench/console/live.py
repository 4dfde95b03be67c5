"""The live view with many clients."""

import asyncio
import itertools
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from confluent_kafka import Producer

from schemas.avro.codec import Codec
from tests.bench.console.flows import NODES
from tests.bench.console.questions import answering, ask


def live_message(node: str, second: int, start: datetime) -> dict[str, Any]:
    """A LiveStats message with 50 connections."""
    moment = start + timedelta(seconds=second)
    return {
        "node": node,
        "time": moment,
        "interval_ms": 1000,
        "active_flows": 500,
        "open_windows": 1,
        "lag_messages": 0,
        "interfaces": [
            {
                "interface": "eth0",
                "direction": direction,
                "packets": 1000,
                "bytes": 900_000,
                "non_ip_packets": 0,
                "malformed_packets": 0,
                "unknown_link_packets": 0,
                "ring_full_packets": 0,
            }
            for direction in ("ingress", "egress")
        ],
        "top": [
            {
                "interface": "eth0",
                "direction": "egress",
                "protocol": 6,
                "src_addr": f"10.0.0.{port % 200}",
                "dst_addr": "2001:db8::1",
                "src_port": 40_000 + port,
                "dst_port": 443,
                "vlan_id": 0,
                "icmp_type": 0,
                "icmp_code": 0,
                "packets": second % 10 * 10,
                "bytes": second % 10 * 1000 * port,
                "packets_rev": 0,
                "bytes_rev": 0,
                "first_seen": moment - timedelta(seconds=second % 10),
                "last_seen": moment,
            }
            for port in range(50)
        ],
    }


def feed(bootstrap: str) -> None:
    """Each second a message of each node, for ever; a process of its own, not to be measured with the clients."""
    producer, codec, start = Producer({"bootstrap.servers": bootstrap}), Codec(), datetime.now(UTC)
    for second in itertools.count(1):
        for node in range(NODES):
            producer.produce("ayaflow.live", codec.encode_live_stats(live_message(f"node{node}", second, start)))
        producer.flush(5)
        time.sleep(1)


async def live(url: str, clients: int, each: float, seconds: int) -> list[float]:
    """Seconds of each answer of /api/live: `clients` ask `each` times a second."""
    done = asyncio.Event()
    took: list[float] = []

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        due = time.monotonic() + number / clients / each
        while not done.is_set():
            await asyncio.sleep(max(0, due - time.monotonic()))
            began = time.perf_counter()
            await ask(session, [("/api/live", {})])
            took.append(time.perf_counter() - began)
            due += 1 / each

    async def ended(work: Awaitable[Any]) -> None:
        await asyncio.sleep(seconds)
        done.set()
        await work

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        await answering(session)
        while b'"node"' not in await (await session.get("/api/live")).read():  # noqa: ASYNC110  another process
            await asyncio.sleep(0.5)
        await ended(asyncio.gather(*(client(session, number) for number in range(clients))))
    return sorted(took)
