"""A partition of names: what is added up, what is repeated, what is missing, how far is acknowledged."""

import tracemalloc
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from common.errors import DecodeError
from schemas.names import NAME_STATUSES, NameBatch
from streams.names.accounts import REPEATED_SECONDS
from streams.names.partition import INSERT_SECONDS, Block, Extents, NamePartition
from tests.unit.streams.names.node import COPY, SECOND, START, Node, batch


def partition(position: int = 0) -> NamePartition:
    return NamePartition(0, position=position, window_seconds=10)


def block_of(*messages: NameBatch) -> Block:
    state = partition()
    for offset, message in enumerate(messages):
        state.take(offset, START, message, START)
    block = state.due(START + INSERT_SECONDS)
    assert block is not None
    return block


def rows_of(*messages: NameBatch) -> list[dict[str, Any]]:
    table = block_of(*messages).rows
    return sorted(table.to_pylist(), key=lambda row: (row["name"], row["window_begin"])) if table else []


def test_equal_transactions_of_a_window_are_one_row_with_the_last_answer() -> None:
    first = {"name": "a.example", "rcode": 0, "latency_us": 5, "answers": "192.0.2.1", "ttl": 60}
    other = {**first, "latency_us": 7, "answers": "b.example 192.0.2.2", "ttl": 30, "time_offset_ns": 9 * SECOND}
    later = {**first, "time_offset_ns": 10 * SECOND}
    unknown = {**first, "latency_us": -1, "row_count": 3}
    found = rows_of(batch([first, unknown, other, later]))
    assert [(row["window_begin"] - START, row["count"]) for row in found] == [(0, 5), (10, 1)]
    wanted = {"latency_count": 2, "latency_us_sum": 12, "latency_us_max": 7, "ttl": 30, "copies": 6}
    assert {name: found[0][name] for name in wanted} == wanted
    assert found[0]["answers"] == ["b.example", "192.0.2.2"]


@pytest.mark.parametrize("name", ["qtype", "rcode", "kind", "server_port", "protocol", "status", "name"])
def test_what_differs_in_a_key_is_another_row(name: str) -> None:
    same: dict[str, Any] = {"name": "a.example", "rcode": 0}
    assert len(rows_of(batch([same, same]))) == 1
    assert len(rows_of(batch([same, {**same, name: "" if name == "name" else 2}]))) == 2


def test_a_row_without_answers_has_an_empty_list() -> None:
    assert [row["answers"] for row in rows_of(batch([{"name": "a"}]))] == [[]]


def test_a_message_that_comes_twice_is_counted_once() -> None:
    node = Node()
    node.ask()
    message = node.send()
    state = partition()
    assert (state.take(0, START, message, START).rows, state.take(1, START, message, START).rows) == (1, 0)
    node.ask(answered=False)
    state.take(2, START, node.send(), START)
    of_no_copies = node.send(expire=True)
    assert of_no_copies.ring_start == of_no_copies.ring_end
    assert [state.take(number, START, of_no_copies, START).rows for number in (3, 4)] == [1, 0]


def test_a_message_that_repeats_part_of_another_is_cut_by_place() -> None:
    node = Node()
    node.ask()
    node.ask(answered=False)
    first = node.send()
    node.kill()
    node.answer(2)
    node.ask()
    second = node.send()
    assert (len(first), len(second)) == (1, 3)
    state = partition()
    assert state.take(0, START, first, START).rows == 1
    taken = state.take(1, START, second, START)
    assert (taken.rows, taken.repeated) == (2, 1)
    block = state.due(START + INSERT_SECONDS)
    assert block is not None
    (account,) = block.accounts
    assert (account.copies, dict(account.by_epoch), account.lost, account.missing) == (6, {1: 6}, 0, 0)


def test_what_was_open_when_a_producer_died_is_lost_and_not_missing() -> None:
    node = Node()
    node.ask(answered=False)
    first = node.send()
    node.acknowledge()
    node.kill()
    node.ask()
    (account,) = block_of(first, node.send()).accounts
    assert (account.copies, account.lost, account.missing, account.open, account.by_status["named"]) == (3, 1, 0, 0, 2)


def test_copies_of_which_a_producer_does_not_tell_the_end_are_missing() -> None:
    node = Node()
    node.ask()
    first = node.send()
    node.ask()
    (account,) = block_of(
        first, replace(node.send(), copies=7, epoch=first.epoch, epoch_copies=first.epoch_copies + 5)
    ).accounts
    assert account.missing == 5


def test_the_copies_of_a_row_count_by_how_it_was_read() -> None:
    rows = [{"name": "a", "status": number, "row_copies": number + 1} for number in range(len(NAME_STATUSES))]
    (account,) = block_of(batch(rows, copies=20, unused_copies=5)).accounts
    assert dict(account.by_status) == {name: number + 1 for number, name in enumerate(NAME_STATUSES)}
    assert (account.unused, account.lost) == (5, 0)


def test_a_hole_in_the_ring_is_a_loss_and_is_written_before_anything_behind_it_is_acknowledged() -> None:
    node = Node()
    node.ask()
    state = partition()
    state.take(0, START, node.send(), START)
    node.ask()
    node.send()
    node.ask()
    assert state.take(1, START + REPEATED_SECONDS + 1, node.send(), START).gap_bytes == 2 * COPY
    (loss,) = state.losses.waiting()
    assert (loss.kind, loss.node, loss.start, loss.end, loss.lost) == ("copies", "n1", 2 * COPY, 4 * COPY, None)
    block = state.due(START + INSERT_SECONDS)
    assert block is not None
    state.stored(block, block.messages.end)
    assert state.committable(START) == 0
    state.losses.written([loss])
    assert state.committable(START) == 1, "the last message is read again by whoever comes next, to know the ring"


def test_messages_that_kafka_removed_are_a_loss() -> None:
    state = partition(7)
    state.losses.messages(3, 7, START)
    assert [(loss.kind, loss.start, loss.end, loss.lost) for loss in state.losses.waiting()] == [("names", 3, 7, 4)]


def test_a_message_of_next_year_is_taken_as_it_is_and_holds_nothing_up() -> None:
    state = partition()
    state.take(0, START, batch([{"name": "a", "time_offset_ns": 365 * 86_400 * SECOND}]), START)
    block = state.due(START + INSERT_SECONDS)
    assert block is not None
    assert block.rows is not None
    assert block.rows.column("window_begin").to_pylist() == [START + 365 * 86_400]
    state.stored(block, 1)
    assert state.due(START + 100) is None


@pytest.mark.parametrize(
    "message",
    [
        batch([{"name": "a", "time_offset_ns": -(2**61)}]),
        batch([{"name": "a", "time_offset_ns": 2**62}]),
        batch([], clock_ns=2**62),
        batch([], node="n" * 600),
        batch([], interface_names=("i" * 600,)),
    ],
    ids=range(5),
)
def test_what_cannot_be_stored_is_a_decode_error_and_changes_nothing(message: NameBatch) -> None:
    state = partition()
    with pytest.raises(DecodeError):
        state.take(0, START, message, START)
    assert (state.position, state.due(START + 100)) == (0, None)


def test_what_waits_takes_no_more_memory_than_is_said() -> None:
    """Messages of a row each: a table of Arrow for each took 38 kB."""
    state, node = partition(), Node()
    messages = [(node.ask(epoch=number), node.send())[1] for number in range(201)]
    state.take(0, START, messages[0], START)  # what is loaded and made once
    before, said = pa.total_allocated_bytes(), state.nbytes
    tracemalloc.start()
    for offset, message in enumerate(messages[1:], 1):
        state.take(offset, START, message, START)
    taken = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert 0.3 < taken / (state.nbytes - said) <= 1


def test_who_reads_on_makes_the_blocks_that_were_decided_and_no_others() -> None:
    node = Node()
    messages = []
    for _ in range(4):
        node.ask()
        messages.append(node.send())
    state = partition(1)
    state.expect([Extents(0, 2), Extents(2, 3)])  # the first began before what is committed: it is stored
    for offset in (1, 2, 3):
        state.take(offset, START, messages[offset], START)
    block = state.due(START)
    assert block is not None
    assert (block.messages, block.decided) == (Extents(2, 3), True)
    state.stored(block, 3)
    assert state.due(START) is None
    block = state.due(START + INSERT_SECONDS)
    assert block is not None
    assert (block.messages, block.decided) == (Extents(3, 4), False)
