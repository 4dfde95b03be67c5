from collections import Counter
from dataclasses import replace

import pytest

from common.errors import DecodeError
from schemas.packets import EpochCounters
from streams.partition import state as limits
from streams.partition.state import LATE_DELAY, LONGEST_LATE_DELAY, Partition
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
        if offset == 9:
            assert now == offset * LATE_DELAY
    assert waits == LONGEST_LATE_DELAY


def test_what_is_stored_already_is_not_kept() -> None:
    state = partition()
    state.take(0, batch([at(1)], clock_ns=clock(10)), 0.0)
    (job,) = state.due(0.0)
    state.stored(job, Known(1, 5))  # a rival has stored up to offset 5
    state.take(1, batch([at(2)], ring_start=STRIDE, clock_ns=clock(10)), 0.0)
    assert state.open_windows == 0
    state.take(5, batch([at(3)], ring_start=2 * STRIDE, clock_ns=clock(10)), 0.0)
    assert state.open_windows == 1


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
    assert state.open_windows == 0


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
    assert [(loss.kind, loss.start, loss.end, loss.lost) for loss in state.losses()] == [
        ("events", 0, STRIDE, None),
        ("events", STRIDE, 2 * STRIDE, None),
    ]
    state.lose(3, 8, 5.0)
    losses = state.losses()
    state.losses_stored(losses[:2])
    assert (state.losses(), state.committable(0.0)) == (losses[2:], 2)
    assert (losses[2].kind, losses[2].start, losses[2].lost) == ("messages", 3, 5)


def test_a_time_in_which_nothing_was_counted_is_a_loss() -> None:
    state = partition()
    message = replace(batch([], clock_ns=clock(10)), idle_start_ns=clock(2), idle_end_ns=clock(9))
    state.take(0, message, 0.0)
    (loss,) = state.losses()
    assert (loss.kind, loss.node, loss.start, loss.end, loss.lost) == ("idle", "n1", clock(2), clock(9), None)
    assert loss.time_ns == clock(10)
    state.take(1, batch([], ring_start=STRIDE, clock_ns=clock(11)), 0.0)
    assert state.committable(0.0) == 0
    state.losses_stored([loss])
    assert state.losses()[1:] == []


def test_a_wrong_message_changes_nothing() -> None:
    state = partition()
    good = batch([at(1)], clock_ns=clock(1))
    with pytest.raises(DecodeError):
        state.take(0, replace(good, ring_end=-5), 0.0)
    with pytest.raises(DecodeError):
        state.take(0, replace(good, base_ns=-5), 0.0)
    state.skip(0)
    assert (state.position, state.open_windows, state.committable(0.0)) == (1, 0, 1)


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
