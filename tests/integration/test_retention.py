"""Retentions that are changed between two starts, with rows in the tables. Real ClickHouse."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli import doctor
from common.errors import QueryError, ServiceUnavailable
from common.settings import ClickHouseSettings, Settings
from common.times import iso
from schemas.clickhouse import retention
from schemas.clickhouse.horizon import Horizon
from schemas.clickhouse.rollups import ROLLUPS
from streams.store import repair
from streams.store.clickhouse import ClickHouseStore
from tests.fix_local import WRITER
from tests.integration.fix_disk import day, days_of, fill, ledger_of, start_of
from tests.integration.fix_tables import Run, Tables, tables_of
from tests.waiting import until

pytestmark = pytest.mark.clickhouse

OLD = 40  # days
HORIZON = Horizon(inserts=1, seconds=1)


@pytest.fixture
def tables(clickhouse_server: str) -> Iterator[Tables]:
    """Tables of 90 and 730 days with a day of then, and one of yesterday; they are not used again."""
    with tables_of(clickhouse_server) as made:
        for ago in (OLD, 1):
            fill(made, ago, 100)
        yield made


def start(tables: Tables, **settings: Any) -> None:
    """A worker of streams starts, with these settings."""
    given = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER, **settings)
    store = ClickHouseStore(given, "t.packets", horizon=HORIZON)
    store.check()
    store.close()


def kept(tables: Tables) -> dict[str, set[int]]:
    """The days of each table's TTL, by setting."""
    found: dict[str, set[int]] = {}
    settings = dict.fromkeys(ClickHouseSettings().retention, -1)
    rows = tables.rows(retention.TABLES_SQL.replace("{database:String}", f"'{tables.database}'"))
    for change in retention.changes(ClickHouseSettings(database=tables.database), rows, settings):
        found.setdefault(change.setting, set()).add(change.before)
    return found


def test_a_retention_that_is_changed_holds_for_all_tables_and_for_what_is_in_them(tables: Tables) -> None:
    tables.command(
        "CREATE TABLE DB.operator_x (window_begin DateTime('UTC')) ENGINE = MergeTree ORDER BY window_begin "
        "TTL window_begin + INTERVAL 730 DAY"
    )
    assert kept(tables) == {"flows_retention_days": {90}, "names_retention_days": {30}, "rollup_retention_days": {730}}
    start(tables, flows_retention_days=30, names_retention_days=7, rollup_retention_days=400)
    assert kept(tables) == {"flows_retention_days": {30}, "names_retention_days": {7}, "rollup_retention_days": {400}}
    until(lambda: days_of(tables, "flows") == [day(1)])
    assert all(days_of(tables, name) == [day(OLD), day(1)] for name in ROLLUPS)
    assert tables.rows("SELECT count() FROM DB.dropped") == [(0,)]  # as it was wanted
    start(tables, rollup_retention_days=35, flows_retention_days=30)
    until(lambda: all(days_of(tables, name) == [day(1)] for name in ROLLUPS))
    start(tables)
    start(tables)
    assert kept(tables)["flows_retention_days"] == {90}
    assert tables.rows("SELECT table, day, toString(why), rows FROM DB.dropped") == [("flows", day(30), "retention", 0)]


def test_what_a_shorter_retention_removed_is_not_missing_under_a_longer_one(
    tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the rollups, which still have it, made anew from what is left."""
    ledger_of(tables, day(0))
    span = ("--since", iso(start_of(day(OLD))), "--until", iso(start_of(day(0))))
    assert run("audit", *span)[0] == 0
    start(tables, flows_retention_days=30)
    until(lambda: days_of(tables, "flows") == [day(1)])
    start(tables)
    code, out, _ = run("audit", *span, "--format", "json")
    assert (code, json.loads(out)["message"][:6]) == (0, "Exact:")
    code, out, _ = run("audit", "--rollups", *span, "--format", "json")
    assert (code, {json.loads(line)["day"] for line in out.splitlines()}) == (0, {str(day(1))})
    for words in (("audit",), ("audit", "--rollups")):
        code, _, err = run(*words, "--since", span[1], "--until", iso(start_of(day(OLD - 1))))
        assert code != 0
        assert "flows_retention_days was shorter before" in err
    fill(tables, OLD, 1)  # late, of a capture say: less than the rollups have
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    with pytest.raises(QueryError, match="90, and shorter before"):
        repair.run(settings, start_of(day(OLD)), start_of(day(OLD - 1)), tell=print)


def test_doctor_says_which_tables_are_not_kept_as_the_settings_say(tables: Tables) -> None:
    own = ClickHouseSettings(url=tables.url, database=tables.database, rollup_retention_days=400)
    with pytest.raises(ServiceUnavailable, match=r"flows_1h: 730 days instead of 400.*when it connects"):
        doctor.retention(Settings(clickhouse=own))
    start(tables, rollup_retention_days=400)
    assert doctor.retention(Settings(clickhouse=own)) == "flows 90, names 30, rollup 400 days"


def test_a_ttl_that_is_somebodys_own_is_left_alone(tables: Tables) -> None:
    own = "window_begin + toIntervalDay(200) WHERE protocol = 17"
    tables.command(f"ALTER TABLE DB.flows MODIFY TTL {own}")
    tables.command("ALTER TABLE DB.hosts_1h REMOVE TTL")
    tables.command("CREATE TABLE DB.incident AS DB.services_1m")
    start(tables, flows_retention_days=30, rollup_retention_days=400)
    ttls = dict(
        tables.rows(
            "SELECT name, extract(engine_full, 'TTL (.*?)( SETTINGS|$)') FROM system.tables WHERE database = 'DB'"
        )
    )
    assert (ttls["flows"], ttls["hosts_1h"]) == (own, "")
    assert (ttls["flows_1h"], ttls["incident"]) == ("time + toIntervalDay(400)", "time + toIntervalDay(730)")


def test_names_that_are_all_gone_by_their_retention_are_not_missing(tables: Tables, run: Run) -> None:
    """Nothing was read for names since: their ledger is kept for longer."""
    ledger_of(tables, day(0))
    for offset in (0, 10):  # of a partition's newest insert nothing is said
        tables.command(
            "INSERT INTO DB.names_ledger (node, clock, received, topic_id, kafka_offset_start, kafka_offset_end, "
            f"transactions) VALUES ('n1', {start_of(day(20))}, {start_of(day(20))}, 1, {offset}, {offset + 5}, 7)"
        )
    span = ("--since", iso(start_of(day(OLD))), "--until", iso(start_of(day(0))))
    code, out, _ = run("audit", *span, "--format", "json")
    assert (code, json.loads(out)["message"][:6]) == (0, "Exact:")
    tables.name(received=start_of(day(20)) - 10)  # but of what there is, all must be there
    code, out, _ = run("audit", *span, "--format", "json")
    assert code == 1
    assert "7 transaction" in json.loads(out)["message"]
