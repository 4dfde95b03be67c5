import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest

from common import native
from common.errors import DecodeError
from schemas.avro.codec import Codec
from schemas.packets import EpochCounters
from streams.partition import open_windows as limits
from streams.partition.accounting import ClosedEpoch
from streams.partition.open_windows import LATE_DELAY, LONGEST_LATE_DELAY
from streams.partition.state import Partition, Taken
from streams.partition.storing import Known
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

START = 1_800_000_000


def partition(seconds: int = 10) -> Partition:
    return Partition(3, position=0, window_seconds=seconds, node_timeout_seconds=10)


def at(second: float, **fields: object) -> Packet:
    return Packet(time_ns=int((START + second) * SECOND), **fields)  # type: ignore[arg-type]


def clock(second: float) -> int:
    return int((START + second) * SECOND)


def test_a_window_is_due_when_the_watermark_reaches_its_end() -> None:
    state = partition()
    state.take(0, batch([at(1), at(11)], clock_ns=clock(10) - 1), 0.0)
    assert state.due(0.0) == []
    state.take(1, batch([], ring_start=2 * STRIDE, clock_ns=clock(10)), 0.0)
    (job,) = state.due(0.0)
    assert (job.partition, job.window, job.offset_end) == ((0, 3), (START, 10), 2)
    assert state.due(0.0) == []  # busy
    state.failed(job)
    assert [again.window for again in state.due(0.0)] == [job.window]


def test_nothing_of_a_node_that_ended_waits_to_be_acknowledged() -> None:
    state = partition()
    end = EpochCounters.nothing(epoch=1, start_ns=clock(0), end_ns=clock(1), ended=True)
    state.take(0, batch([], clock_ns=clock(1), counters=[end]), 0.0)
    (closed,) = epochs = state.closed_epochs(1.0)
    assert [(row.counters.interface, row.counters.ended) for row in closed.rows] == [("", True)]
    state.epochs_stored(epochs, 1.0)
    assert state.committable(1.0) == 1


def test_the_open_epoch_of_a_node_that_is_gone_is_written_while_others_go_on() -> None:
    """Or whoever reads on later, from what was acknowledged, would know nothing of it."""
    state = partition()
    state.take(0, batch([at(1, epoch=5, packets=4)], node="gone", clock_ns=clock(1)), 0.0)
    for number in range(1, 132):
        now = 5.0 * number + (3600.0 if number > 2 else 0.0)  # nothing came from Kafka for an hour
        state.take(number, batch([], node="lives", clock_ns=clock(now)), now)
        epochs = state.closed_epochs(now) or state.closed_epochs(now + 1)
        assert bool(epochs) == (number > 123), number
    assert [(row.node, row.closed, row.consumed_packets) for epoch in epochs for row in epoch.rows] == [
        ("gone", False, (4,))
    ]


def test_late_packets_wait_a_moment_for_more_of_their_kind() -> None:
    state = partition()
    state.take(0, batch([at(1)], clock_ns=clock(10)), 0.0)
    (job,) = state.due(0.0)
    state.stored(job, Known(1, 1))
    taken = state.take(1, batch([at(2, packets=5)], ring_start=STRIDE, clock_ns=clock(10)), 1.0)
    assert taken.late == 5
    assert state.due(1.0) == []
    (job,) = state.due(1.0 + LATE_DELAY)
    assert (job.offset_end, job.known) == (2, Known(1, 1))


def test_a_window_that_is_corrected_again_and_again_is_corrected_less_often() -> None:
    state = partition()
    now = waits = 0.0
    for offset in range(700):  # a node whose clock stands still
        state.take(offset, batch([at(2)], ring_start=offset * STRIDE, clock_ns=clock(10)), now)
        began = now
        while not (jobs := state.due(now)):
            now += 1.0
        state.stored(jobs[0], Known(offset + 1, offset + 1))
        waits = now - began
        if offset == 4:
            assert now == (1 + 2 + 4 + 8) * LATE_DELAY
    assert waits == LONGEST_LATE_DELAY


def test_what_is_stored_already_is_not_kept() -> None:
    state = partition()
    state.take(0, batch([at(1)], clock_ns=clock(10)), 0.0)
    (job,) = state.due(0.0)
    state.stored(job, Known(1, 5))  # a rival has stored up to offset 5
    state.take(1, batch([at(2)], ring_start=STRIDE, clock_ns=clock(10)), 0.0)
    assert len(state.windows) == 0
    state.take(5, batch([at(3)], ring_start=2 * STRIDE, clock_ns=clock(10)), 0.0)
    assert len(state.windows) == 1


def test_offsets_are_free_when_windows_and_epochs_are_stored_and_a_newer_message_has_come() -> None:
    state = partition()
    packets = [at(1)]
    state.take(0, batch(packets, clock_ns=clock(10), counters=counters(1, packets)), 0.0)
    assert state.committable(0.0) == 0
    (job,) = state.due(0.0)
    state.stored(job, Known(1, 1))
    assert state.committable(0.0) == 0  # the epoch
    epochs = state.closed_epochs(1.0)
    assert len(epochs) == 1
    state.epochs_stored(epochs, 1.0)
    assert state.committable(1.0) == 0  # the anchor of its node
    state.take(1, batch([], ring_start=STRIDE, clock_ns=clock(11)), 1.0)
    assert state.committable(1.0) == 1


@pytest.mark.parametrize("step", [-7200, -11, 86_400])
def test_after_a_step_of_a_nodes_clock_each_packet_is_in_one_window(step: int) -> None:
    state, stored, position = partition(), Counter[int](), 0
    for number in range(40):
        second = number + (step if 10 <= number < 30 else 0)  # set wrong, and right again
        state.take(number, batch([at(second)], ring_start=position, clock_ns=clock(second + 0.5)), START + number)
        position += STRIDE
        stored += written(state, START + number)
    state.take(40, batch([], ring_start=position, clock_ns=clock(step + 100_000)), START + 41)
    stored += written(state, START + 2_000_000)
    seconds = [n + (step if 10 <= n < 30 else 0) for n in range(40)]
    assert stored == Counter(START + second // 10 * 10 for second in seconds)
    assert len(state.windows) == 0


class Play:
    """A partition that is looked at each second; `inserts` are those of each window."""

    def __init__(self) -> None:
        self.state = partition()
        self.positions = Counter[tuple[str, int]]()
        self.inserts = Counter[int]()
        self.packets = 0

    def send(self, second: float, node: str = "n1", *, clock: float | None = None, ring: int = 7) -> Taken:
        """One packet of this second of the node's time."""
        made = batch(
            [at(second)],
            node=node,
            ring_id=ring,
            ring_start=self.positions[node, ring],
            clock_ns=int((START + (second if clock is None else clock)) * SECOND),
        )
        self.positions[node, ring] += STRIDE
        return self.state.take(self.state.position, made, START + self.now)

    now = 0.0

    def look(self, now: float) -> None:
        self.now = now
        for job in self.state.due(START + now):
            self.inserts[job.window.start - START] += 1
            self.packets += sum(int(piece.rows.packets.sum()) for piece in job.pieces)
            self.state.stored(job, Known((job.known.revision if job.known else 0) + 1, job.offset_end))


YEAR = 365 * 86_400


def test_a_packet_of_next_year_bends_the_windows_of_nobody_else() -> None:
    play = Play()
    late = 0
    for now in range(300):
        play.look(now)
        if now == 21:
            play.send(now + YEAR, "wrong")
        if not 30 <= now < 46:  # the others are silent for a while
            late += play.send(now + 0.5).late
    play.look(10_000)
    assert play.packets == 300 - 16 + 1
    assert max(play.inserts.values()) == 1
    assert play.inserts[YEAR + 20] == 1
    assert late == 0


def test_a_node_that_is_ahead_has_windows_of_its_own_which_are_stored_once() -> None:
    play = Play()
    for now in range(300):
        play.look(now)
        play.send(now + 3600, "ahead")
        play.send(now + 0.5)
    ahead, others = (
        [count for start, count in play.inserts.items() if (start >= 3600) == side] for side in (True, False)
    )
    assert set(ahead) == set(others) == {1}
    assert (len(ahead), len(others)) == (23, 29)  # a minute later than the others', as long as a laggard is waited for
    play.look(400)
    assert play.packets == 600


def test_a_clock_that_stands_still_keeps_no_window_open() -> None:
    play = Play()
    for now in range(300):
        play.look(now)
        play.send(now, clock=1.0)
    assert len(play.inserts) >= 22
    assert len(play.state.windows) <= 9


def test_what_waits_takes_about_the_memory_that_is_said() -> None:
    """Messages of a packet each, as many nodes send them: what holds their columns takes thirty times as much."""
    state, codec = partition(), Codec()
    messages = [
        codec.encode_packet_batch(batch([Packet(time_ns=START * SECOND + number)], ring_start=number * STRIDE))
        for number in range(301)
    ]
    state.take(0, codec.decode_packet_batch(messages[0]), START)  # what is loaded and made once
    said = state.nbytes
    tracemalloc.start()
    for offset, message in enumerate(messages[1:], 1):
        state.take(offset, codec.decode_packet_batch(message), START)
    # in the call there Python may make its table of all names anew, megabytes in a process that has many
    but_names = tracemalloc.Filter(inclusive=False, filename_pattern=native.__file__)
    taken = sum(each.size for each in tracemalloc.take_snapshot().filter_traces([but_names]).traces)
    tracemalloc.stop()
    assert 0.3 < taken / (state.nbytes - said) < 1.2


def test_counters_that_were_too_many_for_one_turn_are_taken_before_the_next_message() -> None:
    state = partition()
    rows = [EpochCounters.nothing(epoch=epoch, start_ns=0, end_ns=1) for epoch in range(1, 10_001)]
    taken = state.take(0, batch([], clock_ns=clock(1), counters=[*rows, replace(rows[-1], ended=True)]), START)
    assert (len(taken.counters), len(state.accounts.closed()), state.has_more) == (4096, 4096, True)
    assert (state.committable(START), state.stored_until) == (0, 0)
    assert len(state.take_more(START)) == 4096
    state.take(1, batch([], node="another", clock_ns=clock(2)), START)
    assert (len(state.accounts.closed()), state.has_more) == (10_000, False)


def test_who_is_far_behind_makes_few_corrections() -> None:
    play = Play()
    for now in range(2000):
        play.look(now)
        play.send(now + 0.5)
        play.send(-100_000 + now / 100, "replay")  # a window takes 1,000 seconds
    assert max(count for start, count in play.inserts.items() if start < 0) < 25
    assert max(count for start, count in play.inserts.items() if start >= 0) == 1


def test_what_waits_for_its_age_does_not_wait_for_a_clock_that_was_set_back() -> None:
    state = partition()
    packets = [at(1)]
    state.take(0, batch(packets, clock_ns=clock(10)), START + 11.0)
    (job,) = state.due(START + 11.0)
    state.stored(job, Known(1, 1))
    state.take(1, batch([], ring_start=STRIDE, clock_ns=clock(10), counters=counters(1, packets)), START + 11.0)
    state.take(2, batch([at(2)], ring_start=STRIDE, clock_ns=clock(10)), START + 11.0)
    assert state.due(START - 3600.0) == []
    assert len(state.due(START - 3600.0 + LATE_DELAY)) == 1
    assert len(state.closed_epochs(START - 3600.0 + LATE_DELAY)) == 1


def test_two_producers_of_one_name_are_both_counted_exactly_and_told() -> None:
    play, closed = Play(), list[ClosedEpoch]()
    for number in range(40):
        play.look(number)
        for ring in (7, 8):
            seen = [at(number, epoch=number)]
            position = play.positions["n1", ring]
            made = batch(
                seen, ring_id=ring, ring_start=position, clock_ns=clock(number), counters=counters(number, seen)
            )
            play.positions["n1", ring] += STRIDE
            for times in range(2):
                taken = play.state.take(play.state.position, made, START + number)
                assert (taken.packets, taken.duplicates, taken.gap_bytes) == (1 - times, times, 0)
        epochs = play.state.closed_epochs(START + number)
        closed += epochs
        play.state.epochs_stored(epochs, START + number)
    assert [shared.rings for shared in play.state.shared_names(START + 40)] == [(7, 8)]
    play.look(100)
    assert play.packets == 80
    assert len(closed) >= 78
    assert all(row.closed and sum(row.consumed_packets) == 1 for epoch in closed for row in epoch.rows)
    assert play.state.shared_names(START + 100) == []


def test_a_loss_that_a_node_of_next_year_had_is_of_today() -> None:
    play = Play()
    play.send(YEAR)
    play.positions["n1", 7] += STRIDE
    play.now = 5
    play.send(YEAR + 1)
    assert [loss.time_ns for loss in play.state.losses.waiting()] == [clock(5)]


def written(state: Partition, now: float) -> Counter[int]:
    """Write what is due; packets by window."""
    found = Counter[int]()
    for job in state.due(now):
        found[job.window.start] += sum(int(piece.rows.packets.sum()) for piece in job.pieces)
        revision = job.known.revision if job.known else 0
        state.stored(job, Known(revision + 1, job.offset_end))
    return found


def test_what_is_lost_is_kept_until_it_is_written_down() -> None:
    state = partition()
    for offset in range(3):
        state.take(offset, batch([], ring_start=offset * STRIDE, clock_ns=clock(offset)), 0.0)
    assert state.committable(0.0) == 0  # the first that bytes were missing before
    assert [(loss.kind, loss.start, loss.end, loss.lost) for loss in state.losses.waiting()] == [
        ("events", 0, STRIDE, None),
        ("events", STRIDE, 2 * STRIDE, None),
    ]
    state.losses.messages(3, 8, 5.0)
    losses = state.losses.waiting()
    state.losses.written(losses[:2])
    assert (state.losses.waiting(), state.committable(0.0)) == (losses[2:], 2)
    assert (losses[2].kind, losses[2].start, losses[2].lost) == ("messages", 3, 5)


def test_a_time_in_which_nothing_was_counted_is_a_loss() -> None:
    state = partition()
    message = replace(batch([], clock_ns=clock(10)), idle_start_ns=clock(2), idle_end_ns=clock(9))
    state.take(0, message, START + 10.0)
    (loss,) = state.losses.waiting()
    assert (loss.kind, loss.node, loss.start, loss.end, loss.lost) == ("idle", "n1", clock(2), clock(9), None)
    assert loss.time_ns == clock(10)
    state.take(1, batch([], ring_start=STRIDE, clock_ns=clock(11)), 0.0)
    assert state.committable(0.0) == 0
    state.losses.written([loss])
    assert state.losses.waiting()[1:] == []


def test_a_wrong_message_changes_nothing() -> None:
    state = partition()
    good = batch([at(1)], clock_ns=clock(1))
    with pytest.raises(DecodeError):
        state.take(0, replace(good, ring_end=-5), 0.0)
    with pytest.raises(DecodeError):
        state.take(0, replace(good, base_ns=-5), 0.0)
    for wrong in (replace(good, node="n" * 1000), replace(good, interface_names=("e" * 1000,))):
        with pytest.raises(DecodeError, match="1000 characters"):
            state.take(0, wrong, 0.0)
    state.skip(0)
    assert (state.position, len(state.windows), state.committable(0.0)) == (1, 0, 1)


def test_windows_are_written_early_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY_BYTES", 1000)
    state = partition(3600)
    state.take(0, batch([at(1, src_port=port) for port in range(1, 30)], clock_ns=clock(1)), 0.0)
    (job,) = state.due(0.0)
    state.stored(job, Known(1, 1))
    assert state.nbytes == 0


def test_windows_are_written_early_when_too_much_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNACKED_MESSAGES", 5)
    state = partition(3600)
    for offset in range(6):
        state.take(offset, batch([at(1)], ring_start=offset * STRIDE, clock_ns=clock(1)), 0.0)
        assert len(state.due(0.0)) == (offset == 5)


def test_after_a_change_of_the_window_length_old_messages_keep_the_old_one() -> None:
    state = partition(60)
    state.window_seconds_before(10, 1)
    state.take(0, batch([at(15)], clock_ns=clock(15)), 0.0)
    state.take(1, batch([at(16)], ring_start=STRIDE, clock_ns=clock(61)), 0.0)
    assert [job.window for job in state.due(0.0)] == [(START, 60), (START + 10, 10)]
