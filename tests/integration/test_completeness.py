"""Beside each figure of the command line stands how complete its range is, and it is what the API says."""

import contextlib
import json
from typing import Any

import pytest

from common import settings as settings_module
from common.settings import ClickHouseSettings
from common.times import iso
from schemas.clickhouse.ddl import packets_sql
from schemas.clickhouse.rollups import SMALLEST
from streams.disk.plan import Day, Why
from streams.store.disk import ClickHouseDisk
from tests.fix_local import WRITER
from tests.integration.fix_api import api_client
from tests.integration.fix_disk import day, fill, ledger_of, now_ms, start_of
from tests.integration.fix_tables import Run, Tables

pytestmark = pytest.mark.clickhouse

QUERIES = ("SELECT count() FROM flows", "SELECT count() FROM numbers(3) AS n CROSS JOIN flows_1h")
COMMANDS = (
    ("flows",),
    ("names",),
    ("report", "throughput", "--addr", "10.0.0.1"),
    *(("query", sql) for sql in QUERIES),
)


@pytest.fixture
def stored(tables: Tables, window: int) -> Tables:
    """60 packets were seen in a window; 4 dropped, 6 not IP, 5 added up; 1 of 50 is not stored."""
    tables.flow(window_begin=window, packets=49, bytes=4_900)
    counts = {"seen_packets": 60, "emitted_packets": 45, "coalesced_packets": 5, "ring_full_packets": 4}
    tables.ledger(end=window + 9, windows={window: (49, 4_900)}, **counts, non_ip_packets=6, seen_bytes=0)
    tables.end(at=window + 20, epoch=2)
    return tables


def span(window: int) -> tuple[str, ...]:
    return "--since", iso(window - 60), "--until", iso(window + 60)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_below_the_table(stored: Tables, run: Run, window: int, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, *span(window))
    assert code == 0
    said = out.splitlines()[-1]
    assert (
        "83.3 % of 60 packets that the kernel saw are recorded (8.3 % added up by flow, 4 dropped, 6 not IP or not "
        "readable, 1 not stored yet); "
    ) in said
    assert said.endswith("; all of it is settled") or (command[0] == "report" and "; settled until 20" in said)
    hour = window // 3600 * 3600
    whole = {"query": (window - 60, window + 60), "report": ((window - 60) // 3600 * 3600, hour + 3600)}
    assert said.startswith("from ") is (command[0] in whole)
    if command[0] in whole:
        begin, end = whole[command[0]]
        assert said.startswith(f"from {iso(begin)} to {iso(end)}: ")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_rows_for_programs_have_nothing_in_between(stored: Tables, run: Run, window: int, form: str) -> None:
    for command in COMMANDS:
        _, out, err = run(*command, *span(window), "--format", form)
        assert "complete" not in out
        assert "60 packets that the kernel saw" in err if form == "csv" else '"seen_packets": 60' in err


def test_it_is_what_the_api_says(stored: Tables, run: Run, window: int) -> None:
    settings = settings_module.load(
        flags={
            "clickhouse.url": stored.url,
            "clickhouse.database": stored.database,
            "kafka.bootstrap_servers": "127.0.0.1:1",
        }
    )
    _, _, err = run("flows", *span(window), "--format", "json")
    told: dict[str, Any] = json.loads(err.splitlines()[0])["completeness"]
    with api_client(settings) as api:
        since, until = iso(window - 60), iso(window + 60)
        answer = api.get("/api/top", params={"by": "src_addr", "since": since, "until": until})
        link, rel = answer.headers["link"].split("; ")
        assert rel == 'rel="describedby"'
        assert api.get(link.strip("<>")).json() == {**told, "table": "flows"}  # what a range so short is read from
        assert "link" not in api.get("/api/fields").headers
        assert "link" not in api.get("/api/top", params={"by": "nothing"}).headers
    assert (told["seen_packets"], told["unstored_packets"], told["settled_until"]) == (60, 1, told["until"])


def test_what_waits_what_is_lost_and_what_a_rollup_lacks_are_told(tables: Tables, run: Run, window: int) -> None:
    hour = window // 3600 * 3600 - 7200
    for at in (3_500, 3_510):
        tables.flow(window_begin=hour + at, packets=5)
    tables.ledger(end=hour + 3_529, windows={hour + 3_500: (5, 0), hour + 3_510: (5, 0), hour + 3_520: (7, 0)})
    tables.end(at=hour + 3_530, epoch=2)
    tables.command(f"ALTER TABLE DB.{SMALLEST} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    tables.command(
        "INSERT INTO DB.losses (time, kind, node, gap_start, gap_end, lost) "
        f"VALUES ({hour + 5}, 'events', 'n1', 1, 4, 3), ({hour + 6}, 'messages', '', 1, 2, NULL)"
    )
    _, out, _ = run("query", "SELECT 1 FROM services_1m", "--since", iso(hour), "--until", iso(hour + 3_600))
    assert out.splitlines()[-1].partition(": ")[2] == (
        "100.0 % of 17 packets that the kernel saw are recorded; 2 losses of 3 packets or more (see ayaflow audit); "
        f"{SMALLEST} lacks 2 rows of flows (see ayaflow audit --rollups); settled until {iso(hour + 3_520)}"
    )


def test_it_is_told_of_the_table_that_answers_were_read_from(tables: Tables, window: int) -> None:
    day = window // 86_400 * 86_400 - 2 * 86_400
    for at, dst in ((10, "10.0.0.2"), (20, "10.0.0.1")):  # the second is to itself: one row of hosts_1h
        tables.flow(window_begin=day + at, packets=5, dst_addr=dst)
    for table in ("hosts_1h", "flows_1d"):
        tables.command(f"ALTER TABLE DB.{table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    for statement in packets_sql(ClickHouseSettings(database=tables.database), 28_000 * 86_400):
        tables.command(statement)
    passed = f"({day + 10}, 3), ({day + 11}, 1), ({day + 86_401}, 9)"
    tables.command(f"INSERT INTO DB.packets (time, packets) VALUES {passed}")
    settings = settings_module.load(
        flags={
            "clickhouse.url": tables.url,
            "clickhouse.database": tables.database,
            "kafka.bootstrap_servers": "127.0.0.1:1",
            "streams.window_seconds": "10",
        }
    )
    with api_client(settings) as api:
        span = {"since": iso(day), "until": iso(day + 86_400)}

        def lacks(**asked: str) -> tuple[int, int]:
            found = api.get("/api/completeness", params={**span, **asked}).json()
            assert found["table"] == asked.get("table", SMALLEST)
            return found["rollup_missing_records"], found["unkept_packets"]

        assert [lacks(), lacks(table="flows"), lacks(table="flows_1h")] == [(0, 0)] * 3
        assert [lacks(table="hosts_1h"), lacks(table="flows_1d"), lacks(table="packets")] == [(3, 0), (2, 0), (0, 6)]
        asked: tuple[tuple[str, dict[str, str], str], ...] = (
            ("top", {"by": "src_addr"}, "hosts_1h"),
            ("series", {"by": "src_addr,dst_addr", "points": "8"}, "flows_1h"),
            ("packets", {}, "packets"),
        )
        for path, parameters, table in asked:
            answer = api.get(f"/api/{path}", params={**span, **parameters})
            assert answer.headers["link"].split(">")[0].endswith(f"&table={table}"), answer.text
        assert lacks(table="hosts_1h", node="n1") == (3, 0)
        refused = api.get("/api/completeness", params={**span, "table": "flows_1d", "node": "n1"})
        assert refused.status_code == 400
        assert "flows_1d does not know nodes" in refused.json()["error"]
        refused = api.get("/api/completeness", params={**span, "table": "losses"})
        assert refused.status_code == 400
        assert "the tables are flows, services_1m" in refused.json()["error"]


def test_where_nobody_watched_nothing_is_claimed(tables: Tables, run: Run, window: int) -> None:
    tables.flow(window_begin=window, packets=5)
    said = run("flows", *span(window))[1].splitlines()[-1]
    assert said.startswith("nothing says how complete this is: no packet was counted in this time")
    assert "complete" not in run("query", "SELECT 1")[1]


def sent(tables: Tables, ago: int) -> dict[str, int]:
    """Packets of a day by node."""
    rows = tables.rows(
        "SELECT node, sum(packets + packets_rev) FROM DB.flows "
        f"WHERE toDate(window_begin) = '{day(ago)}' GROUP BY node ORDER BY node"
    )
    return {node: int(packets) for node, packets in rows}


def lacking(run: Run, *command: str) -> int:
    """Packets that the table has not which a command reads, of the days before the last two."""
    code, _, err = run(*command, "--since", iso(start_of(day(4))), "--until", iso(start_of(day(2))), "--format", "json")
    assert code == 0
    told = next(json.loads(line)["completeness"] for line in err.splitlines() if '{"completeness"' in line)
    assert told["seen_packets"] == told["recorded_packets"] > 0
    return int(told["unkept_packets"])


def test_what_was_read_and_is_not_in_the_table_is_told(tables: Tables, run: Run) -> None:
    """A retention, or a hand, took it: no rows is not silence."""
    for ago in (4, 3):
        fill(tables, ago, 100, seed=ago)
    ledger_of(tables, day(0))
    old, young = sent(tables, 4), sent(tables, 3)
    tables_read = ("flows", "services_1m", "hosts_1h", "flows_1h", "flows_1d")
    assert [lacking(run, "query", f"SELECT 1 FROM {table}") for table in tables_read] == [0] * 5
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(4)}'")
    tables.command("ALTER TABLE DB.hosts_1h DELETE WHERE node = 'n1' SETTINGS mutations_sync = 2")
    fill(tables, 4, 1)  # what n2 has too much, n1 has not
    (late,) = sent(tables, 4).values()
    assert lacking(run, "flows") == old["n1"] + old["n2"] - late
    assert lacking(run, "query", f"SELECT * FROM {tables.database}.flows") == lacking(run, "flows")
    assert lacking(run, "report", "top_talkers") == old["n1"] + young["n1"]
    assert lacking(run, "query", "SELECT 1 FROM flows_1d") == 0
    said = run("flows", "--since", iso(start_of(day(4))), "--until", iso(start_of(day(2))))[1].splitlines()[-1]
    assert "packets are not, or no longer, in the table flows; " in said


def test_what_went_for_want_of_room_is_a_loss_and_nothing_else(tables: Tables, run: Run) -> None:
    for ago in (4, 3):
        fill(tables, ago, 100, seed=ago)
    ledger_of(tables, day(0))
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    with contextlib.closing(ClickHouseDisk(settings)) as disk:
        assert disk.go(Day(table="flows", day=day(4), rows=100, bytes=1), Why.CAP, now_ms()) == 100
    assert lacking(run, "flows") == 0
    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(3)}'")
    assert lacking(run, "flows") > 0


def test_windows_that_were_made_anew_are_compared_where_both_lengths_begin(tables: Tables, run: Run) -> None:
    """Those of an hour, in the place of those of ten seconds: a range that begins within one leaves it out."""
    fill(tables, 3, 500)
    ledger_of(tables, day(0))
    tables.command("CREATE TABLE DB.anew AS DB.flows")
    hours = "toStartOfHour(window_begin) AS window_begin, toUInt16(3600) AS window_seconds"
    tables.command(f"INSERT INTO DB.anew SELECT * REPLACE ({hours}) FROM DB.flows")
    tables.command(f"ALTER TABLE DB.flows REPLACE PARTITION '{day(3)}' FROM DB.anew")
    begin = start_of(day(3))
    tables.command(
        "INSERT INTO DB.rewindowed (window_from, window_until, bucket_seconds) "
        f"VALUES ({begin}, {begin + 86_400}, 3600)"
    )

    def lacks() -> int:
        span = ("--since", iso(begin + 5_000), "--until", iso(begin + 50_000))
        err = run("flows", *span, "--format", "json")[2]
        return int(json.loads(err.splitlines()[0])["completeness"]["unkept_packets"])

    assert lacks() == 0
    tables.command(
        f"ALTER TABLE DB.flows DELETE WHERE window_begin = toDateTime({begin + 7_200}) SETTINGS mutations_sync = 2"
    )
    assert lacks() > 0
