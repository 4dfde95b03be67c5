"""Limits of the API: queries that read too much, that come at once, that find ClickHouse away."""

import concurrent.futures
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.settings import Settings
from console.query import explore_sql, filters, flow_sql
from console.query.plan import FIRST_RAW
from console.store.client import Store
from console.store.pool import Database
from schemas.clickhouse.rollups import ROLLUPS
from tests.integration.fix_api import DATABASE, NOW, RANGE, api_client
from tests.integration.fix_clickhouse import connect
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse


def with_console(loaded: Settings, **values: Any) -> Settings:
    return loaded.model_copy(update={"console": loaded.console.model_copy(update=values)})


def test_a_query_that_reads_too_much_is_stopped_and_said_so(stored: Settings) -> None:
    with api_client(with_console(stored, query_rows=20)) as limited:
        answer = limited.get("/api/top", params={**RANGE, "by": "src_port"})
    assert answer.status_code == 400
    assert "too many rows" in answer.json()["error"]


def test_more_queries_than_may_run_wait_and_are_told_to_come_back(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.store.pool.PATIENCE_SECONDS", 0.2)
    begun, end = threading.Event(), threading.Event()
    document = Store.document

    def slow(self: Store, sql: str, parameters: Any = None) -> Any:
        begun.set()
        end.wait(HANG_SECONDS)
        return document(self, sql, parameters)

    monkeypatch.setattr(Store, "document", slow)
    with api_client(with_console(stored, heavy_queries=1)) as limited, concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(limited.get, "/api/top", params=RANGE)
        try:
            assert begun.wait(HANG_SECONDS)
            answer = limited.get("/api/top", params={**RANGE, "by": "dst_port"})
        finally:
            end.set()
        assert first.result().status_code == 200
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        until(lambda: limited.get("/api/top", params=RANGE).status_code == 200)  # patience is short here


def test_questions_that_are_asked_at_once_are_answered_by_one_query(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    came: list[str] = []
    begun, end = threading.Event(), threading.Event()
    document = Store.document

    def slow(self: Store, sql: str, parameters: Any = None) -> Any:
        if sql == FIRST_RAW:  # of a range that began yesterday
            return document(self, sql, parameters)
        asked.append(sql)
        begun.set()
        end.wait(HANG_SECONDS)
        return document(self, sql, parameters)

    share = Database.document

    async def come(self: Database, sql: str, parameters: Any) -> Any:
        came.extend([sql] * (sql != FIRST_RAW))
        return await share(self, sql, parameters)

    monkeypatch.setattr(Store, "document", slow)
    monkeypatch.setattr(Database, "document", come)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(api.get, "/api/top", params=RANGE)
        assert begun.wait(HANG_SECONDS)
        others = [pool.submit(api.get, "/api/top", params={**RANGE, "by": by}) for by in ("src_addr", "dst_port")]
        until(lambda: len(came) == 3 and len(asked) == 2)  # that of dst_port is asked beside it
        end.set()
        assert first.result().json() == others[0].result().json()
    assert len(asked) == 2
    assert api.get("/api/top", params=RANGE).json() == first.result().json()
    assert len(asked) == 3  # nothing is kept


def test_clickhouse_away_is_503() -> None:
    gone = settings_module.load(
        flags={"clickhouse.url": "http://127.0.0.1:1", "kafka.bootstrap_servers": "127.0.0.1:1"}
    )
    with api_client(gone) as opened:
        for path in ("/api/top", "/api/history", "/api/flows", "/api/nodes", "/api/series", "/api/audit"):
            answer = opened.get(path)
            assert answer.status_code == 503, path
            assert answer.headers["retry-after"]
            assert "ayaflow clickhouse" in answer.json()["error"]
        assert opened.get("/api/live").status_code == 200


def test_shipped_queries_read_only_the_granules_they_need(stored: Settings, store: Store) -> None:
    """Rows of many days are added; a question about an hour reads a part of one day's partition."""
    client = connect(stored.clickhouse.url, autogenerate_session_id=False)
    client.command(
        f"INSERT INTO {DATABASE}.flows (window_begin, window_seconds, node, dst_port, packets) SELECT"
        f" {NOW} - 86400 * 20 + intDiv(number, 10) * 10, 10, 'filler', number % 1000, 1 FROM numbers(1500000)"
    )
    try:
        day = datetime.fromtimestamp(NOW - 86_400 * 10, UTC)
        span = {"since": day, "until": day + timedelta(hours=1)}
        question = explore_sql.Question(
            by=("src_port",), flow_filter=filters.parse("dst_port = 443"), **span, oldest_raw=None
        )
        minutes = explore_sql.Question(
            by=("node",),
            flow_filter=filters.parse(""),
            since=day + timedelta(seconds=61),
            until=day + timedelta(minutes=50),
            oldest_raw=None,
        )
        for sql, parameters in (
            flow_sql.flows(filters.parse(""), since=day, until=day + timedelta(hours=1), sort="time", limit=10),
            flow_sql.newest(
                filters.parse("node = filler"), since=day, until=day + timedelta(hours=1), rows=10, after=None
            ),
            flow_sql.some(
                filters.parse(""),
                since=day - timedelta(days=20),
                until=day + timedelta(days=20),
                sort=flow_sql.HISTORY,
                limit=10,
                after=None,
                oldest=0,
                hours=[int(day.timestamp())],
                single=False,
            ),
            explore_sql.top(question, sort="bytes", limit=10),
            explore_sql.top(minutes, sort="bytes", limit=10),
            explore_sql.series(minutes, [], measure="bytes", step=60),
        ):
            plan = "\n".join(row["explain"] for row in store.select(f"EXPLAIN indexes = 1 {sql}", parameters))
            granules = [tuple(map(int, pair)) for pair in re.findall(r"Granules: (\d+)/(\d+)", plan)]
            parts = [tuple(map(int, pair)) for pair in re.findall(r"Parts: (\d+)/(\d+)", plan)]
            assert granules, plan
            assert parts, plan
            # by the partition, then by the sort key
            assert min(read for read, _ in granules) <= 4, plan
            assert max(total for _, total in granules) >= 20, plan
    finally:
        client.command(f"ALTER TABLE {DATABASE}.flows DELETE WHERE node = 'filler' SETTINGS mutations_sync = 1")
        for table, about in ROLLUPS.items():
            filler = "node = 'filler'" if "node" in about.keys else "src_addr = '::'"
            client.command(f"ALTER TABLE {DATABASE}.{table} DELETE WHERE {filler} SETTINGS mutations_sync = 1")
        client.close()
