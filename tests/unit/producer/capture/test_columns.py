"""The compiled function and its twin in numpy read the same from the same records."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from producer.capture import columns
from producer.kernel.abi import BUSY, DISCARDED, EVENT, RECORD, TUNNEL_RECORD, Records

NAMES = ("ktime_ns", "bytes", "packets", "tcp_flags", "segment_bytes", "ttl", "tos", "epoch")


@st.composite
def made_up(draw: st.DrawFn) -> Records:
    """Records of any octets, of a few flows and epochs."""
    kind = draw(st.sampled_from([RECORD, TUNNEL_RECORD]))
    count = draw(st.integers(0, 70))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    records = np.frombuffer(random.bytes(count * kind.itemsize), kind).copy()
    records["header"] = kind["event"].itemsize
    hashes = np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)), np.uint64)
    records["event"]["flow_hash"] = random.choice(hashes, count)
    records["event"]["epoch"] = random.integers(254, 257, count)  # 0 follows 255
    records["event"]["ktime_ns"] >>= np.uint64(1)
    return records


@given(made_up())
def test_both_read_the_same(records: Records) -> None:
    ours, theirs = columns.compiled(records), columns.by_numpy(records)
    assert ours is not None
    assert theirs is not None
    for name in NAMES:
        found, wanted = getattr(ours, name), getattr(theirs, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(found, records["event"][name])
    for each in (ours, theirs):  # flows are numbered differently
        keys = _keys(records)
        np.testing.assert_array_equal(keys[each.first][each.flow], keys)
        assert len(np.unique(keys, axis=0)) == len(each.first)


def _keys(records: Records) -> npt.NDArray[np.uint64]:
    event = records["event"]
    return np.stack([event["flow_hash"], event["epoch"].astype(np.uint64)], axis=1)


@given(made_up(), st.data())
def test_neither_takes_a_record_for_an_event_that_is_none(records: Records, data: st.DataObject) -> None:
    if len(records):
        at = data.draw(st.integers(0, len(records) - 1))
        records["header"][at] |= data.draw(st.sampled_from([BUSY, DISCARDED]))
        assert columns.compiled(records) is None
        assert columns.by_numpy(records) is None


def test_flows_that_meet_in_the_table_stay_apart() -> None:
    records = np.zeros(1000, RECORD)
    records["header"] = EVENT.itemsize
    records["event"]["flow_hash"] = np.arange(1000, dtype=np.uint64) << np.uint64(32)  # one place for all
    found = columns.compiled(records)
    assert found is not None
    assert found.flow.tolist() == found.first.tolist() == list(range(1000))
