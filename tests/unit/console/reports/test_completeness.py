from datetime import UTC, datetime
from typing import Any

from console.reports.completeness import Completeness, of, of_live
from console.reports.sentence import sentence

UNTIL = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEDGER: dict[str, Any] = {
    "seen_packets": 107,
    "recorded_packets": 97,
    "coalesced_packets": 10,
    "dropped_packets": 4,
    "unread_packets": 6,
    "unstored_packets": 5,
    "unclosed_epochs": 2,
    "inspected_packets": 30,
    "copied_packets": 20,
}


def read(**packets: int) -> dict[str, Any]:
    return dict.fromkeys(("named", "incomplete", "malformed", "encrypted", "nameless", "unused", "lost"), 0) | packets


def test_a_range_without_a_ledger_has_seen_nothing() -> None:
    nothing = of(dict.fromkeys(LEDGER, 0))
    assert nothing == Completeness()
    assert sentence(nothing, UNTIL) == "nothing says how complete this is: no packet was counted in this time"
    assert nothing.as_json(UNTIL, UNTIL)["settled_until"] is None


def test_what_the_tables_say_is_told_in_a_sentence() -> None:
    losses: list[dict[str, Any]] = [
        {"kind": "events", "lost": 3},
        {"kind": "messages", "lost": None},
        {"kind": "refused names", "lost": 9},
    ]
    names = [read(named=12, encrypted=3, unused=7), read(named=3, lost=2)]
    found = of(LEDGER, losses, names, rollup_missing_records=8, settled_until=UNTIL.timestamp() - 15)
    assert found == Completeness(
        **LEDGER,
        losses=3,
        lost_packets=3,
        named_packets=15,
        unnamed_packets=5,
        rollup_missing_records=8,
        settled_until=UNTIL.timestamp() - 15,
    )
    assert sentence(found, UNTIL) == (
        "90.7 % of 107 packets that the kernel saw are recorded (9.3 % added up by flow, 4 dropped, 6 not IP or not "
        "readable, 5 not stored yet, 2 epochs unclosed); 3 losses of 3 packets or more (see ayaflow audit); "
        "services_1m lacks 8 rows of flows (see ayaflow audit --rollups); 75.0 % of what was read for names has one; "
        "settled until 2026-05-01T11:59:45Z"
    )


def test_all_is_settled_when_nothing_is_behind() -> None:
    found = of({"seen_packets": 5, "recorded_packets": 5}, settled_until=UNTIL.timestamp())
    assert sentence(found, UNTIL) == "100.0 % of 5 packets that the kernel saw are recorded; all of it is settled"
    assert of({}, settled_until=float("inf")).settled_until is None


def test_live_messages_count_what_was_not_recorded_too() -> None:
    totals = {"packets": 90, "non_ip_packets": 3, "malformed_packets": 2, "unknown_link_packets": 1}
    found = of_live(totals | {"ring_full_packets": 4, "coalesced_packets": 10})
    assert found.of_traffic() == {
        "seen_packets": 100,
        "recorded_packets": 90,
        "coalesced_packets": 10,
        "dropped_packets": 4,
        "unread_packets": 6,
    }
