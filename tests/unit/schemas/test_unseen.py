"""Where a hole begins."""

import pytest

from schemas.unseen import is_hole


@pytest.mark.parametrize(
    ("device", "unseen", "hole"),
    [
        (0, 0, False),
        (9, 9, False),
        (10, 10, True),
        (11, 10, False),
        (17, 16, False),
        (18, 17, True),
        (400, 400, True),
        (400, 20, True),
        (2_000, 40, False),
        (2_000, 41, True),
        (10**12, 10**9, False),
    ],
)
def test_few_of_many_are_no_hole(device: int, unseen: int, hole: bool) -> None:
    assert is_hole(device, unseen) is hole
