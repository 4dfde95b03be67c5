"""The audit's comparison, a case for each kind of difference."""

import io
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.errors import QueryError
from console.audit import model
from console.audit import report as audit_report
from console.audit.around import Around
from console.audit.model import Report
from console.audit.read import Range
from console.audit.readings import (
    NOTHING,
    Cell,
    Count,
    Difference,
    EpochTotals,
    Loss,
    Place,
    Readings,
    RollupDifference,
    WindowTotals,
)
from console.audit.settle import PAUSE_SECONDS, Settling
from console.audit.settled import Gap, Reach
from console.query.times import EARLIEST

START = 1_800_000_000  # a window of 10 s begins here
END = START + 10
PLACE = Place(node="n1", interface="eth0", direction="ingress")
AROUND = Around(backlog={"messages": 0, "partitions": []})


def count(packets: int) -> Count:
    return Count(packets=packets, bytes=packets * 100)


def epochs(consumed: int, *, kernel: Difference | None = None, kafka: Difference | None = None) -> EpochTotals:
    """Epochs that saw what was consumed, 4 of it coalesced, 3 packets that are not IP, 2 malformed and 1 dropped."""
    kernel, kafka = kernel or Difference(), kafka or Difference()
    emitted = count(consumed) + kafka.net()
    return EpochTotals(
        place=PLACE,
        epochs=20,
        seen=emitted + count(6) + kernel.net(),
        emitted=emitted - count(4),
        coalesced=count(4),
        non_ip=count(3),
        malformed=count(2),
        unknown_link=count(0),
        ring_full=count(1),
        consumed=count(consumed),
        device=count(0),
        kernel=kernel,
        kafka=kafka,
        unclosed_epochs=0,
        unclosed=NOTHING,
    )


def windows(consumed: int, *cells: Cell) -> WindowTotals:
    lacking = sum((cell.consumed - cell.stored for cell in cells), Count())
    return WindowTotals(place=PLACE, chosen=count(consumed), open=lacking, cells=cells)


def cell(consumed: int, stored: int, *, epoch_end: float = END - 0.2) -> Cell:
    return Cell(
        window_begin=START,
        window_seconds=10,
        consumed=count(consumed),
        stored=count(stored),
        last_epoch_end=epoch_end if consumed else 0,
    )


def readings(
    epoch_totals: EpochTotals | None,
    window_totals: WindowTotals | None,
    *,
    stored_until: float = 0,
    ledger_until: float = 0,
    rollups: tuple[RollupDifference, ...] = (),
) -> Readings:
    """Of a node whose ledger reaches until now."""
    return Readings(
        now=0,
        epochs=(epoch_totals,) if epoch_totals else (),
        windows=(window_totals,) if window_totals else (),
        reaches=(
            Reach(
                node="n1",
                stored_until=stored_until,
                ledger_until=ledger_until,
                closed_until=END + 86_400,
                recorded=END + 86_400,
            ),
        ),
        rollups=rollups,
    )


def compare(found: Readings, *, now: float) -> Report:
    return model.compare(replace(found, now=now))


def test_what_streams_still_holds_of_a_window_is_in_flight_although_later_ones_are_stored() -> None:
    late = readings(epochs(100), windows(100, cell(100, 60)), stored_until=END + 60)
    assert compare(late, now=END + 60).differs
    held = model.compare(replace(late, now=END + 60), open_since=START)
    assert (held.differs, held.rows[0].in_flight.missing) == (False, count(40))
    assert model.compare(replace(late, now=END + 60), open_since=END).differs  # of a later window


def test_what_is_stored_ahead_of_epochs_that_are_not_there_yet_is_no_difference() -> None:
    late = replace(readings(epochs(60), windows(60, cell(60, 100)), ledger_until=END + 60), now=END + 61)
    assert model.compare(late).differs
    (reach,) = late.reaches
    missing = replace(reach, gap=Gap(since=START + 3, first=4, epochs=2))
    found = model.compare(replace(late, reaches=(missing,)))
    assert (found.differs, found.rows[0].in_flight.surplus) == (False, count(40))
    later = replace(reach, gap=Gap(since=END + 30, first=40, epochs=2))
    assert model.compare(replace(late, reaches=(later,))).differs


def text(report: Report, around: Around = AROUND) -> str:
    out = io.StringIO()
    audit_report.show(report, around, EARLIEST, out)
    return out.getvalue()


def adds_up(report: Report) -> bool:
    """Every row: seen + unclosed = outcomes + stored + in flight + differences."""
    return all(
        row.seen + row.unclosed
        == row.non_ip
        + row.malformed
        + row.unknown_link
        + row.dropped
        + row.stored
        + row.in_flight.net()
        + row.difference().net()
        for row in report.rows
    )


def test_equal_totals_are_exact() -> None:
    report = compare(readings(epochs(100), windows(100)), now=END + 1000)
    (row,) = report.rows
    assert (report.exact, report.settled) == (True, True)
    assert (row.stored, row.dropped, row.non_ip) == (count(100), count(1), count(3))
    assert adds_up(report)
    assert "Exact: 106 packets (10,600 bytes) seen by the kernel on 1 node" in text(report)


def test_nothing_stored_is_not_exact_and_says_so() -> None:
    report = compare(Readings(now=0, epochs=(), windows=(), reaches=(), rollups=()), now=END)
    assert (report.exact, report.empty) == (False, True)
    assert "nothing to audit yet" in text(report)


def test_a_window_that_is_not_closed_is_in_flight() -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 0)), stored_until=START), now=END + 1)
    (row,) = report.rows
    assert (report.exact, report.settled, report.settled_until) == (True, True, START)
    assert row.in_flight == Difference(missing=count(40))
    assert row.stored == count(60)
    assert adds_up(report)
    assert "40 packets (4,000 bytes) in flight" in text(report)


@pytest.mark.parametrize(
    ("stored_until", "lost"), [(END, False), (END + 1.9, False), (END + 2, True), (END + 10, True)]
)
def test_consumed_but_not_stored_is_lost_when_a_later_window_is_stored(stored_until: float, lost: bool) -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 30)), stored_until=stored_until), now=END + 30)
    (row,) = report.rows
    assert report.exact is not lost
    assert row.store == (Difference(missing=count(10)) if lost else Difference())
    assert adds_up(report)
    if lost:
        assert "10 packets (1,000 bytes) missing, from the window of 2027-01-15T08:00:00Z on" in text(report)


def test_late_packets_wait_for_their_correction() -> None:
    late = cell(40, 30, epoch_end=END + 25)
    assert compare(readings(epochs(100), windows(100, late), stored_until=END + 20), now=END + 27).exact
    assert not compare(readings(epochs(100), windows(100, late), stored_until=END + 30), now=END + 27).exact


@pytest.mark.parametrize(("ledger_until", "wrong"), [(END, False), (END + 2, True)])
def test_stored_but_not_in_the_ledger_is_wrong_when_the_ledger_is_past_it(ledger_until: float, wrong: bool) -> None:
    report = compare(
        readings(epochs(100), windows(100, cell(0, 7)), stored_until=END + 60, ledger_until=ledger_until), now=END + 5
    )
    (row,) = report.rows
    assert report.exact is not wrong
    assert (row.store if wrong else row.in_flight) == Difference(surplus=count(7))
    assert row.stored == count(107)
    assert adds_up(report)


@pytest.mark.parametrize(("now", "late"), [(START + 80, False), (START + 80.1, True)])
def test_a_window_in_flight_for_too_long_is_not_settled_and_is_not_called_missing(now: float, late: bool) -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 0, epoch_end=END))), now=now)
    assert report.exact is report.settled is not late
    assert not report.differs
    assert adds_up(report)
    said = "Not settled since 2027-01-15T08:00:00Z:\n  n1: packets of windows from 2027-01-15T08:00:00Z on are consumed"
    assert (said in text(report)) is late
    assert "streams" not in text(report), "nobody found out that it is streams"


def test_a_correction_in_flight_does_not_set_back_the_moment_by_hours() -> None:
    late = cell(40, 30, epoch_end=END + 3600)
    report = compare(readings(epochs(100), windows(100, late), stored_until=END + 3590), now=END + 3605)
    assert (report.exact, report.settled_until) == (True, END + 3590)


def test_rows_of_a_node_that_the_ledger_does_not_know_are_not_settled() -> None:
    found = replace(readings(None, windows(0, cell(0, 7))), reaches=())
    report = compare(found, now=END + 200)
    assert (report.exact, report.settled_until) == (False, START)
    assert "n1: windows from 2027-01-15T08:00:00Z on are stored, and none of its epochs is known." in text(report)


def test_what_is_stored_ahead_of_its_ledger_row_is_a_figure_of_its_own_and_never_a_negative_one() -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 60))), now=END + 5)
    assert report.exact
    said = text(report)
    assert "= 100 packets (10,000 bytes) stored + 3 packets (300 bytes) not IP" in said
    assert "20 packets (2,000 bytes) more are stored ahead of their ledger row." in said
    assert "in flight" not in said.splitlines()[-2]
    assert "-" not in said.splitlines()[-2]


def test_missing_and_surplus_do_not_cancel_out() -> None:
    other = replace(cell(50, 60), window_begin=START - 100)
    report = compare(
        readings(epochs(100), windows(100, cell(40, 30), other), stored_until=END + 60, ledger_until=END + 60),
        now=END + 5,
    )
    (row,) = report.rows
    assert not report.exact
    assert row.store == Difference(missing=count(10), surplus=count(10))
    assert row.first_wrong_window == START - 100
    assert adds_up(report)
    assert "-10 +10" in text(report)


def test_bytes_alone_make_a_difference() -> None:
    wrong = Cell(
        window_begin=START,
        window_seconds=10,
        consumed=Count(packets=4, bytes=400),
        stored=Count(packets=4, bytes=340),
        last_epoch_end=END,
    )
    report = compare(readings(epochs(100), windows(100, wrong), stored_until=END + 60), now=END + 5)
    assert not report.exact
    assert "-60 B" in text(report)


def test_the_kernel_counting_wrong_is_a_difference_of_its_own() -> None:
    report = compare(readings(epochs(100, kernel=Difference(missing=count(5))), windows(100)), now=END)
    assert not report.exact
    assert report.rows[0].kernel.missing == count(5)
    assert adds_up(report)
    assert "outcomes do not add up" in text(report)


def test_packets_lost_or_doubled_in_kafka_are_a_difference_of_their_own() -> None:
    wrong = Difference(missing=count(9), surplus=count(2))
    report = compare(readings(epochs(100, kafka=wrong), windows(100)), now=END)
    assert not report.exact
    assert report.rows[0].kafka == wrong
    assert adds_up(report)
    assert "9 packets (900 bytes) missing and 2 packets (200 bytes) too many" in text(report)


def test_a_rollup_that_differs_is_not_exact() -> None:
    wrong = RollupDifference(
        table="services_1m", node="n1", interface="eth0", periods=2, first_period=START, difference=count(3)
    )
    report = compare(readings(epochs(100), windows(100), rollups=(wrong,)), now=END)
    assert not report.exact
    assert "services_1m differs from flows by 3 packets (300 bytes) in 2 period(s)" in text(report)
    everywhere = replace(wrong, table="flows_1d", node="", interface="")
    report = compare(readings(epochs(100), windows(100), rollups=(everywhere,)), now=END)
    assert "flows_1d differs from flows by 3 packets (300 bytes) in 2 period(s)" in text(report)
    assert "(all nodes)" in text(report)


def test_what_a_rollup_lacks_of_a_window_that_is_being_stored_is_in_flight_and_then_overdue() -> None:
    lacking = RollupDifference(
        table="flows_1h",
        node="n1",
        interface="eth0",
        periods=1,
        first_period=START,
        difference=count(3),
        open_until=END,
    )
    found = readings(epochs(100), windows(100), rollups=(lacking,))
    report = compare(found, now=END + 1)
    assert (report.exact, report.settled, report.rollups) == (True, True, ())
    assert "The rollups still lack 3 packets (300 bytes)." in text(report)
    report = compare(found, now=END + 61)
    assert (report.exact, report.settled, report.rollups) == (False, False, ())
    assert "Not settled" in text(report)
    assert "flows_1h lacks 3 packets (300 bytes)" in text(report)


def test_more_wrong_windows_than_are_listed_are_still_a_difference() -> None:
    totals = replace(windows(100, cell(40, 30)), open=count(25))
    report = compare(readings(epochs(100), totals, stored_until=START), now=END + 1)
    assert not report.exact
    assert report.rows[0].store == Difference(missing=count(15))
    assert adds_up(report)


def test_drops_are_shown_and_are_no_difference() -> None:
    report = compare(readings(epochs(100), windows(100)), now=END)
    assert report.exact
    assert "1 packet (100 bytes) dropped and counted" in text(report)


def test_coalesced_packets_are_told_and_are_no_difference() -> None:
    report = compare(readings(epochs(100), windows(100)), now=END)
    assert report.exact
    assert "4 packets (400 bytes) of them came coalesced by flow." in text(report)


def test_an_epoch_without_the_kernels_counters_is_not_exact_and_says_why() -> None:
    unclosed = replace(epochs(100), consumed=count(107), unclosed=count(7), unclosed_epochs=2)
    report = compare(readings(unclosed, windows(107)), now=END)
    assert not report.exact
    assert adds_up(report)
    assert report.rows[0].difference() == Difference()
    assert "7 packets (700 bytes) stored of 2 epoch(s) whose counters never came" in text(report)
    (row,) = audit_report.as_json(report, AROUND, EARLIEST)["rows"]
    assert (row["unclosed_epochs"], row["unclosed_packets"], row["coalesced_packets"]) == (2, 7, 4)


MESSAGES = Loss(kind="messages", node="", kafka_partition=3, ring_id=0, first=10, behind=50, noticed=START, lost=40)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (MESSAGES, "partition 3: up to 40 message(s), offsets 10 to 49, were removed from Kafka"),
        (
            replace(MESSAGES, kind="refused", node="n1", first=1_800_000_000, behind=1_800_000_010),
            "n1: 40 packet(s) of the window 2027-01-15T08:00:00Z are in the table refused",
        ),
        (
            replace(MESSAGES, kind="events", node="n1", first=800, behind=1600, lost=10),
            "n1: 10 events of the ring never",
        ),
        (
            replace(MESSAGES, kind="events", node="n1", first=800, behind=1600, lost=None),
            "n1: 800 bytes of events of the",
        ),
        (replace(MESSAGES, kind="entries", node="n1", first=1, behind=8, lost=7), "n1: 7 coalesced entries never came"),
        (
            replace(MESSAGES, kind="idle", node="n1", first=START * 10**9, behind=(START + 90) * 10**9, lost=None),
            "n1: nothing was counted from 2027-01-15T08:00:00Z to 2027-01-15T08:01:30Z",
        ),
        (
            replace(MESSAGES, kind="of a later version", lost=None),
            "all nodes, partition 3: lost: of a later version from",
        ),
    ],
)
def test_what_was_lost_on_the_way_is_not_exact(loss: Loss, said: str) -> None:
    for found in (readings(epochs(100), windows(100)), Readings(now=0, epochs=(), windows=(), reaches=(), rollups=())):
        report = compare(replace(found, losses=(loss,)), now=END)
        assert (report.exact, report.empty, report.differs) == (False, False, True)
        assert said in text(report)
        assert audit_report.as_json(report, AROUND, EARLIEST)["losses"][0]["noticed"] == "2027-01-15T08:00:00Z"


def test_a_window_of_a_clock_that_was_ahead_proves_nothing() -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 30)), stored_until=END + 86_400), now=END + 1)
    assert report.exact
    assert report.rows[0].in_flight == Difference(missing=count(10))


def test_json_has_the_same_figures() -> None:
    report = compare(readings(epochs(100), windows(100, cell(40, 30)), stored_until=END + 60), now=END + 5)
    found = json.loads(json.dumps(audit_report.as_json(report, AROUND, EARLIEST)))
    (row,) = found["rows"]
    assert (found["exact"], found["since"], found["until"]) == (False, None, "2027-01-15T08:00:15Z")
    assert (row["seen_packets"], row["ring_full_packets"], row["stored_packets"]) == (106, 1, 90)
    assert row["differences"]["store"]["missing"] == {"packets": 10, "bytes": 1000}
    assert row["first_wrong_window"] == "2027-01-15T08:00:00Z"


EXACT = compare(readings(epochs(100), windows(100)), now=END)
FLYING = model.compare(replace(readings(epochs(100), windows(100, cell(40, 0))), now=END), until=END)
WRONG = compare(readings(epochs(100), windows(100, cell(40, 0)), stored_until=END + 60), now=END + 30)


@pytest.mark.parametrize(
    ("reports", "wait", "last", "waited"),
    [
        ((EXACT,), 0, EXACT, 0),
        ((FLYING,), 0, FLYING, 0),
        ((WRONG, WRONG, EXACT), 0, EXACT, 1),
        ((WRONG,), 0, WRONG, 3),
        ((FLYING, FLYING, FLYING, EXACT), 10, EXACT, 1.5),
        ((FLYING,), 10, FLYING, 10),
        ((WRONG, FLYING), 0, FLYING, 0.5),
    ],
)
def test_a_difference_is_looked_at_again_before_it_is_believed(
    reports: tuple[Report, ...], wait: float, last: Report, waited: float
) -> None:
    time = 0.0
    settling = Settling(lambda: time, wait_seconds=wait)
    looks = itertools.chain(reports, itertools.repeat(reports[-1]))
    while settling.again(report := next(looks)):
        time += PAUSE_SECONDS
    assert (report, time) == (last, waited)


def test_what_the_ttl_may_have_removed_is_not_audited() -> None:
    now = datetime(2026, 5, 17, 13, 45, tzinfo=UTC)
    span = Range().within_retention(now, 90)
    assert now - timedelta(days=90) + timedelta(hours=1) <= span.since <= now - timedelta(days=90) + timedelta(hours=2)
    recent = Range(since=now - timedelta(hours=1), until=now, node="a")
    assert recent.within_retention(now, 90) == recent
    with pytest.raises(QueryError, match="kept for 90 days"):
        Range(until=now - timedelta(days=91)).within_retention(now, 90)


def test_names_do_nothing_to_a_terminal_are_cut_in_the_table_and_whole_in_json() -> None:
    name = "\x1b[31m\u202e" + "x" * 300
    found = epochs(100)
    hostile = replace(found, place=replace(PLACE, interface=name))
    report = compare(readings(hostile, replace(windows(100), place=hostile.place)), now=END + 1000)
    lines = text(report).splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 300
    assert audit_report.as_json(report, AROUND, EARLIEST)["rows"][0]["interface"] == name
