"""What is asked of `ayaflow rewindow`: what cannot be done is a sentence, and which messages are read."""

from typing import Any

import pytest

from common.errors import QueryError
from streams.kafka.log import Ends
from streams.partition.again import Span
from streams.rewindow.plan import Wanted, bucket, check, earliest, offsets
from streams.store.rewindow.making import Stored

NOW = 1_800_000_000
HOUR = Span(NOW - 7_200, NOW - 3_600)


def wanted(**more: Any) -> Wanted:
    return Wanted(**{"span": HOUR, "window_seconds": 1, **more})


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (wanted(span=Span(NOW - 10, NOW - 10)), "--from is not before --to"),
        (wanted(span=Span(NOW - 10, NOW + 10)), "--to is after now"),
        (wanted(span=Span(NOW - 90 * 86_400, NOW)), "clickhouse.flows_retention_days: 90"),
        (wanted(filter="port = 443"), "--into NAME"),
        (wanted(into="a table"), "no name of a table"),
        (wanted(into="mine"), r"there is a table mine already.*DROP TABLE mine"),
        *(
            (wanted(into=name), f"--into {name}: tables of this name are ayaflow's own; name another one$")
            for name in ("flows", "flows_local", "packets", "top_talkers", "operator_x", "going_flows_20261128_1")
        ),
    ],
)
def test_what_cannot_be_done_says_what_to_ask_instead(request_: Wanted, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        check(request_, now=NOW, retention_days=90, tables={"flows", "mine"})
    check(wanted(into="incident", filter="port = 443"), now=NOW, retention_days=90, tables={"flows"})


def test_a_span_is_of_whole_windows_of_all_lengths() -> None:
    assert bucket(wanted(), {10}) == 10
    assert bucket(wanted(window_seconds=15), {10}) == 30
    assert bucket(wanted(), set()) == 1
    with pytest.raises(QueryError, match="--from 2027-01-15T06:00:00Z --to 2027-01-15T07:00:10Z"):
        bucket(wanted(span=Span(HOUR.begin + 1, HOUR.until + 9)), {10})


def test_messages_are_read_up_to_what_flows_has() -> None:
    ends = {0: Ends(0, 100), 1: Ends(20, 100), 2: Ends(0, 50)}
    warm, late = {0: 10, 1: 0, 2: 7}, {0: 90, 1: 95, 2: 50}
    stored = {0: Stored(60, beyond=True), 1: Stored(40, beyond=False)}
    assert offsets(wanted(), ends=ends, warm=warm, late=late, stored=stored) == {0: (10, 60), 1: (20, 40), 2: (7, 7)}
    kept = offsets(wanted(into="x"), ends=ends, warm=warm, late=late, stored=stored)
    assert kept == {0: (10, 60), 1: (20, 95), 2: (7, 50)}  # flows may have more to come


def test_what_kafka_removed_says_from_when_it_is_possible() -> None:
    stored = {0: Stored(60, beyond=True)}
    told = earliest(wanted(), ends={0: Ends(5, 9)}, first_ms={0: (HOUR.begin + 61) * 1000}, stored=stored)
    assert "2027-01-15T06:02:00Z on" in told
    assert earliest(wanted(), ends={0: Ends(5, 9)}, first_ms={0: HOUR.begin * 1000}, stored=stored) == ""
    assert earliest(wanted(), ends={0: Ends(0, 9)}, first_ms={0: NOW * 1000}, stored=stored) == ""  # all of it is there
    assert "empty" in earliest(wanted(), ends={0: Ends(9, 9)}, first_ms={0: None}, stored=stored)


def test_the_same_request_is_the_same_job() -> None:
    assert wanted().id_prefix(5) == wanted().id_prefix(5)
    others = [wanted(window_seconds=2), wanted(into="x"), wanted(filter="a"), wanted(span=Span(0, 1))]
    assert len({each.id_prefix(5) for each in (wanted(), *others)} | {wanted().id_prefix(6)}) == 6
