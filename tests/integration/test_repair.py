"""`ayaflow audit --rollups` finds what differs from flows in any measure; `ayaflow repair` makes it anew."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from schemas.clickhouse.rollups import ROLLUPS
from tests.fix_local import WRITER
from tests.integration.fix_tables import Run, Tables

pytestmark = pytest.mark.clickhouse
DAY = (int(time.time()) // 86_400 - 2) * 86_400  # nobody writes to it
NAME = datetime.fromtimestamp(DAY, UTC).date().isoformat()
NEXT = (datetime.fromtimestamp(DAY, UTC) + timedelta(days=1)).date().isoformat()


@pytest.fixture
def stored(tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch) -> Tables:
    """Flows of two days, both ways, one of them late, one address with itself."""
    for name, value in WRITER.items():
        monkeypatch.setenv(f"AYAFLOW_CLICKHOUSE_{name.upper()}", value)
    for number in range(40):
        tables.flow(
            window_begin=DAY + number * 4_000,
            src_addr=f"::ffff:10.0.0.{number % 5}",
            dst_addr=f"::ffff:10.0.0.{number % 3}",
            dst_port=400 + number % 2,
            packets=number,
            bytes=number * 100,
            packets_rev=3,
            bytes_rev=300,
            tcp_flags=1 << number % 8,
            revision=number % 2,
            first_offset_us=5,
            last_offset_us=9_000_000,
        )
    return tables


def test_rollups_that_are_what_flows_is(stored: Tables, run: Run) -> None:
    code, out, err = run("audit", "--rollups", "--since", "4d")
    assert (code, err) == (0, "")
    days = [line for line in out.splitlines() if line.startswith("20")]
    assert [line[:10] for line in days] == [NAME, NEXT]
    assert all("equal in every row and measure" in line for line in days)
    assert all(table in days[0] for table in ROLLUPS)
    assert out.splitlines()[-1] == "all rollups are what flows is"


@pytest.mark.parametrize(
    "table", [pytest.param(name, marks=[pytest.mark.wide] * (n > 0)) for n, name in enumerate(ROLLUPS)]
)
def test_what_differs_is_found_and_made_anew(stored: Tables, run: Run, table: str) -> None:
    whole = stored.rows(f"SELECT * FROM DB.{table} FINAL ORDER BY ALL")
    columns = ", ".join(("time", *ROLLUPS[table].columns))
    more = [
        f"INSERT INTO DB.{table} ({columns}) SELECT {columns} FROM DB.{table} WHERE toDate(time) = '{NAME}' LIMIT 1"
    ]
    lost = (
        f"ALTER TABLE DB.{table} DELETE WHERE toDate(time) = '{NAME}' AND packets_rev > 0 SETTINGS mutations_sync = 2"
    )
    for statement in (*more, lost):
        stored.command(statement)
        code, out, _ = run("audit", "--rollups", "--since", "4d", "--format", "json")
        assert code == 1
        told = [json.loads(line) for line in out.splitlines()]
        wrong = [each for each in told if not each["equal"]]
        assert [(each["table"], each["day"]) for each in wrong] == [(table, NAME)]
        assert wrong[0]["wrong"]["packets_rev"] > 0
        assert wrong[0]["wrong"]["records"] > 0
        _, out, _ = run("audit", "--rollups", "--since", "4d")
        assert f"ayaflow repair --from {NAME} --to {NEXT}" in out
        code, _, err = run("repair", "--from", NAME, "--to", NEXT)
        assert code == 0, err
        assert stored.rows(f"SELECT * FROM DB.{table} FINAL ORDER BY ALL") == whole
        assert run("audit", "--rollups", "--since", "4d")[0] == 0
    assert "hold_" not in stored.rows("SHOW CREATE TABLE DB.flows")[0][0]


def test_a_wrong_flag_or_time_is_found_too(stored: Tables, run: Run) -> None:
    """No sum of these differs: only the row does."""
    for table, about in ROLLUPS.items():
        for column, value in {"tcp_flags": "64", "last_seen": "last_seen + 3600"}.items():
            if column in about.others:
                stored.command(
                    f"INSERT INTO DB.{table} (time, {', '.join(about.columns)}) SELECT time, "
                    + ", ".join(
                        value
                        if name == column
                        else "0"
                        if name in {"packets", "bytes", "packets_rev", "bytes_rev", "records"}
                        else name
                        for name in about.columns
                    )
                    + f" FROM DB.{table} WHERE toDate(time) = '{NAME}' ORDER BY ALL LIMIT 1"
                )
    code, out, _ = run("audit", "--rollups", "--since", "4d", "--format", "json")
    wrong = {each["table"]: each["wrong"] for each in map(json.loads, out.splitlines()) if not each["equal"]}
    assert code == 1
    assert wrong == {
        table: {name: 1 for name in ("tcp_flags", "last_seen") if name in about.others}
        for table, about in ROLLUPS.items()
        if about.others
    }


def test_days_that_cannot_be_repaired_are_left_alone(stored: Tables, run: Run) -> None:
    before = stored.rows("SELECT sum(packets) FROM DB.services_1m")
    code, _, err = run("repair", "--from", "today", "--to", "now")
    assert code == 2
    assert "still being written" in err
    code, _, err = run("repair", "--from", "90d", "--to", "now")
    assert code == 2
    stored.command(f"ALTER TABLE DB.flows DROP PARTITION '{NAME}'")
    code, _, err = run("repair", "--from", NAME, "--to", NEXT)
    assert code == 0
    assert "its rollups stay as they are" in err
    assert stored.rows("SELECT sum(packets) FROM DB.services_1m") == before


def test_what_was_killed_while_it_held_a_day_lets_it_go_the_next_time(stored: Tables, run: Run) -> None:
    hold = f"hold_{NAME.replace('-', '')}_repair_a CHECK toDate(window_begin) != toDate('{NAME}')"
    stored.command(f"ALTER TABLE DB.flows ADD CONSTRAINT {hold}")
    code, _, err = run("repair", "--from", NAME, "--to", NEXT)
    assert code == 0, err
    stored.flow(window_begin=DAY, packets=1)
    assert run("audit", "--rollups", "--since", "4d")[0] == 0
