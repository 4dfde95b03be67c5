"""A short form of the hostile neighbourhood, part of make test: each kind of neighbour once."""

import pytest

from tests.hostile.neighbourhood import ACTS
from tests.hostile.run import hostile

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]


def test_every_kind_of_neighbour_once_and_all_is_stored_once() -> None:
    hostile(1, seconds=0, longest=2, pause=0.5, names=sorted(ACTS))
