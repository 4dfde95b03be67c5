"""Migrations on a database that has rows already. Real ClickHouse."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from common.clickhouse import connect
from common.errors import SettingsError
from common.settings import ClickHouseSettings
from schemas.clickhouse import ddl
from streams.partition.state import Partition
from streams.partition.storing import store_window
from streams.store.clickhouse import ClickHouseStore
from streams.store.migrate import _has_tables, migrate
from tests.bench import traffic
from tests.fix_local import WRITER

pytestmark = pytest.mark.clickhouse


@pytest.fixture
def settings(clickhouse_server: str) -> Iterator[ClickHouseSettings]:
    made = ClickHouseSettings(
        url=clickhouse_server,
        **WRITER,
        database=f"ayaflow_m_{uuid.uuid4().hex}",
        flows_retention_days=28_000,
        rollup_retention_days=28_000,
    )
    yield made
    client = connect(made, database="default", timeout_seconds=60)
    client.command(f"DROP DATABASE IF EXISTS {made.database} SYNC")
    client.close()


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
            ("cityHash64(groupArray(tuple(*))), count()", "(SELECT * EXCEPT ('^inserted$') FROM flows ORDER BY ALL)"),
            ("sum(packets + packets_rev), sum(bytes + bytes_rev)", "services_1m"),
        )
    )
    return [*own, *total]


def test_migrations_that_are_run_again_change_nothing(settings: ClickHouseSettings) -> None:
    before = fill(settings, first=0)
    client = connect(settings, database=settings.database, timeout_seconds=60)
    try:
        rows = figures(client)
        assert rows[0][1] == before > 0
        assert migrate(client, settings) == []
        for migration in ddl.migrations(settings):
            for statement in migration.statements:
                client.command(statement)  # two workers that start together
        assert figures(client) == rows
        after = fill(settings, first=10_000)
        assert figures(client)[0][1] == before + after
    finally:
        client.close()


def test_the_migrations_name_each_table_that_is_there_then(settings: ClickHouseSettings) -> None:
    client = connect(settings, database="default", timeout_seconds=60)
    try:
        migrate(client, settings)
        there = {row[0] for row in client.query(f"SHOW TABLES FROM {settings.database}").result_rows}
        assert there - {"schema_migrations"} == set().union(*(each.makes for each in ddl.migrations(settings)))
        assert _has_tables(client, settings)
        client.command(f"DROP VIEW {settings.database}.scans SYNC")  # a host that was added has its record, and not all
        assert not _has_tables(client, settings)
    finally:
        client.close()


def test_tables_of_another_version_are_left_alone(settings: ClickHouseSettings) -> None:
    client = connect(settings, database="default", timeout_seconds=60)
    try:
        migrate(client, settings)
        record = f"{settings.database}.schema_migrations"
        client.insert(record, [[18, "community_id"]], column_names=["number", "name"])
        with pytest.raises(SettingsError, match=r"another version of ayaflow: .* migrations 18 community_id"):
            migrate(client, settings)
    finally:
        client.close()
