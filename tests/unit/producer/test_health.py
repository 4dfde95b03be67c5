"""What /health says, by how far everything has come."""

from typing import Any

import pytest

from producer.capture.devices import Hole
from producer.health import MOST_TROUBLES, STALLED_SECONDS, Status, health
from producer.interfaces.troubles import Trouble, refused
from producer.kafka.progress import Progress

SECOND = 1_000_000_000
NOW = 100 * SECOND


def told(
    *holes: Hole,
    troubles: tuple[Trouble, ...] = (),
    encoding_error: str | None = None,
    helper_error: str | None = None,
    names_fault: str | None = None,
    **progress: Any,
) -> dict[str, Any]:
    status = Status("n", interfaces=("eth0",), troubles=troubles, packets=7)
    fields = {"released": 0, "begun_ns": NOW, "looked_ns": NOW} | progress
    return health(
        status,
        Progress(**fields),
        encoding_error=encoding_error,
        helper_error=helper_error,
        names_fault=names_fault,
        ring_fill=0.123456,
        coalescing=True,
        holes=holes,
        now_ns=NOW,
    )


def test_a_fault_in_what_reads_names_is_told() -> None:
    found = told(names_fault="some copies cannot be read")
    assert (found["ok"], found["error"]) == (False, "some copies cannot be read")


def test_a_producer_that_has_sent_nothing_is_well() -> None:
    assert told() == {
        "ok": True,
        "stage": "producer",
        "node": "n",
        "interfaces": ["eth0"],
        "unwatched": [],
        "unwatched_interfaces": 0,
        "unknown_links": [],
        "unseen": [],
        "packets": 7,
        "last_ack_age_seconds": None,
        "ring_fill": 0.1235,
        "coalescing": True,
        "spool_bytes": 0,
        "queue": 0,
        "waiting_batches": 0,
        "waiting_bytes": 0,
        "waiting_seconds": None,
        "silent_seconds": 0.0,
        "error": None,
    }


def test_kafkas_last_word_is_told_with_its_age() -> None:
    found = told(acknowledged_ns=NOW - 1_500_000_000, in_flight=3, spool_bytes=9)
    assert (found["last_ack_age_seconds"], found["queue"], found["spool_bytes"]) == (1.5, 3, 9)


@pytest.mark.parametrize(
    ("waits_ns", "well"), [(STALLED_SECONDS * SECOND, True), (STALLED_SECONDS * SECOND + 1, False)]
)
def test_a_batch_that_waits_too_long_is_not_well(waits_ns: int, well: bool) -> None:
    found = told(oldest_ns=NOW - waits_ns)
    assert found["ok"] == well
    assert well or "Kafka has acknowledged nothing" in found["error"]


@pytest.mark.parametrize(("seconds", "well"), [(STALLED_SECONDS, True), (STALLED_SECONDS + 2, False)])
def test_a_producer_of_which_nothing_is_ever_acknowledged_is_not_well(seconds: int, well: bool) -> None:
    """Also when it has sent nothing: it says at least once a second that it lives."""
    since = NOW - seconds * SECOND
    never: dict[str, Any] = {"begun_ns": since}
    no_more: dict[str, Any] = {"begun_ns": 0, "acknowledged_ns": since}
    for progress in (never, no_more):
        found = told(**progress)
        assert (found["ok"], found["silent_seconds"]) == (well, seconds)
        assert well or "correct kafka.bootstrap_servers" in found["error"]


def test_a_registry_that_refuses_is_not_well_and_named() -> None:
    found = told(encoding_error="the schema registry at http://r refused: no; start it or correct schema_registry.url")
    assert (found["ok"], found["error"]) == (
        False,
        "the schema registry at http://r refused: no; start it or correct schema_registry.url",
    )


def test_what_waits_is_told_with_since_when() -> None:
    found = told(unacknowledged=3, waiting_bytes=900, waiting_since_ns=NOW - 5 * SECOND, spooling=True, spool_bytes=900)
    assert (found["waiting_batches"], found["waiting_bytes"], found["waiting_seconds"]) == (3, 900, 5.0)


def test_a_loop_that_hangs_is_not_well() -> None:
    found = told(looked_ns=NOW - 11 * SECOND)
    assert not found["ok"]
    assert "waited for 11 s for something that does not answer" in found["error"]


def test_an_error_of_kafka_is_not_well_and_one_of_the_disk_alone_is_told() -> None:
    assert (told(error="no topic")["ok"], told(error="no topic")["error"]) == (False, "no topic")
    found = told(disk_error="no room")
    assert (found["ok"], found["error"]) == (True, "no room")
    assert told(error="no topic", disk_error="no room")["error"] == "no room"


def test_a_device_whose_packets_we_do_not_see_is_named() -> None:
    answer = told(Hole(interface="v0", direction="ingress", device_packets=2_500, unseen_packets=2_500))
    assert not answer["ok"]
    assert "v0 ingress: 2,500 packets in a minute by the device's own counters, 2,500 of them unseen" in answer["error"]
    assert answer["unseen"] == [
        {"interface": "v0", "direction": "ingress", "device_packets": 2_500, "unseen_packets": 2_500}
    ]


def test_what_is_wanted_and_not_watched_is_not_well_and_named() -> None:
    found = told(troubles=tuple(refused(f"v{number}", "File exists") for number in range(MOST_TROUBLES + 5)))
    assert not found["ok"]
    assert found["error"] == "File exists. Or leave it out: capture.interfaces '!v0' (24 more in `unwatched`)"
    assert (len(found["unwatched"]), found["unwatched_interfaces"]) == (MOST_TROUBLES, MOST_TROUBLES + 5)
    assert found["unwatched"][1] == {
        "interface": "v1",
        "reason": "refused",
        "error": "File exists. Or leave it out: capture.interfaces '!v1'",
    }


def test_a_helper_that_ended_is_told_while_all_else_is_well() -> None:
    found = told(helper_error="the helper that attaches to interfaces has ended")
    assert (found["ok"], found["error"]) == (False, "the helper that attaches to interfaces has ended")
