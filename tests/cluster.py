"""Whether a real cluster of ClickHouse takes our tables, in a minute: in a database of its own, gone afterwards.

    AYAFLOW_CLICKHOUSE_CLUSTER=main AYAFLOW_CLICKHOUSE_URL=http://ch1:8123,http://ch2:8123 \\
        AYAFLOW_CLICKHOUSE_USERNAME=… AYAFLOW_CLICKHOUSE_PASSWORD=… .venv/bin/python -m tests.cluster

Nothing of ours can run a cluster: the embedded engine keeps replicated tables read-only. Without clickhouse.cluster the
same is asked of one server, and so this is tested (tests/integration/test_hosts.py).
"""

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from clickhouse_connect.driver.client import Client

from common.clickhouse import connect
from common.errors import AyaflowError
from common.settings import ClickHouseSettings, load
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.horizon import Horizon, stored_tables
from schemas.clickhouse.rollups import BY_TIME
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.clickhouse import ClickHouseStore
from streams.store.migrate import migrate
from tests.unit.streams.store_contract import CONTRACT, START, flows

HORIZON = Horizon(inserts=200_000, seconds=86_400)
ROWS = 5
_SECONDS = 120


class Cluster:
    """A client and a store of each host, in a database of their own."""

    def __init__(self, settings: ClickHouseSettings, stack: ExitStack) -> None:
        self.hosts = [settings.model_copy(update={"url": url.strip()}) for url in settings.url.split(",")]
        self.settings = settings
        self.on_cluster = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
        self.stores = [
            stack.enter_context(closing(ClickHouseStore(host, "try.packets", horizon=HORIZON))) for host in self.hosts
        ]
        for store in self.stores:
            store.check()
        self.clients: list[Client] = [
            stack.enter_context(closing(connect(host, database=host.database, timeout_seconds=_SECONDS)))
            for host in self.hosts
        ]

    def number(self, sql: str, client: int = 0) -> int:
        return int(self.clients[client].query(sql, settings={"select_sequential_consistency": 1}).result_rows[0][0])


def checks(cluster: Cluster) -> Iterator[str]:
    """What holds, a sentence each. Raises AssertionError with what does not."""
    settings = cluster.settings
    shown = "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    before = [client.query(shown).result_rows for client in cluster.clients]
    for client in cluster.clients:
        assert migrate(client, settings) == [], "the tables of a host are not complete"
    for migration in migrations(settings):
        for statement in migration.statements:
            cluster.clients[0].command(statement)
    assert [client.query(shown).result_rows for client in cluster.clients] == before, "the second time changed a table"
    yield f"{len(before[0])} tables and views are on each of {len(cluster.hosts)} host(s); made again, nothing changes"

    name = "non_replicated_deduplication_window" if not settings.cluster else "replicated_deduplication_window"
    for place, client in enumerate(cluster.clients):
        rows = client.query(
            "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"
        ).result_rows
        known = {table for table, full in rows if f"{name} = {HORIZON.inserts}" in full}
        assert known >= set(stored_tables(settings.cluster)), (
            f"{cluster.hosts[place].url} knows the names of fewer inserts"
        )
    yield f"each table knows the names of {HORIZON.inserts:,} inserts"

    if settings.cluster:
        for place, client in enumerate(cluster.clients):
            (row,) = client.query(
                "SELECT countIf(is_readonly), min(active_replicas), max(total_replicas), count() FROM system.replicas "
                "WHERE database = currentDatabase()"
            ).result_rows
            assert row[0] == 0, f"{row[0]} of the tables of {cluster.hosts[place].url} are read-only"
        yield f"{row[3]} replicated tables can be written; {row[1]} of {row[2]} replicas of each are active"

    for number, check in enumerate(CONTRACT):
        check(cluster.stores[0], KafkaPartition(uuid.uuid4().int >> 65, number))
    yield f"{len(CONTRACT)} promises of the store hold"

    yield _inserted_through_each_host(cluster)


def _inserted_through_each_host(cluster: Cluster) -> str:
    of, begun = KafkaPartition(uuid.uuid4().int >> 65, 3), time.monotonic()
    windows = [WindowId(START - 10 * (1 + number), 10) for number in range(20)]
    for number, window in enumerate(windows):
        for again in range(len(cluster.stores)):  # by another host each time
            store = cluster.stores[(number + again) % len(cluster.stores)]
            store.insert(flows(1, window, rows=ROWS), of, 0, number + 1)
    where = f"topic_id = {of.topic_id}"
    for place in range(len(cluster.clients)):
        found = cluster.number(f"SELECT count() FROM flows WHERE {where}", place)
        assert found == ROWS * len(windows), (
            f"{found} rows instead of {ROWS * len(windows)} at {cluster.hosts[place].url}"
        )
    whole = cluster.number("SELECT count() FROM flows")
    for rollup in BY_TIME:
        found = cluster.number(f"SELECT sum(records) FROM {rollup}")
        assert found == whole, f"{rollup} has {found} rows of flows instead of {whole}"
    return (
        f"{len(windows)} windows, sent to each host, are stored once, in flows and in the rollups "
        f"({time.monotonic() - begun:.1f} s)"
    )


def main() -> int:
    """Try it. 0: all holds."""
    given: Any = load().clickhouse
    settings = given.model_copy(
        update={
            "database": f"ayaflow_try_{uuid.uuid4().hex[:8]}",
            "flows_retention_days": int(time.time()) // 86_400 - 1,
            "rollup_retention_days": int(time.time()) // 86_400 - 1,
        }
    )
    try:
        with ExitStack() as stack:
            cluster = Cluster(settings, stack)
            drop = f"DROP DATABASE IF EXISTS {settings.database}{cluster.on_cluster} SYNC"
            stack.callback(cluster.clients[0].command, drop)
            for sentence in checks(cluster):
                print(sentence, flush=True)
    except (AyaflowError, AssertionError) as error:
        print(f"this does not hold: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
