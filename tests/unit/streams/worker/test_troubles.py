import logging

import pytest

from common import logs
from streams.testing import ManualClock
from streams.worker.troubles import MOST_TOLD, Place, Troubles

log = logs.get("streams")


async def test_a_success_clears_the_trouble_of_its_own_place_only() -> None:
    clock = ManualClock(1_000_000_000)
    troubles = Troubles(log, clock)
    refused, other = Place(3, 999_999_990), Place(4, 999_999_990)
    troubles.report("ClickHouse", "refused", refused)
    await clock.advance(5)
    troubles.report("ClickHouse", "refused still", refused)
    troubles.report("ClickHouse", "away", other)
    troubles.report("ClickHouse", None, other)
    troubles.report("ClickHouse", None, Place(3))
    assert troubles.of("ClickHouse") == "refused still"
    assert troubles.told() == [
        {
            "service": "ClickHouse",
            "partition": 3,
            "window_begin": "2001-09-09T01:46:30Z",
            "since": "2001-09-09T01:46:40Z",
            "error": "refused still",
        }
    ]
    troubles.report("ClickHouse", None, refused)
    assert not troubles
    assert troubles.of("ClickHouse") is None


async def test_of_many_the_oldest_are_named_and_all_are_counted() -> None:
    clock = ManualClock(0)
    troubles = Troubles(log, clock)
    for number in range(50):
        troubles.report("Kafka", f"no {number}", Place(number))
        await clock.advance(1)
    troubles.report("Kafka", "no 0, again", Place(0))
    assert [told["partition"] for told in troubles.told()] == list(range(MOST_TOLD))
    assert (troubles.count("Kafka"), troubles.count("ClickHouse"), troubles.of("Kafka")) == (50, 0, "no 0, again")


async def test_one_line_a_minute_however_many_places_are_in_trouble(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ayaflow.streams")
    clock = ManualClock(0)
    troubles = Troubles(log, clock)
    for _ in range(60):
        for number in range(20):
            troubles.report("ClickHouse", "away", Place(number))
            troubles.report("ClickHouse", None, Place(number + 1000))
        await clock.advance(0.5)
    for number in range(20):
        troubles.report("ClickHouse", None, Place(number))
    assert [record.getMessage() for record in caplog.records] == ["trying again until it works", "works again"]


async def test_a_service_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ayaflow.streams")
    clock = ManualClock(0)
    troubles = Troubles(log, clock)
    for _ in range(120):
        troubles.report("ClickHouse", "away")
        troubles.report("ClickHouse", None)
        await clock.advance(1)
    assert [record.getMessage() for record in caplog.records] == ["trying again until it works", "works again"] * 2
