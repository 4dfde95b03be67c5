import pytest

from common.errors import DecodeError
from streams.rings import ANCHOR_SECONDS, Rings, Verdict


def judge(rings: Rings, start: int, end: int, offset: int, *, entries: int | None = None, ring: int = 1) -> Verdict:
    entries = (end - start) // 10 if entries is None else entries
    return rings.judge(node="n", ring_id=ring, start=start, end=end, entries=entries, offset=offset, now=0.0)


def test_batches_in_order_are_taken_whole() -> None:
    rings = Rings()
    assert [judge(rings, 10 * i, 10 * i + 10, i) for i in range(3)] == [
        Verdict(begin=0, gap_bytes=0, new_ring=i == 0) for i in range(3)
    ]
    assert rings.anchors(0.0) == [2]


def test_a_batch_sent_again_is_dropped_and_part_of_one_is_cut() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 0, 100, 1).begin == 10
    assert judge(rings, 60, 150, 2).begin == 4
    assert rings.anchors(0.0) == [0]  # both were understood only because of the first
    assert rings.spans() == {0: 2}
    assert judge(rings, 150, 160, 3) == Verdict(begin=0, gap_bytes=0, new_ring=False)
    assert rings.anchors(0.0) == [3]
    rings.forget_below(2)
    assert rings.spans() == {0: 2}
    rings.forget_below(3)
    assert rings.spans() == {}


def test_a_gap_is_told() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 130, 140, 1).gap_bytes == 30


def test_a_new_ring_begins_anew() -> None:
    rings = Rings()
    judge(rings, 500, 600, 0)
    assert judge(rings, 0, 10, 1, ring=2) == Verdict(begin=0, gap_bytes=0, new_ring=True)


def test_a_stale_heartbeat_moves_nothing() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 50, 50, 1, entries=0).begin == 0
    assert judge(rings, 100, 110, 2) == Verdict(begin=0, gap_bytes=0, new_ring=False)


@pytest.mark.parametrize(("start", "end", "entries"), [(100, 50, 1), (10, 10, 1), (95, 125, 2), (50, 155, 10)])
def test_impossible_positions_are_refused_and_change_nothing(start: int, end: int, entries: int) -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    with pytest.raises(DecodeError):
        judge(rings, start, end, 1, entries=entries)
    assert judge(rings, 100, 110, 2) == Verdict(begin=0, gap_bytes=0, new_ring=False)


def test_a_node_that_is_long_silent_holds_nothing_back() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert rings.silent(ANCHOR_SECONDS) == set()
    assert rings.anchors(ANCHOR_SECONDS + 1) == []
    assert rings.silent(ANCHOR_SECONDS + 1) == {"n"}
