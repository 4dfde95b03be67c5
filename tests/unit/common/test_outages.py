import logging
from typing import Any

import pytest

from common import logs
from common.logs import EVERY_SECONDS
from common.outages import Outages


class Setup:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "ayaflow.test")
        self._caplog, self.now = caplog, 1_000.0
        self.outages = Outages(logs.get("test"), lambda: self.now)

    def away(self, kind: str = "", error: str = "refused") -> None:
        self.outages.away("Kafka", "trying again", kind=kind, error=error)

    def said(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said since the last call."""
        found = [(record.getMessage(), record.__dict__["fields"]) for record in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def setup(caplog: pytest.LogCaptureFixture) -> Setup:
    return Setup(caplog)


def test_one_line_when_it_goes_one_a_minute_and_one_when_it_is_back(setup: Setup) -> None:
    for _ in range(1_201):  # ten minutes, two tries a second
        setup.away()
        setup.now += 0.5
    setup.outages.back("Kafka")
    first, *between, last = setup.said()
    assert first == ("trying again", {"service": "Kafka", "error": "refused"})
    assert between == [
        ("trying again", {"service": "Kafka", "error": "refused", "seconds": 60.0 * minute, "times": 120})
        for minute in range(1, 11)
    ]
    assert last == ("works again", {"service": "Kafka", "seconds": 600.5})


def test_of_one_that_is_well_nothing_is_said(setup: Setup) -> None:
    setup.outages.back("Kafka")
    assert setup.said() == []


def test_one_that_comes_and_goes_is_told_once_a_minute(setup: Setup) -> None:
    for _ in range(600):
        setup.away()
        setup.now += 0.5
        setup.outages.back("Kafka")
        setup.now += 0.5
    said = setup.said()
    assert [action for action, _ in said] == ["trying again", "works again"] * 10
    assert [fields["times"] for action, fields in said[2:] if action == "trying again"] == [60] * 9


def test_an_outage_of_which_nothing_was_said_ends_without_a_line(setup: Setup) -> None:
    setup.away()
    setup.outages.back("Kafka")
    setup.said()
    setup.away()
    setup.outages.back("Kafka")
    assert setup.said() == []
    setup.now += EVERY_SECONDS
    setup.away()
    assert len(setup.said()) == 1


def test_another_kind_of_failure_and_another_service_are_said_at_once(setup: Setup) -> None:
    setup.away("_TRANSPORT", "no broker answers")
    setup.away("TOPIC_AUTHORIZATION_FAILED", "not permitted")
    setup.outages.away("ClickHouse", "trying again", error="refused")
    setup.away("_TRANSPORT", "no broker answers")
    assert [fields["error"] for _, fields in setup.said()] == ["no broker answers", "not permitted", "refused"]
    setup.outages.back("Kafka")  # one line, however many kinds there were
    assert setup.said() == [("works again", {"service": "Kafka", "seconds": 0.0})]
