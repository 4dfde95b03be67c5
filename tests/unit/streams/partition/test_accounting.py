from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DecodeError
from schemas.batches import RingId, check
from schemas.flows import LedgerRow
from schemas.packets import EpochCounters, PacketBatch
from streams.partition.accounting import Accounts, in_parts
from streams.partition.ledger import difference, figures
from streams.windowing.windows import split
from tests.unit.streams.batches import SECOND, Packet, batch, coalesced, counters

START = 1_800_000_000


def take(accounts: Accounts, made: PacketBatch, offset: int) -> int:
    return accounts.count(made, split(made, 10), offset, 10)


def ledger(accounts: Accounts) -> list[LedgerRow]:
    return [row for epoch in accounts.closed() for row in epoch.rows]


def packet(second: int, epoch: int, **fields: object) -> Packet:
    return Packet(time_ns=(START + second) * SECOND, epoch=epoch, **fields)  # type: ignore[arg-type]


def test_an_epoch_is_split_by_window_and_compared_with_the_kernel() -> None:
    accounts = Accounts()
    seen = [packet(9, 1, packets=3), packet(10, 1, packets=4), packet(10, 2)]
    take(accounts, batch(seen), 0)
    assert accounts.closed() == ()
    assert accounts.needed(lambda _: False) == [0, 0]
    take(accounts, batch([], counters=counters(1, seen[:2], non_ip=1)), 1)
    (row,) = ledger(accounts)
    assert (row.consumed_windows, row.consumed_packets, row.consumed_bytes) == ((START, START + 10), (3, 4), (60, 60))
    assert difference(row) == 0
    assert accounts.needed(lambda _: False) == [0, 0]
    accounts.stored(accounts.closed())
    assert accounts.needed(lambda _: False) == [0]  # of epoch 2
    assert accounts.needed(lambda node: node == "n1") == []


def test_packets_that_never_came_are_a_difference() -> None:
    accounts = Accounts()
    take(accounts, batch([packet(0, 1)], counters=counters(1, [packet(0, 1, packets=5)])), 0)
    assert [difference(row) for row in ledger(accounts)] == [4]


def test_an_epoch_without_traffic_of_ours_waits_for_its_row_too() -> None:
    accounts = Accounts()
    take(accounts, batch([], counters=counters(3, [], non_ip=2)), 8)
    assert accounts.needed(lambda _: False) == [8]
    (row,) = ledger(accounts)
    assert (row.counters.seen_packets, row.consumed_windows) == (2, ())


def test_counters_that_come_again_are_ignored_and_packets_after_them_are_told() -> None:
    accounts = Accounts()
    closing = counters(1, [packet(0, 1)])
    take(accounts, batch([packet(0, 1)], counters=closing), 0)
    take(accounts, batch([], counters=closing), 1)
    assert len(ledger(accounts)) == 1
    assert take(accounts, batch([packet(0, 1, packets=7)]), 2) == 7


def test_an_epoch_that_the_kernel_never_closed_shows_a_difference() -> None:
    accounts = Accounts()
    take(accounts, batch([packet(0, 1), packet(1, 2)], counters=counters(2, [packet(1, 2)])), 0)
    assert sorted((row.counters.epoch, row.closed, row.consumed_packets) for row in ledger(accounts)) == [
        (1, False, (1,)),
        (2, True, (1,)),
    ]
    accounts = Accounts()
    take(accounts, batch([packet(0, 1), packet(25, 1, packets=4)]), 0)
    accounts.give_up(RingId("n1", 7), 10)
    (row,) = ledger(accounts)
    assert (row.closed, row.consumed_windows, row.consumed_packets) == (False, (START, START + 20), (1, 4))
    assert (row.counters.start_ns, row.counters.end_ns) == (START * SECOND, (START + 30) * SECOND)
    assert figures([row]) == Counter(consumed=5, unclosed=5)


def test_a_passage_that_the_kernel_did_not_count_in_a_closed_epoch_is_a_difference() -> None:
    accounts = Accounts()
    closing = counters(1, [packet(0, 1)])
    take(accounts, batch([packet(0, 1), packet(0, 1, interface="eth1")], counters=closing), 0)
    assert [(row.closed, difference(row)) for row in ledger(accounts)] == [(True, 0), (True, -1)]


def test_coalesced_packets_are_consumed_beside_the_single_ones() -> None:
    accounts = Accounts()
    single, added = [packet(0, 1)], [packet(1, 1, packets=500), packet(2, 1, packets=70)]
    take(accounts, batch(single), 0)
    take(accounts, coalesced(added[:1]), 1)
    take(accounts, batch([], counters=counters(1, single, coalesced=added, ring_full=2)), 2)
    (row,) = ledger(accounts)
    assert (row.counters.coalesced_packets, difference(row)) == (570, 70)
    assert figures([row]) == Counter(seen=573, emitted=1, coalesced=570, ring_full=2, consumed=501, missing=70)


@given(
    st.lists(
        st.builds(
            packet,
            second=st.integers(0, 30),
            epoch=st.sampled_from([1, 2, 3, 10**15]),
            direction=st.integers(0, 1),
            interface=st.sampled_from(["a", "b", "c"]),
            packets=st.integers(1, 9),
            bytes=st.integers(0, 2**50),
        ),
        max_size=50,
    )
)
def test_every_packet_is_in_exactly_one_row(seen: list[Packet]) -> None:
    accounts = Accounts()
    closing = [row for epoch in (1, 2, 3, 10**15) for row in counters(epoch, [p for p in seen if p.epoch == epoch])]
    take(accounts, batch(seen, counters=closing), 0)
    rows = ledger(accounts)
    assert all(difference(row) == 0 for row in rows)
    assert all(sum(row.consumed_bytes) == row.counters.emitted_bytes for row in rows)
    assert sum(sum(row.consumed_packets) for row in rows) == sum(p.packets for p in seen)


@pytest.mark.parametrize(
    "change", [{"seen_packets": -1}, {"start_ns": -5}, {"end_ns": 2**63 - 1}, {"start_ns": 2 * SECOND}]
)
def test_counters_that_cannot_be_stored_are_refused(change: dict[str, int]) -> None:
    (row,) = counters(1, [packet(0, 1)])
    wrong: EpochCounters = replace(row, **change)  # type: ignore[arg-type]
    with pytest.raises(DecodeError):
        check(batch([], counters=[wrong]))


def test_many_counters_are_taken_in_parts_epoch_by_epoch() -> None:
    def row(epoch: int, interface: str = "eth0") -> EpochCounters:
        return EpochCounters.nothing(epoch=epoch, start_ns=0, end_ns=1, interface=interface)

    few = tuple(row(epoch) for epoch in (3, 1))
    assert in_parts(few, 2) == [few]
    many = tuple(row(epoch, interface) for epoch in (9, 2, 5, 7) for interface in ("a", "b", "c"))
    parts = in_parts(many, 4)
    assert [[row.epoch for row in rows] for rows in parts] == [[2, 2, 2, 5, 5, 5], [7, 7, 7, 9, 9, 9]]
    assert {row for rows in parts for row in rows} == {*many}


def test_more_counters_of_an_epoch_than_there_are_interfaces_are_refused() -> None:
    rows = [EpochCounters.nothing(epoch=1, start_ns=0, end_ns=1, interface=f"i{number}") for number in range(16_385)]
    check(batch([], counters=rows[:-1]))
    with pytest.raises(DecodeError, match="more counters of one epoch"):
        check(batch([], counters=rows))
