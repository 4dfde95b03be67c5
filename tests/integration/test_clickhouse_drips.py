"""A real ClickHouse behind a proxy that lets an octet of its answers through now and then."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from common.clickhouse import connect
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from console.store.client import Store
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.clickhouse import ClickHouseStore
from streams.store.connection import Connection
from tests.faults import proxy
from tests.fix_local import WRITER, free_port
from tests.unit.streams.store_contract import START, flows

pytestmark = pytest.mark.clickhouse

SECONDS = 1.0
LATE = 15.0  # on a busy machine; an answer takes minutes


@pytest.fixture
def behind(clickhouse_server: str) -> Iterator[tuple[ClickHouseSettings, proxy.Proxy]]:
    """Our tables, as they are reached by the proxy."""
    port = free_port()
    made = ClickHouseSettings(url=f"http://127.0.0.1:{port}", **WRITER, database=f"ayaflow_d_{uuid.uuid4().hex}")
    with proxy.running(port, urlsplit(clickhouse_server).port or 0) as harm:
        with contextlib.closing(ClickHouseStore(made, "packets")) as store:
            store.insert(flows(1, WindowId(START, 10), rows=3), KafkaPartition(5, 2), 0, 1)
        yield made, harm
        harm.mode = ""
        with contextlib.closing(connect(made, database="default", timeout_seconds=60)) as client:
            client.command(f"DROP DATABASE IF EXISTS {made.database} SYNC")


@contextlib.contextmanager
def given_up() -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        yield
    assert time.monotonic() - began < LATE


def test_streams_do_not_wait_for_it(behind: tuple[ClickHouseSettings, proxy.Proxy]) -> None:
    settings, harm = behind
    with contextlib.closing(Connection(settings, None, answer_seconds=SECONDS)) as connection:
        rows = connection.arrow("SELECT * FROM losses", lambda table: table)
        for ask in (
            lambda: connection.number("SELECT count() FROM flows"),
            lambda: connection.arrow("SELECT * FROM flows", lambda table: table.num_rows),
            lambda: connection.insert("losses", rows),
        ):
            assert connection.number("SELECT count() FROM flows") == 3
            harm.mode = "drip"
            with given_up():
                ask()
            harm.mode = ""
    assert harm.harmed["drip"] >= 3


def test_nor_does_who_reads(behind: tuple[ClickHouseSettings, proxy.Proxy]) -> None:
    settings, harm = behind
    with Store(settings, timeout_seconds=2, piece_seconds=2) as store:
        for ask in (
            lambda: store.select("SELECT count() AS n FROM flows"),
            lambda: store.document("SELECT count() AS n FROM flows"),
            lambda: [*store.chunks("SELECT * FROM flows", form="CSV")],
        ):
            harm.mode = "drip"
            with given_up():
                ask()
            harm.mode = ""
            assert store.select("SELECT count() AS n FROM flows") == [{"n": 3}]
