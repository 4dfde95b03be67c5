"""The oldest days go before there is no more room, and are known to be gone. Real ClickHouse."""

import json
from typing import Any

import pytest

from common.settings import ClickHouseSettings
from common.times import iso
from streams.disk.plan import Day, Why
from streams.store.disk import ClickHouseDisk
from tests.fix_local import WRITER
from tests.integration.fix_disk import bytes_on_disk, day, days_of, fill, keeper, ledger_of, now_ms, start_of
from tests.integration.fix_tables import Run, Tables

pytestmark = pytest.mark.clickhouse

ROWS = 20_000  # a day
COUNTED = (
    "SELECT (SELECT count() FROM DB.flows) + (SELECT sum(rows) FROM DB.dropped FINAL WHERE table = 'flows' AND done), "
    "(SELECT sum(packets + packets_rev) FROM DB.flows) "
    "+ (SELECT sum(packets) FROM DB.dropped FINAL WHERE table = 'flows'), "
    "(SELECT sum(lost) FROM DB.losses FINAL WHERE kind = 'dropped'), "
    "(SELECT sum(packets) FROM DB.dropped FINAL WHERE table = 'flows')"
)


def test_the_cap_holds_while_rows_stream_in_and_each_that_goes_is_counted(tables: Tables) -> None:
    cap = 8_000_000  # of 20,000,000 that come
    most = 0
    with keeper(tables, max_bytes=cap, reserve_bytes=0, rollup_retention_days=90) as kept:
        for number in range(16):  # eight days, two inserts each
            fill(tables, 9 - number // 2, ROWS, seed=number)
            kept.look()
            most = max(most, bytes_on_disk(tables))
        told = kept.told()
    assert told is not None
    assert cap // 2 < most <= cap
    ((rows, packets, lost, dropped),) = tables.rows(COUNTED)
    ((sent,),) = tables.rows("SELECT sum(packets + packets_rev) FROM DB.flows_1h")  # may have lost days, too
    assert rows == 16 * ROWS
    assert lost == dropped > 0
    assert packets >= sent
    assert days_of(tables, "flows")[0] > day(9)
    assert day(2) in days_of(tables, "flows")
    assert told["next_day"] is not None


def test_a_drop_that_was_cut_short_is_gone_on_with_once(tables: Tables) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    fill(tables, 5, ROWS)
    disk = ClickHouseDisk(settings)
    what = Day(table="flows", day=day(5), rows=ROWS, bytes=1)
    drop = disk.begin(what, Why.CAP, now_ms())
    assert drop is not None
    assert disk.begin(what, Why.CAP, now_ms() + 1) is None  # another worker, at the same time
    fill(tables, 5, 10, seed=9)  # late, before it goes
    with keeper(tables) as another:
        another.look()  # ours was killed here
    assert tables.rows("SELECT count() FROM DB.flows") == [(0,)]
    assert tables.rows("SELECT sum(rows), sum(done), count() FROM DB.dropped FINAL WHERE rows > 0") == [
        (ROWS + 10, 1, 1)
    ]
    # killed after it went, before that was written down
    fill(tables, 5, ROWS)
    again = disk.begin(what, Why.CAP, now_ms() + 2)
    assert again is not None
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(5)}'")
    fill(tables, 5, 7, seed=8)  # late, after it went
    with keeper(tables) as another:
        another.look()
    disk.close()
    assert tables.rows("SELECT count() FROM DB.flows") == [(7,)]
    assert tables.rows("SELECT sum(rows), min(done) FROM DB.dropped FINAL") == [(2 * ROWS + 10, 1)]


def test_what_goes_next_is_known_before(tables: Tables) -> None:
    fill(tables, 5, ROWS)
    size = bytes_on_disk(tables)
    with keeper(tables, max_bytes=int(size * 1.08), reserve_bytes=0) as kept:
        kept.look()
        (said,) = kept.warnings
        assert f"the day {day(5)} of flows goes next" in said
        told = kept.told()
    assert told is not None
    assert (told["next_table"], told["next_day"], told["last_dropped"]) == ("flows", str(day(5)), None)
    assert days_of(tables, "flows") == [day(5)]


def audit(run: Run, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("audit", "--format", "json", *words)
    return code, json.loads(out)


def drop(tables: Tables, table: str, ago: int) -> None:
    disk = ClickHouseDisk(ClickHouseSettings(url=tables.url, database=tables.database, **WRITER))
    time = {"flows": "window_begin", "ledger": "end_time"}[table]
    ((rows,),) = tables.rows(f"SELECT count() FROM DB.{table} WHERE toDate({time}) = '{day(ago)}'")
    begun = disk.begin(Day(table=table, day=day(ago), rows=rows, bytes=1), Why.CAP, now_ms())
    assert begun is not None
    assert disk.go_on(begun)
    disk.close()


def test_a_day_that_went_is_neither_missing_nor_exact(tables: Tables, run: Run) -> None:
    for ago in (4, 3, 2):
        fill(tables, ago, 3_000, seed=ago)
    ledger_of(tables, day(1))
    since, until = ("--since", iso(start_of(day(4)))), ("--until", iso(start_of(day(1))))
    code, report = audit(run, *since, *until)
    assert code == 0, report["message"]
    ((sent,),) = tables.rows(f"SELECT sum(packets + packets_rev) FROM DB.flows WHERE toDate(window_begin) = '{day(4)}'")
    drop(tables, "flows", 4)

    def told(*words: str) -> str:
        code, report = audit(run, *words)
        assert code == 1
        assert [loss["kind"] for loss in report["losses"]] == ["dropped", "dropped"]
        assert report["rollups"] == []
        assert sum(row["seen_packets"] - row["stored_packets"] - row["gone_packets"] for row in report["rows"]) == 0
        assert "missing" not in report["message"]
        return str(report["message"])

    said = told(*since, *until)
    assert f"{day(4)}: {sent:,} packet(s) of 2 nodes were dropped by the cap at" in said
    assert "fewer" not in said
    told("--since", iso(start_of(day(4)) + 40_000), *until)  # a part of that day
    assert audit(run, *until)[0] == 0  # nobody said since when: behind it
    assert audit(run, "--since", iso(start_of(day(3))), *until)[0] == 0
    drop(tables, "ledger", 4)  # then the accounts of that day
    code, report = audit(run, *since, *until)
    assert code == 1
    assert f"{day(4)}: {sent:,} packet(s)" in report["message"]
    assert report["rows"][0]["gone_packets"] == 0
    assert audit(run, *until)[0] == 0


def test_late_rows_of_a_day_that_went_are_stored_and_the_day_still_adds_up(tables: Tables, run: Run) -> None:
    fill(tables, 3, 3_000)
    fill(tables, 3, 60, seed=7)
    ledger_of(tables, day(2))
    words = ("--since", iso(start_of(day(3))), "--until", iso(start_of(day(2))))
    code, report = audit(run, *words)
    assert code == 0, report["message"]
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(3)}'")
    fill(tables, 3, 3_000)
    drop(tables, "flows", 3)
    _, report = audit(run, *words)
    assert "fewer and 0 packets (0 bytes) more went" in report["message"]  # the late ones have not come yet
    fill(tables, 3, 60, seed=7)
    _, report = audit(run, *words)
    assert "fewer" not in report["message"]
    drop(tables, "flows", 3)
    _, report = audit(run, *words)
    assert "fewer" not in report["message"]
    assert report["exact"] is False
    assert sum(loss["lost"] for loss in report["losses"]) == sum(row["seen_packets"] for row in report["rows"])
