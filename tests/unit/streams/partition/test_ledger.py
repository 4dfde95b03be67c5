"""Epochs that were given up, and whose rings come back: whatever was read, in whatever lives, adds up to all of it."""

from collections.abc import Sequence

from schemas.batches import RingId
from schemas.flows import LedgerRow
from schemas.packets import EpochCounters
from streams.partition.accounting import Accounts, ClosedEpoch
from streams.partition.ledger import difference, to_write
from streams.windowing.windows import split
from tests.unit.streams.batches import SECOND, Packet, batch, counters

START = 1_800_000_000
RING = RingId("n1", 7)
FIRST = Packet(time_ns=START * SECOND, epoch=1, packets=5)
SECOND_ONE = Packet(time_ns=(START + 10) * SECOND, epoch=1, packets=2, interface="eth1")
LAST = Packet(time_ns=START * SECOND, epoch=1, packets=3)
CLOSING = counters(1, [FIRST, SECOND_ONE, LAST])
TOTALS = {("eth0", START): 8, ("eth1", START + 10): 2}


def take(
    accounts: Accounts, offset: int, packets: Sequence[Packet], closing: Sequence[EpochCounters] = (), seconds: int = 10
) -> None:
    made = batch(packets, counters=closing)
    accounts.count(made, split(made, seconds, 0), offset, seconds)


def written(accounts: Accounts) -> ClosedEpoch:
    """The one epoch that is to be written now."""
    (epoch,) = accounts.closed()
    accounts.stored((epoch,))
    return epoch


def totals(rows: Sequence[LedgerRow]) -> dict[tuple[str, int], int]:
    return {
        (row.counters.interface, window): packets
        for row in rows
        for window, packets in zip(row.consumed_windows, row.consumed_packets, strict=True)
    }


def given_up(accounts: Accounts) -> tuple[LedgerRow, ...]:
    assert accounts.give_up(RING, 10) == [(10, 10)]
    return written(accounts).rows


def test_a_ring_that_comes_back_goes_on_where_it_was() -> None:
    accounts = Accounts()
    take(accounts, 10, [FIRST])
    there = given_up(accounts)
    assert (accounts.needed(lambda _: False), totals(there)) == ([], {("eth0", START): 5})
    take(accounts, 30, [SECOND_ONE])
    assert accounts.needed(lambda _: False) == [30]
    take(accounts, 31, [LAST], CLOSING)
    epoch = written(accounts)
    rows = to_write(epoch.rows, there)
    assert epoch.first_offset == 30
    assert (totals(rows), [(row.closed, difference(row)) for row in rows]) == (TOTALS, [(True, 0)] * 2)
    assert {(row.kafka_offset_start, row.kafka_offset_end) for row in rows} == {(10, 32)}


def test_who_reads_only_what_came_later_adds_it() -> None:
    before, after = Accounts(), Accounts()
    take(before, 10, [FIRST])
    there = given_up(before)
    take(after, 30, [SECOND_ONE, LAST], CLOSING)
    rows = to_write(written(after).rows, there)
    assert (totals(rows), [(row.closed, difference(row)) for row in rows]) == (TOTALS, [(True, 0)] * 2)
    assert {(row.kafka_offset_start, row.kafka_offset_end) for row in rows} == {(10, 31)}


def test_a_ring_that_is_given_up_twice_is_unclosed_with_all_of_it() -> None:
    before, after = Accounts(), Accounts()
    take(before, 10, [FIRST])
    there = given_up(before)
    take(after, 30, [SECOND_ONE, LAST])
    after.give_up(RING, 10)
    rows = to_write(written(after).rows, there)
    assert (totals(rows), [row.closed for row in rows]) == (TOTALS, [False] * 2)
    assert rows[0].counters.start_ns == START * SECOND
    assert rows[1].counters.end_ns == (START + 20) * SECOND
    third = Accounts()
    take(third, 40, [], CLOSING)
    assert [difference(row) for row in to_write(written(third).rows, rows)] == [0, 0]


def test_who_reads_all_of_it_again_replaces_what_is_there_and_never_by_less() -> None:
    whole, less = Accounts(), Accounts()
    for accounts in (whole, less):
        take(accounts, 10, [FIRST])
    take(whole, 30, [SECOND_ONE])
    whole.give_up(RING, 10)
    there = written(whole).rows
    assert to_write(given_up(less), there) == ()
    again = Accounts()
    take(again, 10, [FIRST])
    take(again, 30, [SECOND_ONE])
    take(again, 31, [LAST], CLOSING)
    assert totals(to_write(written(again).rows, there)) == TOTALS


def test_what_nobody_can_tell_apart_is_left() -> None:
    before, inside, other = Accounts(), Accounts(), Accounts()
    take(before, 10, [FIRST])
    take(before, 20, [SECOND_ONE])
    before.give_up(RING, 10)
    there = written(before).rows
    take(inside, 20, [SECOND_ONE, LAST], CLOSING)
    assert to_write(written(inside).rows, there) == ()
    take(other, 30, [LAST], CLOSING, seconds=7)  # windows of another length
    assert to_write(written(other).rows, there) == ()


def test_an_epoch_that_is_there_with_its_counters_is_not_written_again() -> None:
    accounts = Accounts()
    take(accounts, 30, [LAST], CLOSING)
    rows = written(accounts).rows
    assert (to_write(rows, None), to_write(rows, ())) == (rows, ())
