"""Migrations on a database that has rows already. Real ClickHouse."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from common.clickhouse import connect
from common.settings import ClickHouseSettings
from schemas.clickhouse import ddl
from streams.partition.state import Partition
from streams.partition.storing import store_window
from streams.store import migrate as migrating
from streams.store.clickhouse import ClickHouseStore
from streams.store.migrate import migrate
from tests.bench import traffic
from tests.fix_local import WRITER

pytestmark = pytest.mark.clickhouse


@pytest.fixture
def settings(clickhouse_server: str) -> Iterator[ClickHouseSettings]:
    made = ClickHouseSettings(
        url=clickhouse_server, **WRITER, database=f"ayaflow_m_{uuid.uuid4().hex}", flows_retention_days=28_000
    )
    yield made
    client = connect(made, database="default", timeout_seconds=60)
    client.command(f"DROP DATABASE IF EXISTS {made.database} SYNC")
    client.close()


_COLUMNS = "* EXCEPT ('^inserted$') REPLACE (toUInt32(revision) AS revision)"
"""Those of all versions."""


def _early(layout: ddl.Layout) -> list[ddl.Migration]:
    """Those of the first tables, and what storing asks besides."""
    return [each for each in ddl.migrations(layout) if each.number < 10 or each.name == "refused"]


def fill(settings: ClickHouseSettings, first: int) -> int:
    """Store two batches -> rows."""
    state = Partition(0, position=0, window_seconds=10, node_timeout_seconds=1)
    for offset, batch in enumerate(traffic.batches(2, 500, first=first)):
        state.take(offset, batch, now=0.0)
    store = ClickHouseStore(settings, "t.packets", clock=time.time)
    try:
        jobs = state.due(now=1e9)
        return sum(store_window(job, store).rows for job in jobs)
    finally:
        store.close()


def figures(client: Any) -> list[Any]:
    own, total = (
        client.query(f"SELECT {what} FROM {table}").result_rows
        for what, table in (
            ("cityHash64(groupArray(tuple(*))), count()", f"(SELECT {_COLUMNS} FROM flows ORDER BY ALL)"),
            ("sum(packets + packets_rev), sum(bytes + bytes_rev)", "flows_1m"),
        )
    )
    return [*own, *total]


def test_rows_from_before_the_codecs_changed_stay_as_they_are(
    settings: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrating, "migrations", _early)
        before = fill(settings, first=0)
        client = connect(settings, database=settings.database, timeout_seconds=60)
        rows = figures(client)
    assert rows[0][1] == before > 0
    assert 10 in migrate(client, settings)
    assert figures(client) == rows
    codecs = client.query(
        "SELECT compression_codec FROM system.columns "
        "WHERE database = currentDatabase() AND table = 'flows' AND name = 'src_port'"
    ).result_rows
    assert list(codecs) == [("CODEC(T64, ZSTD(1))",)]
    client.command("OPTIMIZE TABLE flows FINAL")
    assert figures(client) == rows
    for migration in ddl.migrations(settings):
        for statement in migration.statements:
            client.command(statement)  # two workers that start together
    assert figures(client) == rows
    after = fill(settings, first=10_000)
    assert figures(client)[0][1] == before + after
    client.close()
