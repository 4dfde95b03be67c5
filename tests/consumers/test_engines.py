"""The short form of `make test-consumers`, part of make test: the engines that need nothing installed."""

import pytest

from tests.consumers.__main__ import outcome
from tests.consumers.engines import ENGINES
from tests.consumers.site import Site

INSTALLED = ("python-library", "confluent-kafka", "aiokafka", "clickhouse")


@pytest.mark.root
@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.parametrize("name", INSTALLED)
def test_an_engine_counts_what_the_audit_counts(here: Site, name: str) -> None:
    problem, seen = outcome(ENGINES[name], here)
    assert not problem, problem
    assert "ayaflow.packets" in seen
