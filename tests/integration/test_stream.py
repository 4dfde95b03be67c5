"""/api/stream with many clients, some of which read nothing. Needs no root, no Kafka and no ClickHouse."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from common import settings as settings_module
from console import app as http
from console.live.hub import STREAM_TOP
from console.live.state import KEY, NAMES
from tests.integration.fix_console import served
from tests.waiting import HANG_SECONDS, until

CLIENTS, SLOW = 100, 20
KERNEL_BYTES = 16 << 10  # of the buffers of both ends
BUFFERED = 64 << 10  # what asyncio takes before it tells a writer to wait
TICK = 0.1
LAST = 41  # number of the last message


def message(second: int) -> dict[str, Any]:
    """LiveStats of a busy node."""
    moment = datetime.now(UTC)
    return {
        "node": "n1",
        "time": moment,
        "interval_ms": 1000,
        "active_flows": second,
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
                "ring_full_packets": 0,
            }
        ],
        "top": [
            {
                **dict.fromkeys(KEY, 0),
                **dict.fromkeys(NAMES, ""),
                "interface": "eth0",
                "direction": "ingress",
                "protocol": 6,
                "src_addr": "2001:db8::1",
                "dst_addr": "2001:db8::2",
                "src_port": port,
                "dst_port": 443,
                "packets": second,
                "bytes": second,
                "packets_rev": 0,
                "bytes_rev": 0,
                "first_seen": moment - timedelta(seconds=1),
                "last_seen": moment,
            }
            for port in range(STREAM_TOP)
        ],
    }


def shown(text: str | bytes) -> int:
    """The number of the newest `message` in a message of the stream, 0 before the first."""
    return max((node["active_flows"] for node in json.loads(text)["nodes"]), default=0)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, FastAPI]]:
    """A console with a short second, and small buffers in the kernel, so that a slow client is felt soon."""
    monkeypatch.setattr("console.live.hub.TICK_SECONDS", TICK)
    app = http.build_app(settings_module.load(flags={"kafka.bootstrap_servers": "127.0.0.1:1"}))
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        with served(app, sockets=[listener], ws="websockets-sansio", ws_per_message_deflate=False):
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/api/stream", app


@contextlib.asynccontextmanager
async def clients(url: str, count: int, *, slow: bool) -> AsyncIterator[list[ClientConnection]]:
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            options: dict[str, Any] = {"max_queue": None}
            if slow:
                options = {"max_queue": 1, "sock": socket.socket()}
                options["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
                host, port = url.split("/")[2].split(":")
                options["sock"].connect((host, int(port)))
            one = connect(url, compression=None, close_timeout=0.05, **options)
            opened.append(await stack.enter_async_context(one))
        yield opened


async def newest(client: ClientConnection) -> str | bytes:
    """Read until the last message is shown: one a tick comes, however many a slow machine is behind."""
    while shown(text := await asyncio.wait_for(client.recv(), HANG_SECONDS)) < LAST:
        pass
    return text


async def test_a_hundred_clients_of_whom_some_read_nothing(console: tuple[str, FastAPI]) -> None:
    url, app = console
    feed = app.state.services.hub._heard
    feed(message(1))
    async with clients(url, SLOW, slow=True) as slow, clients(url, CLIENTS - SLOW, slow=False) as quick:
        # each quick client gets every message, however long the slow ones read nothing
        for second in range(2, LAST + 1):
            feed(message(second))
            await asyncio.gather(*(asyncio.wait_for(one.recv(), HANG_SECONDS) for one in quick))
        assert app.state.metrics.streams._value.get() == CLIENTS
        texts = await asyncio.gather(*map(newest, quick))
        size = len(texts[0])
        assert size > STREAM_TOP * 300
        assert 40 * size > 2 * (2 * KERNEL_BYTES + BUFFERED)  # more than all buffers of a slow client hold
        # a slow one that reads again finds what the buffers held, and then the newest
        held = []
        for one in slow:
            count = 1
            while shown(await asyncio.wait_for(one.recv(), HANG_SECONDS)) < LAST:
                count += 1
            held.append(count)
        # doubled: the kernel keeps as much again for its own accounting; the client's library holds a few, too
        assert max(held) * size <= 2 * 2 * KERNEL_BYTES + BUFFERED + 6 * size, (held, size)
    await asyncio.to_thread(until, lambda: app.state.metrics.streams._value.get() == 0)
