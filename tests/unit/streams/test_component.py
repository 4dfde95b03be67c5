"""The component's shell: it ends when it is told to, whatever Faust waits for."""

import asyncio

import pytest

from common.settings import load
from streams import app as faust_app
from streams.component import Component
from streams.store.clickhouse import ClickHouseStore


class WaitingApp:
    """Faust while Kafka is away: neither start nor stop comes to an end."""

    consumer = None
    crashed = False

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def start(self) -> None:
        self.started.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await asyncio.Event().wait()


async def test_it_ends_while_faust_waits_for_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    app = WaitingApp()
    monkeypatch.setattr(faust_app, "build", lambda *_: app)
    monkeypatch.setattr(faust_app, "connect", lambda *_: None)
    monkeypatch.setattr("streams.component._STOP_SECONDS", 0.01)
    settings = load(flags={"kafka.bootstrap_servers": "127.0.0.1:1"})
    store = ClickHouseStore(settings.clickhouse, "packets")
    stopping = asyncio.Event()
    working = asyncio.create_task(Component(settings)._work(store, stopping))
    await app.started.wait()
    stopping.set()
    await asyncio.wait_for(working, 60)
