"""What /health says, by how far everything has come."""

from typing import Any

import pytest

from producer.capture.devices import Hole
from producer.health import MOST_TROUBLES, STALLED_SECONDS, Status, health
from producer.interfaces.troubles import Trouble, refused
from producer.kafka.progress import Progress

SECOND = 1_000_000_000
NOW = 100 * SECOND


def told(*holes: Hole, troubles: tuple[Trouble, ...] = (), **progress: Any) -> dict[str, Any]:
    status = Status("n", interfaces=("eth0",), troubles=troubles, packets=7)
    return health(
        status, Progress(**({"released": 0} | progress)), ring_fill=0.123456, coalescing=True, holes=holes, now_ns=NOW
    )


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
    assert (found["ok"], found["error"]) == (well, None if well else "Kafka has not answered for 10 s")


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
