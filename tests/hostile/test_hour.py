"""An hour among hostile neighbours (SECONDS=3600, SEED=1): make test-hostile."""

import os

import pytest

from tests.faults import results
from tests.hostile.run import hostile

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults]

SECONDS = float(os.environ.get("SECONDS_HOSTILE", "3600"))
SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.timeout(SECONDS + 900)
def test_a_hostile_neighbourhood_ends_exact_and_was_told_of_truly() -> None:
    figures = hostile(SEED, seconds=SECONDS, longest=30, pause=10)
    print(figures)
    results.record("hostile neighbourhood", f"seed {SEED}, {SECONDS:g} s", **figures)
