"""The live view over the API and the command line, from a real topic."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect

from common import settings as settings_module
from console import app as http
from tests.fix_local import REPOSITORY, free_port
from tests.integration.fix_console import served
from tests.integration.fix_live import Node
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.clickhouse, pytest.mark.kafka]


@pytest.fixture
def live_url(kafka_broker: str, clickhouse_server: str) -> Iterator[str]:
    """A console as it runs, on a free port."""
    port = free_port()
    loaded = settings_module.load(
        flags={
            "kafka.bootstrap_servers": kafka_broker,
            "clickhouse.url": clickhouse_server,
            "console.listen": f"127.0.0.1:{port}",
        }
    )
    app = http.build_app(loaded)
    with served(app, host="127.0.0.1", port=port, ws="websockets-sansio", ws_per_message_deflate=False):
        yield f"http://127.0.0.1:{port}"


def heard(url: str, node: Node) -> dict[str, Any]:
    """Send until the console shows it: it reads from the end of the topic, wherever that was when it looked."""

    def sent_and_shown() -> dict[str, Any]:
        node.send()
        answer: dict[str, Any] = httpx.get(f"{url}/api/live").json()
        return answer if answer["connections"] else {}

    return until(sent_and_shown)


def test_what_anybody_writes_to_the_topic_ends_nothing(live_url: str, kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    heard(live_url, node)
    for time in (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC)):
        node.send("evil", time=time)
    node.send("evil", interval_ms=-5)
    node.send("n" * 100_000)
    node.send(time=datetime(2105, 1, 1, tzinfo=UTC))  # this one can be: a node whose clock is wrong, and then set

    async def stream() -> list[Any]:
        async with connect(f"ws://{urlsplit(live_url).netloc}/api/stream") as socket:
            messages = []
            for _ in range(4):
                await asyncio.to_thread(node.send)
                messages.append(json.loads(await asyncio.wait_for(socket.recv(), HANG_SECONDS)))
            return messages

    messages = asyncio.run(stream())
    assert len({message["time"] for message in messages}) == 4
    assert messages[-1]["nodes"][0]["time"] < "2100"
    answer = httpx.get(f"{live_url}/api/live")
    assert answer.status_code == 200
    assert {row["node"] for row in answer.json()["connections"]} == {"n1"}
    (console,) = [one for one in httpx.get(f"{live_url}/api/health").json()["stages"] if one["stage"] == "console"]
    assert console["ok"]
    assert console["details"]["live_messages_left_out"] >= 4
    assert "ayaflow_console_live_left_out_total" in httpx.get(f"{live_url}/metrics").text


def test_live_shows_what_is_in_the_topic(live_url: str, kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    heard(live_url, node)
    for _ in range(3):
        node.send()

    def newest() -> Any:
        found = httpx.get(f"{live_url}/api/live").json()["connections"]
        return found if found[0]["last_seen"] == node.newest else None

    rows = until(newest)
    assert [row["src_port"] for row in rows] == [2000, 1000]
    assert rows[0]["dst_addr"] == "2001:db8::1"
    assert rows[0]["protocol_name"] == "tcp"
    assert rows[0]["bytes_per_second"] == pytest.approx(2000, rel=0.5)
    only = httpx.get(f"{live_url}/api/live", params={"filter": "src_port = 1000 and addr in 10.0.0.0/8"}).json()
    assert [row["src_port"] for row in only["connections"]] == [1000]

    def with_a_rate() -> dict[str, Any]:
        node.send()  # one that is silent has none
        found: dict[str, Any] = httpx.get(f"{live_url}/api/stats").json()
        return found if found["bytes_per_second"] else {}

    stats = until(with_a_rate)
    assert (stats["nodes"], stats["active_connections"], stats["bytes_per_second"]) == (1, 2, 5000)
    assert stats["packets_total"] == 10 * stats["dropped_packets_total"]
    place = '{direction="ingress",interface="eth0",node="n1"}'

    def same_total() -> str:
        total = httpx.get(f"{live_url}/api/stats").json()["packets_total"]
        text = httpx.get(f"{live_url}/metrics").text
        return text if f"ayaflow_packets_total{place} {total}" in text else ""

    metrics = until(same_total)
    for name in (
        "ayaflow_bytes_total",
        "ayaflow_active_connections",
        "ayaflow_domains_resolved_total",
        "ayaflow_deep_inspect_packets_total",
        "ayaflow_console_request_seconds_bucket",
    ):
        assert name in metrics


async def test_a_slow_client_of_the_stream_holds_nobody_up(live_url: str, kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    await asyncio.to_thread(heard, live_url, node)
    url = f"{live_url.replace('http', 'ws')}/api/stream"
    slow_socket = socket.socket()
    slow_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    place = urlsplit(live_url)
    slow_socket.connect((place.hostname, place.port))
    async with connect(url, sock=slow_socket, max_queue=1), connect(url) as quick:  # the slow one reads nothing
        moments = []
        while not json.loads(await asyncio.wait_for(quick.recv(), HANG_SECONDS))["connections"]:
            await asyncio.to_thread(node.send)
        for _ in range(4):
            await asyncio.to_thread(node.send)
            message = json.loads(await asyncio.wait_for(quick.recv(), HANG_SECONDS))
            moments.append(message["time"])
            assert message["connections"][0]["src_port"] == 2000
            assert message["nodes"][0]["interfaces"][0]["bytes_per_second"] == 5000
        assert len(set(moments)) == 4


def test_top_prints_once_what_the_api_says(kafka_broker: str) -> None:
    node = Node(kafka_broker, "ayaflow.")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "top",
            "src_port = 2000",
            "--once",
            "--format",
            "json",
            "--set",
            f"kafka.bootstrap_servers={kafka_broker}",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:

            def sent_and_ended() -> bool:
                node.send()
                return process.poll() is not None

            until(sent_and_ended)
            answer = json.loads(process.stdout.read())
            (row,) = answer["connections"]
            assert answer["share"]["total"]["bytes"] == row["bytes"] + row["bytes_rev"]
        finally:
            process.kill()
    assert process.returncode == 0
    assert (row["src_port"], row["dst_port"], row["node"]) == (2000, 443, "n1")
