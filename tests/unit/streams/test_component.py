"""The component's shell: it ends when it is told to, whatever Faust waits for."""

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from common.errors import ServiceUnavailable
from common.settings import load
from common.stopping import Stop
from streams import app as faust_app
from streams.component import Component
from streams.metrics import create
from streams.store.clickhouse import ClickHouseStore


@pytest.fixture(autouse=True)
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.component.streams_metrics.create", lambda: create(CollectorRegistry()))


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


class FailingApp(WaitingApp):
    """Faust whose connection goes away while it commits: it raises, or gives up of itself, as it happens to be."""

    def __init__(self, *, crashes: bool) -> None:
        super().__init__()
        self._crashes = crashes
        self.crash_reason = RuntimeError("no coordinator")
        self.stopped = False

    @property
    def consumer(self) -> "FailingApp":  # type: ignore[override]
        return self

    def assignment(self) -> set[object]:
        return set()

    async def commit(self) -> None:
        self.crashed = self._crashes
        raise ConnectionError("connection closed by peer")

    async def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("crashes", [True, False])
async def test_a_kafka_that_goes_while_it_ends_is_no_failure(monkeypatch: pytest.MonkeyPatch, *, crashes: bool) -> None:
    app = FailingApp(crashes=crashes)
    monkeypatch.setattr(faust_app, "build", lambda *_: app)
    monkeypatch.setattr(faust_app, "connect", lambda *_: None)
    settings = load(flags={"kafka.bootstrap_servers": "127.0.0.1:1"})
    component = Component(settings)
    stopping = asyncio.Event()
    working = asyncio.create_task(component._work(ClickHouseStore(settings.clickhouse, "packets"), stopping))
    await app.started.wait()
    stopping.set()
    await asyncio.wait_for(working, 60)
    assert component._left_behind  # what still waits for Kafka does not hold the process


async def test_what_faust_dies_of_after_the_signal_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FailingApp(crashes=True)
    app.crashed = True
    monkeypatch.setattr(faust_app, "build", lambda *_: app)
    monkeypatch.setattr(faust_app, "connect", lambda *_: None)
    settings = load(flags={"kafka.bootstrap_servers": "127.0.0.1:1"})
    stopping = asyncio.Event()
    stopping.set()
    await asyncio.wait_for(Component(settings)._work(ClickHouseStore(settings.clickhouse, "packets"), stopping), 60)


class DeadApp(WaitingApp):
    """Faust that has died of something, and hangs."""

    crashed = True
    crash_reason = RuntimeError("no coordinator")


async def test_a_component_that_cannot_go_on_ends_though_faust_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(faust_app, "build", lambda *_: DeadApp())
    monkeypatch.setattr(faust_app, "connect", lambda *_: None)
    monkeypatch.setattr("streams.component._STOP_SECONDS", 0.01)
    monkeypatch.setattr("streams.component.end_now", ended.append)  # with it the test would end, too
    monkeypatch.setattr(Component, "_make_topics", lambda _: None)
    monkeypatch.setattr(ClickHouseStore, "check", lambda _: None)
    settings = load(flags={"kafka.bootstrap_servers": "127.0.0.1:1", "streams.metrics_listen": "127.0.0.1:0"})
    with contextlib.closing(Stop()) as stop:
        await asyncio.wait_for(Component(settings).run(stop), 60)
    assert ended == [ServiceUnavailable.exit_code]
