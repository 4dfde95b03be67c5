"""The cap on bytes while 20 M realistic rows stream in: the most that our tables took, and what became of each row.

A tenth of the rows is a day; they go in by streams' own connection, in blocks as a window's are, and the disk is looked
after by the thread that does it in streams. CAP_ROWS=2000000 is a shorter one.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from common.settings import ClickHouseSettings, KafkaSettings
from streams import metrics
from streams.housekeeping import Housekeeping
from streams.store.connection import Connection
from tests.bench.history.traffic import Fleet
from tests.bench.process import cpu_seconds
from tests.bench.results import Row
from tests.fix_local import WRITER, running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import connect
from tests.integration.fix_disk import bytes_on_disk
from tests.integration.fix_tables import Tables

ROWS = int(os.environ.get("CAP_ROWS", "20_000_000"))
DAYS, INSERT = 10, 100_000
CAP = ROWS * 10  # bytes: some three of ten days


def run() -> Iterator[Row]:
    with temporary_directory() as directory, running_clickhouse(directory) as (url, server):
        settings = _settings(url)
        with (
            closing(Connection(settings, None)) as connection,
            closing(connect(url, autogenerate_session_id=False)) as client,
        ):
            connection.command("SELECT 1")
            tables = Tables(url, settings.database, client)
            fleet, most, sent, began = Fleet(), 0, 0, time.monotonic()
            with _looked_after(settings):
                for day in range(DAYS):
                    rows = fleet.day(day, ROWS // DAYS, names=True)
                    for start in range(0, len(rows), INSERT):
                        part = rows.slice(start, INSERT)
                        connection.insert("flows", part, {"insert_deduplication_token": f"{day}/{start}"})
                        most, sent = max(most, bytes_on_disk(tables)), sent + len(part)
                seconds = time.monotonic() - began
            yield Row(what="rows that streamed in, with all rollups", value=sent, unit="rows")
            yield Row(what="at once on disk, at most", value=most / 1e6, unit="MB", at_most=CAP / 1e6)
            yield Row(what="what they take without a cap (the days that are left, and those that went)", **_all(tables))
            yield from _accounted(tables, sent)
            yield Row(what="they took, with making them", value=seconds, unit="s")
            yield Row(what="of it, CPU of ClickHouse", value=cpu_seconds(server.pid), unit="s")


def _settings(url: str) -> ClickHouseSettings:
    own: dict[str, Any] = {"url": url, **WRITER, "database": "ayaflow_bench", "max_bytes": CAP, "reserve_bytes": 0}
    return ClickHouseSettings(**own, flows_retention_days=20_000, rollup_retention_days=20_000)


@contextmanager
def _looked_after(settings: ClickHouseSettings) -> Iterator[None]:
    house = Housekeeping(settings, KafkaSettings(), metrics.create(CollectorRegistry()), lambda: True)
    house.start()
    try:
        yield
    finally:
        house.close()


def _all(tables: Tables) -> dict[str, Any]:
    ((gone,),) = tables.rows("SELECT sum(bytes_on_disk) FROM DB.dropped FINAL WHERE done")
    return {"value": (bytes_on_disk(tables) + int(gone)) / 1e6, "unit": "MB"}


def _accounted(tables: Tables, sent: int) -> Iterator[Row]:
    ((kept,),) = tables.rows("SELECT count() FROM DB.flows")
    ((gone, packets, days),) = tables.rows(
        "SELECT sum(rows), sum(packets), count() FROM DB.dropped FINAL WHERE table = 'flows' AND done"
    )
    ((lost,),) = tables.rows("SELECT sum(lost) FROM DB.losses FINAL WHERE kind = 'dropped'")
    yield Row(what="days of flows that went", value=int(days), unit="days")
    neither, unlisted = abs(sent - int(kept) - int(gone)), abs(int(packets) - int(lost))
    yield Row(what="rows neither kept nor written down as gone", value=neither, unit="rows", at_most=0)
    yield Row(what="packets of these days that losses lacks", value=unlisted, unit="packets", at_most=0)
