import pytest

from common.errors import DecodeError
from schemas.batches import Extent, RingId
from streams.partition.rings import (
    ANCHOR_SECONDS,
    FORGET_SECONDS,
    MOST_RINGS,
    RING_MESSAGES,
    RING_SECONDS,
    SHARED_SECONDS,
    Rings,
    Shared,
    Verdict,
)


def judge(
    rings: Rings,
    start: int,
    end: int,
    offset: int,
    *,
    entries: int | None = None,
    ring: int = 1,
    sent: int = 0,
    now: float = 0.0,
) -> Verdict:
    """A batch of the ring; `sent` coalesced entries were sent before."""
    entries = (end - start) // 10 if entries is None else entries
    return rings.judge(Extent("n", ring, start, end, sent, sent, entries), offset, now)


def coalesced(rings: Rings, first: int, behind: int, offset: int, *, at: int = 100) -> Verdict:
    """Coalesced entries, the ring being sent up to `at`."""
    return rings.judge(Extent("n", 1, at, at, first, behind, behind - first), offset, 0.0)


def test_batches_in_order_are_taken_whole() -> None:
    rings = Rings()
    assert [judge(rings, 10 * i, 10 * i + 10, i) for i in range(3)] == [Verdict(begin=0) for i in range(3)]
    assert rings.anchors(0.0) == [2]


def test_a_batch_sent_again_is_dropped_and_part_of_one_is_cut() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 0, 100, 1).begin == 10
    assert judge(rings, 60, 150, 2).begin == 4
    assert rings.anchors(0.0) == [0]  # both were understood only because of the first
    assert rings.spans() == {0: 2}
    assert judge(rings, 150, 160, 3) == Verdict(begin=0)
    assert rings.anchors(0.0) == [3]
    rings.forget_below(2)
    assert rings.spans() == {0: 2}
    rings.forget_below(3)
    assert rings.spans() == {}


def test_a_gap_is_told() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 130, 140, 1) == Verdict(begin=0, gap_bytes=30, gap_events=3, anchor=0)


def test_how_many_events_a_gap_had_is_told_when_their_size_is_known() -> None:
    rings = Rings()
    judge(rings, 0, 0, 0)
    assert judge(rings, 30, 30, 1) == Verdict(begin=0, gap_bytes=30, gap_events=None, anchor=0)
    assert judge(rings, 60, 70, 2) == Verdict(begin=0, gap_bytes=30, gap_events=3, anchor=1)


def test_coalesced_entries_are_judged_by_their_numbers() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert coalesced(rings, 0, 5, 1) == Verdict(begin=0)
    assert coalesced(rings, 0, 5, 2).begin == 5
    assert coalesced(rings, 3, 9, 3).begin == 2
    assert coalesced(rings, 12, 14, 4) == Verdict(begin=0, gap_entries=3, anchor=1)
    assert judge(rings, 100, 110, 5) == Verdict(begin=0)  # positions go on where they were


def test_a_gap_in_the_ring_is_told_by_a_coalesced_batch_and_the_other_way_round() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert coalesced(rings, 0, 5, 1, at=120) == Verdict(begin=0, gap_bytes=20, gap_events=2, anchor=0)
    assert judge(rings, 120, 130, 2, sent=8) == Verdict(begin=0, gap_entries=3, anchor=1)


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
    assert not rings.is_silent("n", ANCHOR_SECONDS + 1)


def test_coalesced_entries_of_a_ring_that_is_not_known_from_its_beginning_are_taken() -> None:
    rings = Rings()
    judge(rings, 50, 100, 0)
    assert coalesced(rings, 40, 45, 1) == Verdict(begin=0)
    assert coalesced(rings, 40, 45, 2).begin == 5


def test_nobody_begins_at_the_first_events_of_a_ring_when_coalesced_entries_came_before() -> None:
    rings = Rings()
    coalesced(rings, 0, 5, 0, at=0)
    judge(rings, 0, 100, 1)
    assert rings.spans() == {0: 1}
    successor = Rings()
    coalesced(successor, 0, 5, 0, at=0)
    judge(successor, 0, 100, 1)
    assert coalesced(successor, 5, 6, 2).gap_entries == 0


def test_a_new_ring_begins_anew() -> None:
    rings = Rings()
    judge(rings, 500, 600, 0)
    assert judge(rings, 0, 10, 1, ring=2) == Verdict(begin=0)


def test_a_ring_is_given_up_when_its_node_goes_on_with_another() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    for number in range(RING_MESSAGES - 1):
        judge(rings, 10 * number, 10 * number + 10, number + 1, ring=2, now=5)
    assert rings.replaced(RING_SECONDS + 6) == []  # not enough came of the other: it may be our own pause
    assert sorted(rings.anchors(RING_SECONDS)) == [0, RING_MESSAGES - 1]
    judge(rings, 70, 80, 9, ring=2, now=RING_SECONDS)
    assert rings.replaced(RING_SECONDS) == []
    assert rings.replaced(RING_SECONDS + 0.1) == [RingId("n", 1)]
    assert rings.replaced(RING_SECONDS + 0.1) == []
    assert rings.anchors(RING_SECONDS + 0.1) == [9]
    assert rings.shared(RING_SECONDS) == []


def test_a_ring_that_was_given_up_and_comes_back_is_known() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    for number in range(RING_MESSAGES):
        judge(rings, 10 * number, 10 * number + 10, number + 1, ring=2, now=RING_SECONDS + 1)
    assert rings.replaced(RING_SECONDS + 1) == [RingId("n", 1)]
    assert judge(rings, 90, 100, 20, now=20).begin == 1
    found = judge(rings, 120, 130, 21, now=20)
    assert (found.begin, found.gap_bytes) == (0, 20)
    assert 21 in rings.anchors(20)


def test_two_producers_of_one_name_are_judged_apart_and_told() -> None:
    rings = Rings()
    for number in range(20):
        for ring in (1, 2):
            start, offset = 10 * number, 2 * number + ring
            assert judge(rings, start, start + 10, offset, ring=ring, now=20 * number) == Verdict(begin=0)
            assert judge(rings, start, start + 10, offset, ring=ring, now=20 * number).begin == 1
    assert rings.replaced(20 * 19) == []
    (shared,) = rings.shared(20 * 19)
    assert shared == Shared("n", (1, 2))
    assert "two producers call themselves node n (rings 1 and 2): set `node`" in str(shared)
    assert rings.shared(20 * 19 + SHARED_SECONDS + 1) == []


def test_a_message_of_a_producer_that_was_killed_may_come_late() -> None:
    rings = Rings()
    judge(rings, 0, 10, 0)
    judge(rings, 0, 10, 1, ring=2)
    judge(rings, 10, 20, 2)
    judge(rings, 10, 20, 3, ring=2)
    assert rings.shared(0) == []


def test_more_producers_of_one_name_than_are_told_apart_are_told_all_the_same() -> None:
    rings = Rings()
    for number in range(5):
        for ring in range(MOST_RINGS + 1):
            judge(rings, 10 * number, 10 * number + 10, 10 * number + ring, ring=ring, now=number)
            rings.replaced(number)
    assert [shared.node for shared in rings.shared(5)] == ["n"]


def test_of_many_nodes_those_silent_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.partition.rings.MOST_NODES", 100)
    rings = Rings()
    for number in range(150):
        rings.judge(Extent(f"n{number}", 1, 0, 10, 0, 0, 1), number, 0.0)
    assert len(rings) == 100
    assert rings.replaced(0.0) == [RingId(f"n{number}", 1) for number in range(50)]
    assert min(rings.anchors(0.0)) == 50
    assert len(rings.replaced(FORGET_SECONDS + 1)) == 100
    assert len(rings) == 0


def test_a_stale_heartbeat_moves_nothing() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert judge(rings, 50, 50, 1, entries=0).begin == 0
    assert judge(rings, 100, 110, 2) == Verdict(begin=0)


@pytest.mark.parametrize(("start", "end", "entries"), [(100, 50, 1), (10, 10, 1), (95, 125, 2), (50, 155, 10)])
def test_impossible_positions_are_refused_and_change_nothing(start: int, end: int, entries: int) -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    with pytest.raises(DecodeError):
        judge(rings, start, end, 1, entries=entries)
    assert judge(rings, 100, 110, 2) == Verdict(begin=0)


def test_a_node_that_is_long_silent_holds_nothing_back() -> None:
    rings = Rings()
    judge(rings, 0, 100, 0)
    assert not rings.is_silent("n", ANCHOR_SECONDS)
    assert rings.anchors(ANCHOR_SECONDS + 1) == []
    assert rings.is_silent("n", ANCHOR_SECONDS + 1)
