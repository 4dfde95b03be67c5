"""Sums over days whose raw windows went before their retention was over. Real ClickHouse."""

import contextlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.settings import ClickHouseSettings
from common.times import iso
from streams.disk.plan import Day, Why
from streams.store.disk import ClickHouseDisk
from tests.fix_local import WRITER
from tests.integration.fix_api import api_client
from tests.integration.fix_disk import day, fill, ledger_of, now_ms, start_of
from tests.integration.fix_tables import Tables

pytestmark = pytest.mark.clickhouse


def by_the_cap(tables: Tables) -> None:
    own = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    with contextlib.closing(ClickHouseDisk(own)) as disk:
        assert disk.go(Day(table="flows", day=day(5), rows=1_000, bytes=1), Why.CAP, now_ms()) == 1_000
    fill(tables, 5, 1)  # late


def by_hand(tables: Tables) -> None:
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(5)}'")


def by_a_shorter_retention(tables: Tables) -> None:
    by_hand(tables)
    fill(tables, 5, 1)
    tables.command(f"INSERT INTO DB.dropped (table, day, time, why, done) VALUES ('flows', '{day(5)}', now64(3), 2, 1)")


@pytest.mark.parametrize("gone", [by_the_cap, by_hand, by_a_shorter_retention])
def test_the_ends_of_a_range_are_taken_whole_wherever_the_raw_windows_are_gone(tables: Tables, gone: Any) -> None:
    """As where their retention is over: what is asked of rollups alone is not cut by windows that are not there."""
    for ago in (5, 2):
        fill(tables, ago, 1_000)
    flags = {"clickhouse.url": tables.url, "clickhouse.database": tables.database}
    gone(tables)
    begin = start_of(day(5))
    with api_client(settings_module.load(flags={**flags, "kafka.bootstrap_servers": "127.0.0.1:1"})) as client:
        for by, seconds in (("pair", 3_600), ("src_addr", 3_600), ("dst_port", 60)):
            first, last = begin + 5_010, begin + 80_010
            wide = first // seconds * seconds, -(-last // seconds) * seconds
            whole, found = _asked(client, by, *wide), _asked(client, by, first, last)
            assert (found["since"], found["until"]) == (whole["since"], whole["until"])
            assert found["total"] == whole["total"]
            ((packets,),) = tables.rows(
                "SELECT sum(s.packets + s.packets_rev) FROM DB.services_1m AS s "
                f"WHERE time >= toDateTime({wide[0]}) AND time < toDateTime({wide[1]})"
            )
            assert found["total"]["packets"] + found["total"]["packets_rev"] == packets > 0
            kept = _asked(client, by, start_of(day(2)) + 5_010, start_of(day(2)) + 9_010)
            assert kept["since"] == iso(start_of(day(2)) + 5_010, digits=6)  # there they are cut


@pytest.mark.parametrize("gone", [by_the_cap, by_hand, by_a_shorter_retention])
def test_a_step_whose_raw_windows_are_gone_is_not_one_in_which_nothing_passed(tables: Tables, gone: Any) -> None:
    for ago in (5, 2):
        fill(tables, ago, 1_000)
    ledger_of(tables, day(0))
    gone(tables)
    flags = {"clickhouse.url": tables.url, "clickhouse.database": tables.database}
    with api_client(settings_module.load(flags={**flags, "kafka.bootstrap_servers": "127.0.0.1:1"})) as client:

        def values(ago: int, expression: str) -> set[int | None]:
            begin = start_of(day(ago)) + 3_600
            asked = {"since": iso(begin), "until": iso(begin + 36_000), "points": "10", "filter": expression}
            answer = client.get("/api/series", params=asked).json()
            return {*answer["series"][0]["values"]}

        assert values(5, "src_port = 7") == {None}  # nobody knows what it was
        assert values(2, "src_port = 7") == {0}
        assert values(5, "dst_port = 7") == {0}  # the rollups do
        assert not values(5, "dst_port = 443") & {0, None}


def _asked(client: TestClient, by: str, since: int, until: int) -> Any:
    answer = client.get("/api/top", params={"by": by, "since": iso(since), "until": iso(until), "limit": 10_000})
    assert answer.status_code == 200, answer.text
    return answer.json()
