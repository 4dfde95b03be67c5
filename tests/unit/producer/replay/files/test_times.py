from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from producer.replay.files.times import to_ns


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(-(2**39), 2**39))
@example(2**64 - 1, 0x80 | 64, 0)
@example(2**64 - 1, 0x80 | 100, 0)
@example(2**64 - 1, 19, 0)
@example(2**64 - 1, 20, 0)
@example(2**64 - 1, 30, 0)
def test_times_agree_with_exact_arithmetic(ticks: int, resolution: int, offset: int) -> None:
    exponent = resolution & 0x7F
    unit = Fraction(1, 2**exponent if resolution & 0x80 else 10**exponent)
    exact = ticks * unit + offset
    (found,) = to_ns(np.array([ticks], np.uint64), resolution, offset).tolist()
    if 0 <= exact < 2**32:
        assert abs(found - int(exact * 10**9)) <= 1
    else:
        assert found < 0 or found >= 2**32 * 10**9


def test_microseconds_and_nanoseconds_are_exact() -> None:
    ticks = np.array([1_700_000_000_123_456, 0, 999_999], np.uint64)
    assert to_ns(ticks, 6, 0).tolist() == [1_700_000_000_123_456_000, 0, 999_999_000]
    assert to_ns(ticks * np.uint64(1000), 9, 5).tolist() == [1_700_000_005_123_456_000, 5_000_000_000, 5_999_999_000]


def test_an_absurd_offset_is_out_of_range_and_no_error() -> None:
    for offset in (-(2**63), 2**63 - 1):
        assert all(not 0 <= time < 2**32 * 10**9 for time in to_ns(np.array([0, 5], np.uint64), 6, offset).tolist())
