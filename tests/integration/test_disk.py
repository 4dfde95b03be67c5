"""The oldest days go before there is no more room, and are known to be gone. Real ClickHouse."""

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from common.times import iso
from schemas.clickhouse.rollups import ROLLUPS
from streams.disk.plan import Day, Why
from streams.store import disk as disk_module
from streams.store.connection import Connection
from streams.store.disk import ClickHouseDisk
from streams.store.repair import Days, holding
from tests.fix_local import WRITER
from tests.integration.fix_clickhouse import connect
from tests.integration.fix_disk import bytes_on_disk, day, days_of, fill, keeper, ledger_of, now_ms, start_of
from tests.integration.fix_stopped import Killed, Stopped
from tests.integration.fix_tables import Run, Tables
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.clickhouse

ROWS = 10_000  # a day
COUNTED = (
    "SELECT (SELECT count() FROM DB.flows) + (SELECT sum(rows) FROM DB.dropped FINAL WHERE table = 'flows' AND done), "
    "(SELECT sum(packets + packets_rev) FROM DB.flows) "
    "+ (SELECT sum(packets) FROM DB.dropped FINAL WHERE table = 'flows'), "
    "(SELECT sum(lost) FROM DB.losses FINAL WHERE kind = 'dropped'), "
    "(SELECT sum(packets) FROM DB.dropped FINAL WHERE table = 'flows')"
)


def test_the_cap_holds_while_rows_stream_in_and_each_that_goes_is_counted(tables: Tables) -> None:
    cap = 4_000_000  # of 10,000,000 that come
    most = number = 0
    with keeper(tables, lambda: 2.0 * number, max_bytes=cap, reserve_bytes=0, rollup_retention_days=90) as kept:
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


def killed() -> None:
    raise Killed


def lets_a_day_go(settings: ClickHouseSettings, number: int, then: Callable[[], None]) -> bool:
    """Whether it came to its end."""
    disk = ClickHouseDisk(settings)
    disk._connection = Stopped(settings, number, then)
    with contextlib.closing(disk):
        try:
            disk.go(Day(table="flows", day=day(5), rows=ROWS, bytes=1), Why.CAP, now_ms())
        except Killed:
            return False
        except ServiceUnavailable as error:
            if "Code: 60." not in str(error):  # UNKNOWN_TABLE: another went on with it
                raise
    return True


def who_went_on(tables: Tables) -> int:
    """Another worker looks -> rows that are kept or counted; what is counted is that once, and nothing else is left."""
    with keeper(tables) as another:
        another.look()
    ((kept, rows, begun, packets, counted),) = tables.rows(
        "SELECT (SELECT count() FROM DB.flows), sum(rows), countIf(NOT done), sum(packets), "
        "sum(arraySum(places.packets)) FROM DB.dropped FINAL WHERE table = 'flows'"
    )
    ((lost,),) = tables.rows("SELECT sum(assumeNotNull(lost)) FROM DB.losses FINAL")
    assert (begun, packets, lost) == (0, counted, counted)
    assert set_aside(tables, "total_rows > 0") == []
    return int(kept + rows)


def set_aside(tables: Tables, where: str) -> list[str]:
    rows = tables.rows(
        f"SELECT name FROM system.tables WHERE database = 'DB' AND match(name, '^(going|gone)_') AND {where}"
    )
    return [name for (name,) in rows]


def test_a_drop_that_is_cut_short_anywhere_is_gone_on_with_once(tables: Tables) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    sent = points = 0
    while True:
        fill(tables, 5, 1_000, seed=points)
        ended = lets_a_day_go(settings, points, killed)
        fill(tables, 5, 10, seed=100 + points)  # late
        sent += 1_010
        assert who_went_on(tables) == sent, points
        if ended:
            break
        points += 1
    assert points >= 7


def test_who_was_only_slow_while_another_went_on_counts_nothing_twice(tables: Tables) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    counted: list[int] = []

    def another() -> None:
        counted.append(who_went_on(tables))

    for point in range(7):
        fill(tables, 5, 1_000, seed=point)
        counted.clear()
        assert lets_a_day_go(settings, point, another)
        assert [*counted, who_went_on(tables)] == [1_000 * (point + 1)] * 2, point


def full() -> None:
    raise ServiceUnavailable("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")


@pytest.mark.parametrize("statement", range(5))
def test_a_disk_that_is_full_at_any_point_lets_the_day_go_all_the_same(tables: Tables, statement: int) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    fill(tables, 5, ROWS)
    assert lets_a_day_go(settings, statement, full)
    assert tables.rows("SELECT sum(rows), min(done) FROM DB.dropped FINAL") == [(ROWS, 1)]
    assert tables.rows("SELECT count() FROM DB.flows") == [(0,)]
    assert set_aside(tables, "true") == []


def test_what_was_made_for_a_drop_that_was_never_written_down_is_removed(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    fill(tables, 5, 1_000)
    assert not lets_a_day_go(settings, 1, killed)
    assert who_went_on(tables) == 1_000
    assert len(set_aside(tables, "total_rows = 0")) == 1  # somebody may be just about to use it
    monkeypatch.setattr(disk_module, "_FORGOTTEN_MS", -2_000)
    assert who_went_on(tables) == 1_000
    assert set_aside(tables, "true") == []


def test_rows_that_come_while_their_day_goes_are_kept_or_counted(tables: Tables) -> None:
    ended = threading.Event()
    sent = 0

    def went() -> int:
        ((times,),) = tables.rows("SELECT count() FROM DB.dropped FINAL WHERE table = 'flows' AND rows > 0")
        return int(times)

    def let_go() -> None:
        with keeper(tables, cap=1, reserve_bytes=0) as kept:
            while not ended.is_set():
                kept.look()

    going = threading.Thread(target=let_go)
    going.start()
    with contextlib.closing(connect(tables.url, autogenerate_session_id=False)) as client:
        own = Tables(tables.url, tables.database, client)
        try:
            while went() <= 5:
                fill(own, 5, 500, seed=sent)
                sent += 500
        finally:
            ended.set()
            going.join(HANG_SECONDS)
    assert not going.is_alive()
    assert who_went_on(tables) == sent


def test_a_repair_that_was_killed_keeps_its_day_and_no_other(tables: Tables) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    for ago in (5, 3):
        fill(tables, ago, 100)
    with contextlib.closing(Connection(settings, None)) as own, keeper(tables, cap=1, reserve_bytes=0) as kept:
        held = Days(own, settings)
        held.hold(day(5), "repair_a", "repair_")
        for _ in range(3):
            kept.look()
        assert {*days_of(tables, "flows"), *days_of(tables, "flows_1h")} == {day(5)}
        assert tables.rows(f"SELECT count(), countIf(day = '{day(5)}') FROM DB.dropped FINAL") == [
            (len(ROLLUPS) + 1, 0)
        ]
        assert any(f"{day(5)}: held by ayaflow repair" in warning for warning in kept.warnings)
        held.let_go(day(5), "repair_")
        kept.look()
        assert days_of(tables, "flows") == []


def test_a_day_that_is_held_does_not_go_and_one_that_goes_is_not_held(tables: Tables) -> None:
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    fill(tables, 5, 100)
    with contextlib.closing(Connection(settings, None)) as own, contextlib.closing(ClickHouseDisk(settings)) as disk:
        days = Days(own, settings)
        what = Day(table="flows", day=day(5), rows=100, bytes=1)
        with holding(days, day(5), "repair_a", "repair_"):
            assert disk.go(what, Why.CAP, now_ms()) == 0
        assert who_went_on(tables) == 100
        assert tables.rows("SELECT count() FROM DB.flows") == [(100,)]
        assert not lets_a_day_go(settings, 2, killed)
        with pytest.raises(ServiceUnavailable, match="is just going for want of room; try again"):
            days.hold(day(5), "repair_a", "repair_")
        assert days.held() == []
        assert who_went_on(tables) == 100
        assert disk.go(what, Why.CAP, now_ms()) == 100
        days.hold(day(5), "repair_a", "repair_")
        days.let_go(day(5), "repair_")


def test_what_goes_next_is_known_before(tables: Tables) -> None:
    fill(tables, 5, ROWS)
    size = bytes_on_disk(tables)
    with keeper(tables, cap=int(size * 1.08), reserve_bytes=0) as kept:
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
    assert disk.go(Day(table=table, day=day(ago), rows=rows, bytes=1), Why.CAP, now_ms()) == rows
    disk.close()


def test_a_day_that_went_is_neither_missing_nor_exact(tables: Tables, run: Run) -> None:
    for ago in (4, 3, 2):
        fill(tables, ago, 1_000, seed=ago)
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
    fill(tables, 3, 1_000)
    fill(tables, 3, 60, seed=7)
    ledger_of(tables, day(2))
    words = ("--since", iso(start_of(day(3))), "--until", iso(start_of(day(2))))
    code, report = audit(run, *words)
    assert code == 0, report["message"]
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(3)}'")
    fill(tables, 3, 1_000)
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
