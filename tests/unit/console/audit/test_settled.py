"""Up to which moment a node is settled: each thing that can hold it back, and wrong clocks."""

import math
from dataclasses import replace

import pytest

from console.audit.settled import GONE_SECONDS, Gap, Reach, Reason, Settled, Standing, behind, settle

NOW = 1_800_000_000.0
LIVE = Reach(node="n1", closed_until=NOW - 1, recorded=NOW - 0.5, begun=NOW - 3600, window_seconds=10)
YEAR = 365 * 86_400.0


def settled(reach: Reach, *, flight: float | None = None, until: float | None = None) -> Settled | None:
    flights = {} if flight is None else {reach.node: flight}
    return next(iter(settle([reach], flights, until=until, now=NOW, node_timeout_seconds=10)), None)


def held_back(reach: Reach, *, flight: float | None = None, until: float | None = None) -> bool:
    nodes = [node for node in [settled(reach, flight=flight, until=until)] if node]
    return bool(behind(nodes, until=until, now=NOW, node_timeout_seconds=10))


@pytest.mark.parametrize(
    ("reach", "flight", "until", "reason"),
    [
        (LIVE, None, NOW - 1, Reason.NEWEST),
        (LIVE, NOW - 12, NOW - 12, Reason.FLIGHT),
        (replace(LIVE, gap=Gap(since=NOW - 30, first=7, epochs=2)), NOW - 12, NOW - 30, Reason.GAP),
        (replace(LIVE, ended=True), None, math.inf, Reason.NONE),
        (replace(LIVE, ended=True), NOW - 12, NOW - 12, Reason.FLIGHT),
        (replace(LIVE, closed_until=NOW - 100, recorded=NOW - 99), None, NOW - 100, Reason.NEWEST),
        (replace(LIVE, closed_until=NOW + YEAR), None, NOW - 0.5, Reason.NEWEST),  # its clock is ahead
        (replace(LIVE, closed_until=NOW + YEAR, recorded=NOW - 99), None, NOW - 99, Reason.NEWEST),  # and it is silent
        (replace(LIVE, closed_until=NOW - YEAR), None, NOW - YEAR, Reason.NEWEST),  # its clock is behind
        (replace(LIVE, read_until=NOW - 4), None, NOW - 4, Reason.NEWEST),  # what hooks missed is told by the next one
        (replace(LIVE, read_until=NOW - 1), None, NOW - 1, Reason.NEWEST),
        (replace(LIVE, read_until=NOW - 20), None, NOW - 1, Reason.NEWEST),  # no device is left to read
        (replace(LIVE, read_until=NOW - 14), NOW - 12, NOW - 14, Reason.FLIGHT),
        (replace(LIVE, read_until=NOW - 11), NOW - 12, NOW - 12, Reason.FLIGHT),
        (Reach(node="n1", closed_until=NOW - 40), None, NOW - 40, Reason.NEWEST),  # in flows alone
    ],
)
def test_a_node_is_settled_until_the_earliest_of_what_holds_it_back(
    reach: Reach, flight: float | None, until: float, reason: Reason
) -> None:
    found = settled(reach, flight=flight)
    assert found
    assert (found.until, found.reason) == (until, reason)


@pytest.mark.parametrize(("age", "late"), [(80, False), (80.1, True)])
def test_what_is_well_is_behind_by_a_window_the_time_out_of_nodes_and_a_minute_at_most(age: float, late: bool) -> None:
    assert held_back(replace(LIVE, closed_until=NOW - age, recorded=NOW - age)) is late
    assert held_back(LIVE, flight=NOW - age) is late


def test_a_moment_that_was_asked_for_is_taken_at_its_word() -> None:
    assert not held_back(LIVE, until=NOW - 1)
    assert held_back(LIVE, until=NOW - 0.9)
    assert held_back(LIVE, until=NOW + YEAR)
    assert not held_back(replace(LIVE, ended=True), until=NOW + YEAR)


def test_who_fell_silent_holds_the_audit_back_for_a_day_and_is_then_named_alone() -> None:
    silent = replace(LIVE, closed_until=NOW - 3600, recorded=NOW - 3600)
    assert held_back(silent)
    gone = replace(silent, closed_until=NOW - GONE_SECONDS - 1, recorded=NOW - GONE_SECONDS - 1)
    found = settled(gone)
    assert found
    assert (found.standing, held_back(gone)) == (Standing.GONE, False)
    assert held_back(gone, flight=NOW - 2 * GONE_SECONDS), "that it went is no excuse for what is not stored"


def test_a_node_without_an_epoch_in_the_range_is_in_the_audit_as_long_as_it_may_have_seen_something() -> None:
    stuck = replace(LIVE, inside=False, closed_until=NOW - 7200, recorded=NOW - 7200)
    assert held_back(stuck)
    assert settled(replace(stuck, ended=True)) is None
    assert settled(replace(stuck, recorded=NOW - GONE_SECONDS - 1)) is None
    assert settled(replace(LIVE, inside=False, begun=NOW - 10), until=NOW - 3600) is None, "it began later"
