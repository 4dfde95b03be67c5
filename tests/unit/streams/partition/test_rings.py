import pytest

from common.errors import DecodeError
from streams.partition.rings import ANCHOR_SECONDS, Extent, Rings, Verdict


def judge(
    rings: Rings, start: int, end: int, offset: int, *, entries: int | None = None, ring: int = 1, sent: int = 0
) -> Verdict:
    """A batch of the ring; `sent` coalesced entries were sent before."""
    entries = (end - start) // 10 if entries is None else entries
    return rings.judge(Extent("n", ring, start, end, sent, sent, entries), offset, 0.0)


def coalesced(rings: Rings, first: int, behind: int, offset: int, *, at: int = 100) -> Verdict:
    """Coalesced entries, the ring being sent up to `at`."""
    return rings.judge(Extent("n", 1, at, at, first, behind, behind - first), offset, 0.0)


def test_batches_in_order_are_taken_whole() -> None:
    rings = Rings()
    assert [judge(rings, 10 * i, 10 * i + 10, i) for i in range(3)] == [
        Verdict(begin=0, new_ring=i == 0) for i in range(3)
    ]
    assert rings.anchors(0.0) == [2]


def test_a_batch_sent_again_is_dropped_and_part_of_one_is_cut() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 0, 100, 1).begin == 10
    assert judge(rings, 60, 150, 2).begin == 4
    assert rings.anchors(0.0) == [0]  # both were understood only because of the first
    assert rings.spans() == {0: 2}
    assert judge(rings, 150, 160, 3) == Verdict(begin=0, new_ring=False)
    assert rings.anchors(0.0) == [3]
    rings.forget_below(2)
    assert rings.spans() == {0: 2}
    rings.forget_below(3)
    assert rings.spans() == {}


def test_a_gap_is_told() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 130, 140, 1) == Verdict(begin=0, gap_bytes=30, gap_events=3, anchor=0, new_ring=False)


def test_how_many_events_a_gap_had_is_told_when_their_size_is_known() -> None:
    rings = Rings()
    judge(rings, 0, 0, 0)
    assert judge(rings, 30, 30, 1) == Verdict(begin=0, gap_bytes=30, gap_events=None, anchor=0, new_ring=False)
    assert judge(rings, 60, 70, 2) == Verdict(begin=0, gap_bytes=30, gap_events=3, anchor=1, new_ring=False)


def test_coalesced_entries_are_judged_by_their_numbers() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert coalesced(rings, 0, 5, 1) == Verdict(begin=0, new_ring=False)
    assert coalesced(rings, 0, 5, 2).begin == 5
    assert coalesced(rings, 3, 9, 3).begin == 2
    assert coalesced(rings, 12, 14, 4) == Verdict(begin=0, gap_entries=3, anchor=1, new_ring=False)
    assert judge(rings, 100, 110, 5) == Verdict(begin=0, new_ring=False)  # positions go on where they were


def test_a_gap_in_the_ring_is_told_by_a_coalesced_batch_and_the_other_way_round() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert coalesced(rings, 0, 5, 1, at=120) == Verdict(begin=0, gap_bytes=20, gap_events=2, anchor=0, new_ring=False)
    assert judge(rings, 120, 130, 2, sent=8) == Verdict(begin=0, gap_entries=3, anchor=1, new_ring=False)


def test_the_last_message_of_each_series_is_kept_until_a_newer_one_has_come() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    coalesced(rings, 0, 5, 1)
    judge(rings, 100, 110, 2)  # of a producer that does not say how many coalesced entries it sent
    assert sorted(rings.anchors(0.0)) == [1, 2]
    coalesced(rings, 0, 5, 3, at=110)  # again
    assert rings.spans() == {1: 3}
    assert sorted(rings.anchors(0.0)) == [1, 3]
    judge(rings, 110, 120, 4, sent=5)
    assert rings.anchors(0.0) == [4, 4]


def test_coalesced_entries_that_are_long_past_hold_nothing_back() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    coalesced(rings, 0, 5, 1)
    rings.judge(Extent("n", 1, 100, 110, 0, 0, 1), 2, ANCHOR_SECONDS + 1)
    assert rings.anchors(ANCHOR_SECONDS + 1) == [2]
    assert rings.silent(ANCHOR_SECONDS + 1) == set()


def test_coalesced_entries_of_a_ring_that_is_not_known_from_its_beginning_are_taken() -> None:
    rings = Rings()
    judge(rings, 50, 100, 0)
    assert coalesced(rings, 40, 45, 1) == Verdict(begin=0, new_ring=False)
    assert coalesced(rings, 40, 45, 2).begin == 5


def test_a_new_ring_begins_anew() -> None:
    rings = Rings()
    judge(rings, 500, 600, 0)
    assert judge(rings, 0, 10, 1, ring=2) == Verdict(begin=0, new_ring=True)


def test_a_stale_heartbeat_moves_nothing() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 50, 50, 1, entries=0).begin == 0
    assert judge(rings, 100, 110, 2) == Verdict(begin=0, new_ring=False)


@pytest.mark.parametrize(("start", "end", "entries"), [(100, 50, 1), (10, 10, 1), (95, 125, 2), (50, 155, 10)])
def test_impossible_positions_are_refused_and_change_nothing(start: int, end: int, entries: int) -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    with pytest.raises(DecodeError):
        judge(rings, start, end, 1, entries=entries)
    assert judge(rings, 100, 110, 2) == Verdict(begin=0, new_ring=False)


def test_a_node_that_is_long_silent_holds_nothing_back() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert rings.silent(ANCHOR_SECONDS) == set()
    assert rings.anchors(ANCHOR_SECONDS + 1) == []
    assert rings.silent(ANCHOR_SECONDS + 1) == {"n"}
