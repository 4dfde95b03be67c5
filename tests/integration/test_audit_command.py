"""`ayaflow audit` on a real ClickHouse (chdb): each kind of difference is found at its stage."""

import json
import time
from typing import Any

import pytest

from common.times import iso
from console.audit import sql as audit_sql
from schemas.clickhouse.rollups import ROLLUPS
from schemas.unseen import hole_sql, is_hole
from tests.integration.fix_tables import Run, Tables

pytestmark = pytest.mark.clickhouse


def audit(run: Run, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run("audit", "--format", "json", *words)
    assert err == ""
    report = json.loads(out)
    assert (code == 0) is report["exact"]
    return code, report


def test_an_empty_store_has_nothing_to_audit(run: Run, tables: Tables) -> None:
    code, out, _ = run("audit")
    assert code == 1
    assert "nothing to audit yet" in out


def stored_traffic(tables: Tables, window: int) -> None:
    """Both directions of an interface over two windows, with an epoch that lies across, a late packet, and drops."""
    tables.flow(window_begin=window, packets=10, bytes=1000, packets_rev=5, bytes_rev=500)
    tables.flow(window_begin=window, packets=1, bytes=60, revision=1)
    tables.flow(window_begin=window + 10, direction="egress", packets=4, bytes=400, packets_rev=7, bytes_rev=700)
    tables.ledger(end=window + 9.9, windows={window: (8, 860)}, epoch=1)
    tables.ledger(
        end=window + 10.4,
        windows={window: (3, 200), window + 10: (7, 700)},
        epoch=2,
        seen_packets=16,
        seen_bytes=1500,
        non_ip_packets=3,
        non_ip_bytes=180,
        malformed_packets=1,
        malformed_bytes=20,
        ring_full_packets=2,
        ring_full_bytes=400,
    )
    tables.ledger(end=window + 9.9, windows={window: (5, 500)}, epoch=1, direction="egress")
    tables.ledger(end=window + 10.4, windows={window + 10: (4, 400)}, epoch=2, direction="egress")
    tables.end(at=window + 10.4, epoch=2)


def test_equal_totals_are_exact_by_direction(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    code, report = audit(run)
    assert (code, report["settled"], report["rollups"]) == (0, True, [])
    ingress, egress = report["rows"]
    assert (ingress["direction"], egress["direction"]) == ("ingress", "egress")
    names = ("seen", "non_ip", "malformed", "ring_full", "stored")
    assert [ingress[f"{name}_packets"] for name in names] == [24, 3, 1, 2, 18]
    assert (ingress["stored_bytes"], egress["stored_packets"], egress["stored_bytes"]) == (1760, 9, 900)
    code, out, _ = run("audit")
    assert code == 0
    heading, _, first, *_, exact, note = out.splitlines()
    assert heading.endswith(f"; 1 node: n1 (ended at {iso(window + 10)}).")
    assert first.split() == ["n1", "eth0", "in", "24", "3", "1", "0", "2", "0", "18", "0", "0", "0"]
    assert exact.startswith("Exact: 33 packets")
    assert note.startswith("Whether Kafka holds more is not known: this is what the ledger proves.")


def test_ledger_rows_that_were_written_twice_count_once(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 9.9, windows={window: (8, 860)}, epoch=1)
    assert audit(run)[0] == 0


def test_a_short_range_of_the_ledger_is_read_like_a_long_one(tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 10.2, windows={window: (9, 900)}, epoch=1)  # another end of an epoch that was there
    for since, until, expected in (
        (0, 10, (1, 5)),
        (0, 11, (5, 9 + 16 + 5 + 4)),
        (10.3, 11, (3, 16 + 4)),
        (20, 30, (0, 0)),
    ):
        times = (f"toDateTime64({window + seconds}, 6, 'UTC')" for seconds in (since, until))
        where = "end_time > {} AND end_time <= {}".format(*times)
        for span in (3_600, 30 * 86_400):
            rows = audit_sql.ledger(where, span).replace(" ledger ", " DB.ledger ")
            assert tables.rows(f"SELECT count(), sum(seen_packets) {rows}") == [expected], (span, where)


def test_another_node_is_left_out_when_one_is_named(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.flow(window_begin=window, node="n2", packets=1, bytes=1)
    code, report = audit(run, "--node", "n1")
    assert code == 0
    assert {row["node"] for row in report["rows"]} == {"n1"}
    assert audit(run)[0] == 1


def test_a_range_compares_the_windows_at_its_edges_as_a_whole(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)

    def moment(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(window + seconds))

    code, report = audit(run, "--since", moment(10), "--until", moment(11))  # epoch 2 alone
    assert code == 0
    assert [row["seen_packets"] for row in report["rows"]] == [16, 4]
    assert [row["stored_packets"] for row in report["rows"]] == [10, 4]
    assert audit(run, "--since", moment(60), "--until", moment(70))[1]["empty"] is True


LOSE_A_REVISION = "ALTER TABLE DB.flows DELETE WHERE revision = 1"
STORE_A_ROW_MORE = """
    INSERT INTO DB.flows (window_begin, window_seconds, node, interface, direction, packets, bytes)
    SELECT window_begin, 10, 'n1', 'eth0', 'ingress', 2, 90 FROM DB.flows WHERE revision = 1"""
MISCOUNT_A_PACKET = """
    ALTER TABLE DB.ledger UPDATE seen_packets = seen_packets + 1 WHERE direction = 'ingress' AND epoch = 1"""
CONSUME_TWICE = """
    ALTER TABLE DB.ledger UPDATE emitted_packets = emitted_packets - 1, non_ip_packets = non_ip_packets + 1
    WHERE direction = 'ingress' AND epoch = 2"""
LOSE_BYTES = """
    ALTER TABLE DB.ledger UPDATE emitted_bytes = emitted_bytes + 5, seen_bytes = seen_bytes + 5
    WHERE direction = 'ingress' AND epoch = 2"""


@pytest.mark.parametrize(
    ("change", "stage", "missing", "surplus"),
    [
        (LOSE_A_REVISION, "store", (1, 60), (0, 0)),
        (STORE_A_ROW_MORE, "store", (0, 0), (2, 90)),
        (MISCOUNT_A_PACKET, "kernel", (1, 0), (0, 0)),
        (CONSUME_TWICE, "kafka", (0, 0), (1, 0)),
        (LOSE_BYTES, "kafka", (0, 5), (0, 0)),
    ],
)
def test_each_kind_of_difference_is_found_at_its_stage(
    run: Run, tables: Tables, window: int, change: str, stage: str, missing: tuple[int, int], surplus: tuple[int, int]
) -> None:
    stored_traffic(tables, window)
    tables.flow(window_begin=window + 60, packets=1, bytes=1)  # proof that all before is settled
    tables.ledger(end=window + 60.5, windows={window + 60: (1, 1)}, epoch=3)
    tables.end(at=window + 61, epoch=4)
    tables.command(f"{change} SETTINGS mutations_sync = 1" if "ALTER" in change else change)
    code, report = audit(run, "--node", "n1")
    assert code == 1
    found = {
        name: difference
        for name, difference in report["rows"][0]["differences"].items()
        if any(count for side in difference.values() for count in side.values())
    }
    assert found == {
        stage: {
            "missing": dict(zip(("packets", "bytes"), missing, strict=True)),
            "surplus": dict(zip(("packets", "bytes"), surplus, strict=True)),
        }
    }
    code, out, _ = run("audit")
    assert code == 1
    assert "Not exact:" in out


def lose_egress(tables: Tables, table: str) -> None:
    """Take from a rollup what stored_traffic brought of egress."""
    if "direction" in ROLLUPS[table].keys:
        tables.command(f"ALTER TABLE DB.{table} DELETE WHERE direction = 'egress' SETTINGS mutations_sync = 1")
        return
    # its rows are of both directions: what they lack is added, with its sign
    egress = {"packets": 4, "bytes": 400, "packets_rev": 7, "bytes_rev": 700, "records": 1}
    columns = ("time", *ROLLUPS[table].columns)
    values = (f"toUInt64(-{egress[name]})" if name in egress else name for name in columns)
    rows = f"DB.{table}" + (" WHERE role = 'initiator'" if table == "hosts_1h" else "")
    tables.command(f"INSERT INTO DB.{table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {rows} LIMIT 1")


@pytest.mark.parametrize("table", ROLLUPS)
def test_a_rollup_that_lost_rows_is_found(run: Run, tables: Tables, window: int, table: str) -> None:
    stored_traffic(tables, window)
    tables.flow(window_begin=window + 20, packets=2, bytes=200)  # proves that the windows before are stored
    tables.ledger(end=window + 21, windows={window + 20: (2, 200)}, epoch=3)
    tables.end(at=window + 22, epoch=4)
    assert audit(run)[0] == 0
    lose_egress(tables, table)
    code, report = audit(run)
    assert code == 1
    (rollup,) = report["rollups"]
    assert (rollup["table"], rollup["periods"], rollup["difference"]) == (table, 1, {"packets": 11, "bytes": 1100})


@pytest.mark.parametrize("table", ROLLUPS)
def test_what_a_rollup_lacks_of_the_last_insert_is_in_flight(run: Run, tables: Tables, table: str) -> None:
    """As when ClickHouse is killed between flows and its rollups."""
    last = int(time.time()) // 10 * 10 - 20
    stored_traffic(tables, last - 10)
    lose_egress(tables, table)
    code, report = audit(run)
    assert (code, report["settled"], report["rollups"]) == (0, True, [])
    (rollup,) = report["rollups_in_flight"]
    assert (rollup["table"], rollup["difference"], rollup["overdue"]) == (table, {"packets": 11, "bytes": 1100}, False)
    assert "The rollups still lack 11 packets (1,100 bytes)." in report["message"]
    # more than the last insert had
    tables.command(f"ALTER TABLE DB.{table} DELETE WHERE 1 SETTINGS mutations_sync = 1")
    code, report = audit(run)
    assert code == 1
    assert report["rollups"]


def test_a_window_that_is_still_open_is_in_flight_and_the_audit_speaks_up_to_it(run: Run, tables: Tables) -> None:
    current = int(time.time()) // 10 * 10
    stored_traffic(tables, current - 40)
    tables.ledger(end=current + 0.5, windows={current: (6, 600)}, epoch=3)
    code, report = audit(run)
    assert (code, report["settled"], report["until"]) == (0, True, iso(current))
    assert (report["rows"][0]["in_flight_packets"], report["rows"][0]["stored_packets"]) == (6, 18)
    code, out, _ = run("audit", "--wait", "0.4")
    assert code == 1  # asked to wait until all is settled that was seen up to now
    assert f"Not settled since {iso(current)}:" in out
    tables.flow(window_begin=current, packets=6, bytes=600)
    tables.end(at=current + 0.6, epoch=4)
    assert run("audit", "--wait", "5")[0] == 0


def test_a_node_that_is_silent_is_not_settled_since_then_unless_it_is_asked_until_then(
    run: Run, tables: Tables, window: int
) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 11, windows={}, epoch=3, interface="")  # it lives, and sees nothing
    code, report = audit(run)
    assert (code, report["settled"], report["until"], report["not_settled"]) == (1, False, iso(window + 11), ["n1"])
    assert not report["rollups"]
    assert audit(run, "--until", iso(window + 11))[0] == 0
    assert audit(run, "--until", "now")[0] == 1
    tables.command("ALTER TABLE DB.ledger UPDATE recorded = now() - 86500 WHERE 1 SETTINGS mutations_sync = 1")
    code, report = audit(run)  # it is long gone
    assert (code, report["nodes"][0]["standing"]) == (0, "gone")
    assert f"n1 (nothing since {iso(window + 11)})" in report["heading"]


def test_a_node_that_fell_silent_in_an_epoch_is_not_settled_since_the_one_before(
    run: Run, tables: Tables, window: int
) -> None:
    """Its last epoch was given up: nobody knows when it ended, and what else was in it."""
    stored_traffic(tables, window)
    tables.ledger(end=window + 11, windows={}, epoch=3, interface="")
    tables.ledger(end=window + 11.5, windows={window: (0, 0)}, epoch=4, closed=0, seen_packets=0)
    code, report = audit(run)
    assert (code, report["settled"], report["until"], report["not_settled"]) == (1, False, iso(window + 11), ["n1"])
    assert report["rows"][0]["unclosed_epochs"] == 1


def test_an_epoch_that_is_not_in_the_ledger_although_later_ones_are_is_not_settled(
    run: Run, tables: Tables, window: int
) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window - 3600, windows={}, epoch=3, interface="")  # the clock was stepped: it is not missing
    tables.end(at=window + 12, epoch=4)
    assert audit(run, "--since", iso(window - 60))[0] == 0
    tables.end(at=window + 14, epoch=7)
    code, report = audit(run, "--since", iso(window - 60))
    assert (code, report["settled_until"]) == (1, iso(window + 12))
    assert f"n1: 2 epoch(s) from 5 on, which began at {iso(window + 12)}, are not in the ledger" in report["message"]


def test_a_window_of_a_clock_that_is_ahead_proves_nothing_of_others(run: Run, tables: Tables) -> None:
    current = int(time.time()) // 10 * 10
    stored_traffic(tables, current - 60)
    tables.ledger(end=current - 19.5, windows={current - 20: (6, 600)}, epoch=3)  # consumed, and about to be stored
    tables.flow(window_begin=current + 3600, node="ahead", packets=1, bytes=1)  # in the same partition
    code, report = audit(run, "--node", "n1")
    assert (code, report["differs"], report["rows"][0]["in_flight_packets"]) == (0, False, 6)


def test_a_clock_of_next_year_does_not_make_it_settled_until_then(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=time.time() + 365 * 86_400, windows={}, epoch=3, interface="")
    code, report = audit(run)
    assert code == 0
    assert iso(time.time() - 60) < report["until"] <= iso(time.time())
    tables.command("ALTER TABLE DB.ledger UPDATE recorded = now() - 600 WHERE 1 SETTINGS mutations_sync = 1")
    code, report = audit(run)
    assert (code, report["not_settled"]) == (1, ["n1"])
    assert report["until"] < iso(time.time() - 500)


def test_a_node_that_fell_silent_before_the_range_is_still_in_it(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 11, windows={}, epoch=3, interface="")
    recent = int(time.time()) // 10 * 10 - 20
    tables.flow(window_begin=recent, node="n2", packets=1, bytes=60)
    tables.ledger(end=recent + 1, windows={recent: (1, 60)}, node="n2")
    code, report = audit(run, "--since", "1m")
    assert (code, report["not_settled"]) == (1, ["n1"])
    assert audit(run, "--since", "1m", "--node", "n2")[0] == 0


def test_what_a_device_counted_and_no_hook_saw_is_named(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    device = {"device_epochs": 10, "device_packets": 2_500, "device_bytes": 250_000}
    tables.ledger(end=window + 10.4, windows={}, epoch=2, interface="v0", **device, unseen_packets=2_500)
    code, report = audit(run)
    assert (code, report["differs"]) == (1, True)
    row = report["rows"][-1]
    figures = ("interface", "seen_packets", "device_packets", "device_bytes", "unseen_packets", "unseen_since")
    minute = iso((window + 10) // 60 * 60)
    assert [row[name] for name in figures] == ["v0", 0, 2_500, 250_000, 2_500, minute]
    assert report["message"].startswith(
        "Not exact: n1 v0 ingress: of 2,500 packets by the device's own counters in 1 minute from"
        f" {minute} on, 2,500 were not seen: the hook was not there"
    )


def test_a_hole_is_looked_for_by_the_minute(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    start = window // 60 * 60
    for number in range(
        12
    ):  # a minute with all, then one in which 5 % are not seen, with what a device keeps to itself
        for at, unseen in ((start + 5 * number, 1), (start + 60 + 5 * number, 50)):
            device = {"device_epochs": 10, "device_packets": 1_000, "unseen_packets": unseen}
            tables.ledger(end=at, windows={}, epoch=100 + at, interface="v0", **device)
    _, report = audit(run)
    assert (report["rows"][-1]["unseen_packets"], report["rows"][-1]["unseen_since"]) == (600, iso(start + 60))
    assert report["rows"][-1]["device_packets"] == 24_000


def test_the_rule_is_the_same_in_sql(tables: Tables) -> None:
    counts = [(device, unseen) for device in (0, 9, 10, 17, 18, 400, 2_000, 10_000) for unseen in range(401)]
    counts = [(device, unseen) for device, unseen in counts if unseen <= device]
    pairs = ", ".join(map(str, counts))
    found = tables.rows(f"SELECT c.1, c.2, {hole_sql('c.1', 'c.2')} FROM (SELECT arrayJoin([{pairs}]) AS c)")
    assert [bool(hole) for *_, hole in found] == [is_hole(device, unseen) for device, unseen in counts]
