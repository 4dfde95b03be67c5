"""What the neighbours say beside the ledger, and which sentences come of it."""

from dataclasses import replace
from typing import Any

import pytest

from common.times import iso
from console import health
from console.audit import model, sentences
from console.audit.around import Around, Held
from console.audit.model import Report
from console.audit.readings import Readings
from console.audit.settled import Reach
from console.health import Verdict

NOW = 1_800_000_000.0
WELL = Verdict(ok=True)
PLACE = "the topic ayaflow.packets"


def backlog(*partitions: tuple[int, float, bool]) -> Verdict:
    """(number, age of the oldest, late)."""
    details = {
        "topic": "ayaflow.packets",
        "oldest_age_seconds": max((age for _, age, _ in partitions), default=0),
        "messages": 9 * len(partitions),
        "partitions": [
            {
                "partition": number,
                "messages": 9,
                "oldest_age_seconds": age,
                "read": True,
                "slow": age > 80,
                "late": late,
            }
            for number, age, late in partitions
        ],
    }
    late = any(late for *_, late in partitions)
    return Verdict(ok=not late, message="partition 6 stands still" if late else "", in_its_words=True, details=details)


def around(storing: Verdict, *, producer: Verdict = WELL, streams: Verdict = WELL) -> Around:
    return Around.of({"storing": storing, "producer": producer, "streams": streams}, PLACE)


def report(*reaches: Reach, neighbours: Around, node: str = "", until: float | None = None) -> Report:
    found = model.compare(Readings(now=NOW, epochs=(), windows=(), reaches=reaches, rollups=()), until=until)
    return found.with_stuck(neighbours.stuck_since(found.nodes, node, NOW))


def reach(node: str, *, silent: float = 0, partition: int = 2) -> Reach:
    return Reach(node=node, closed_until=NOW - 1 - silent, recorded=NOW - 1 - silent, kafka_partition=partition)


def test_a_partition_that_stands_still_is_not_exact_although_the_ledger_shows_nothing() -> None:
    neighbours = around(backlog((2, 4, False), (6, 300, True)))
    found = report(reach("n1"), neighbours=neighbours)
    assert (found.exact, found.settled_until) == (False, NOW - 300)
    assert sentences.sentences(found, neighbours)[:2] == [
        "Not settled since 2027-01-15T07:55:00Z:",
        "  partition 6 stands still.",
    ]
    assert report(reach("n1"), neighbours=neighbours, until=NOW - 400).exact, "what waits is younger"
    assert report(reach("n1"), neighbours=neighbours, node="n1").exact, "it is in another partition"
    assert not report(reach("n1", partition=6), neighbours=neighbours, node="n1").exact


def test_kafka_that_does_not_answer_is_said_beside_what_the_ledger_proves() -> None:
    away = around(Verdict(ok=False, message="does not answer (no answer in time)"))
    found = report(reach("n1"), neighbours=away)
    verdict, note = sentences.sentences(found, away)
    assert verdict.startswith("Exact: ")
    assert note == (
        "Whether Kafka holds more is not known: this is what the ledger proves. "
        "the topic ayaflow.packets does not answer (no answer in time)."
    )


def test_a_silent_node_is_told_with_what_to_do_and_no_guess_is_made() -> None:
    quiet, silent = around(backlog((2, 4, False))), reach("n1", silent=200)
    (_, line, *_) = sentences.sentences(report(silent, neighbours=quiet), quiet)
    assert line == (
        "  n1 has sent nothing since 2027-01-15T07:56:39Z. If it was switched off, audit until then: "
        "--until 2027-01-15T07:56:39Z; else look there: `ayaflow doctor`."
    )
    waits = around(backlog((2, 200, False)))
    assert "  n1: nothing that it saw after 2027-01-15T07:56:39Z is in the ledger." in sentences.sentences(
        report(silent, neighbours=waits), waits
    )
    stuck = around(backlog((2, 200, True)), streams=Verdict(ok=False, details={"troubles": [trouble()]}))
    said = sentences.sentences(report(silent, neighbours=stuck), stuck)
    assert said[1:] == [
        "  n1: nothing that it saw after 2027-01-15T07:56:39Z is in the ledger.",
        "  partition 6 stands still.",
        f"  streams, as asked from here: {health.troubles({'troubles': [trouble()]})[0]}.",
        "Kafka holds 9 messages that streams has not acknowledged; the oldest is 200 s old.",
    ]


@pytest.mark.parametrize("age", [85, 200], ids=["recorded just now", "silent"])
def test_a_producer_that_has_more_and_a_kafka_that_is_silent_are_told_instead_of_a_guess(age: float) -> None:
    """A broker that stands still: its last epoch is old before it is silent for long."""
    late = replace(reach("n1", silent=age), recorded=NOW - age + 20)
    nothing = f"  n1: nothing that it saw after {iso(NOW - 1 - age)} is in the ledger"
    asked = Verdict(ok=False, message="Kafka does not answer", in_its_words=True)
    away = around(asked)
    assert sentences.sentences(report(late, neighbours=away), away)[1:] == [
        f"{nothing}, and Kafka cannot be asked for it.",
        "Whether Kafka holds more is not known: this is what the ledger proves. Kafka does not answer.",
    ]
    producer = Verdict(ok=False, message="Kafka is silent", in_its_words=True, details={"node": "n1", "queue": 3})
    for storing in (asked, backlog((2, 4, False))):
        held = around(storing, producer=producer)
        assert sentences.sentences(report(late, neighbours=held), held)[1:3] == [
            f"{nothing}, and its producer has not sent all that it has.",
            "  The producer of n1 says: Kafka is silent.",
        ]
    well = around(backlog((2, 4, False)))
    assert ("catching up" in " ".join(sentences.sentences(report(late, neighbours=well), well))) == (age < 100)


def trouble() -> dict[str, Any]:
    return {
        "service": "ClickHouse",
        "partition": 2,
        "window_begin": "2027-01-15T07:55:50Z",
        "since": "2027-01-15T07:56:40Z",
        "error": "refused",
    }


@pytest.mark.parametrize(
    ("verdict", "held"),
    [
        (WELL, None),
        (Verdict(ok=False, message="does not answer (connection refused)"), None),
        (Verdict(ok=True, details={"node": "n1", "spool_bytes": 0, "queue": 3}), None),
        (
            Verdict(ok=True, details={"node": "n1", "spool_bytes": 700, "queue": 3}),
            Held(node="n1", spool_bytes=700, batches=3, error=""),
        ),
        (
            Verdict(ok=False, message="too large", in_its_words=True, details={"node": "n1", "queue": "?"}),
            Held(node="n1", spool_bytes=0, batches=0, error="too large"),
        ),
    ],
)
def test_what_a_producer_on_this_machine_holds(verdict: Verdict, held: Held | None) -> None:
    assert around(backlog(), producer=verdict).held == held


def test_a_producer_that_cannot_send_is_named_also_when_the_ledger_has_never_heard_of_it() -> None:
    error = Verdict(ok=False, message="Kafka refuses it", in_its_words=True, details={"node": "n9", "spool_bytes": 7})
    neighbours = around(backlog((2, 4, False)), producer=error)
    found = report(reach("n1"), neighbours=neighbours)
    assert not found.exact
    assert (
        "  The producer of n9 has 7 bytes on disk that are not sent yet, and says: Kafka refuses it."
        in sentences.sentences(found, neighbours)
    )
    assert report(reach("n1"), neighbours=neighbours, node="n1").exact
    on_its_way = replace(neighbours, held=Held(node="n1", spool_bytes=7, batches=1, error=""))
    found = report(reach("n1"), neighbours=on_its_way)
    assert "The producer of n1 has 7 bytes on disk that are not sent yet." in sentences.sentences(found, on_its_way)
    other = replace(neighbours, held=Held(node="n1", spool_bytes=0, batches=0, error="v1 is not watched"))
    found = report(neighbours=other)
    assert not found.differs
    assert not found.stuck, "what is wrong with it holds back nothing"
    found = report(reach("n1"), neighbours=other)
    assert found.exact
    assert "The producer of n1 says: v1 is not watched." in sentences.sentences(found, other)


def test_the_heading_says_which_range_until_when_and_of_which_nodes() -> None:
    nodes = (reach("n1"), replace(reach("n2", silent=7200), ended=True), reach("n3", silent=100_000))
    assert sentences.heading(report(*nodes, neighbours=around(backlog())), NOW - 200_000) == (
        "From 2027-01-13T00:26:40Z until 2027-01-15T07:59:59Z; "
        "3 nodes: n1, n2 (ended at 2027-01-15T05:59:59Z), n3 (nothing since 2027-01-14T04:13:19Z)."
    )


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({}, None),
        ({"oldest_open_window": None}, None),
        ({"oldest_open_window": 30}, 30),
        ({"oldest_open_window": "soon"}, None),
        ({"parts": [{"details": {"oldest_open_window": 40}}, {"details": {"oldest_open_window": 20}}, 7]}, 20),
    ],
)
def test_the_first_window_that_streams_holds_is_that_of_all_workers(details: dict[str, Any], expected: Any) -> None:
    assert around(backlog(), streams=Verdict(ok=True, details=details)).open_since == expected
