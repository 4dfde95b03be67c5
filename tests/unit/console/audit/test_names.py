"""What the audit says of names."""

import pytest

from console.audit.model import compare
from console.audit.names import NameTotals, differences, note, totals
from console.audit.readings import Readings


def test_the_answers_of_all_questions_are_put_together_by_node() -> None:
    found = totals([{"node": "b", "copied": "7"}, {"node": "a", "copied": 1}], [{"node": "b", "named": 3}], [])
    assert found == (NameTotals(node="a", copied=1), NameTotals(node="b", copied=7, named=3))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kernel", "neither copied nor counted as skipped"),
        ("missing", "never came to streams"),
        ("surplus", "that the kernel did not count"),
        ("unexplained", "does not say what came of them"),
        ("differing", "not in the table names"),
    ],
)
def test_each_stage_that_differs_is_a_sentence_and_makes_the_audit_differ(name: str, said: str) -> None:
    wrong = NameTotals(node="n1", **{name: 1_234})
    (line,) = differences([NameTotals(node="n0"), wrong])
    assert line.startswith("n1: names: 1,234 ")
    assert said in line
    readings = Readings(now=0, epochs=(), windows=(), reaches=(), rollups=(), names=(wrong,))
    assert compare(readings).differs


def test_what_is_in_flight_or_open_or_lost_with_its_producer_is_no_difference() -> None:
    assert not NameTotals(node="n1", copied=9, in_flight=3, open=2, lost=1, unused=1).differs
    assert not differences([NameTotals(node="n1", in_flight=3, lost=1)])


def test_the_note_says_what_was_skipped_and_what_came_of_the_rest() -> None:
    assert note([NameTotals(node="n1")]) is None
    some = NameTotals(
        node="n1", inspected=1_010, copied=1_000, skipped_over_budget=10, named=900, incomplete=99, open=1
    )
    assert note([some]) == (
        "Names: 1,010 packets that may hold one = 1,000 copied + 10 skipped (over budget). "
        "Of what was read: 900 named, 99 incomplete, 1 open."
    )
