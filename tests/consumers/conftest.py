"""One site for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.consumers.site import Site, site


@pytest.fixture(scope="package")
def here(root_and_bcc: None) -> Iterator[Site]:
    """It runs; no packet passes any more."""
    with site() as made:
        yield made
