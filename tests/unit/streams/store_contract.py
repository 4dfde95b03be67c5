"""What every FlowStore does, the one in memory and ClickHouse's: functions that are tests of a store.

Each gets a store, and a partition that nobody else uses.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from schemas.batches import RingId
from schemas.flows import FlowColumns, Loss
from schemas.packets import EpochCounters
from streams.partition.accounting import Accounts
from streams.partition.ledger import EpochId, to_write
from streams.partition.state import Partition
from streams.partition.storing import Aside, KafkaPartition, WindowId, bring_in, store_window
from streams.testing import MemoryStore
from streams.windowing.initiators import Initiators
from streams.windowing.windows import split
from streams.worker.neighbours import FlowStore
from tests.unit.streams.batches import SECOND, Packet, batch, counters
from tests.unit.streams.windowing.test_naming import DNS, SNI, Named, shown

START = int(time.time()) // 60 * 60 - 120
WINDOW = WindowId(START, 10)


def flows(packets: int, window: WindowId = WINDOW, *, rows: int = 1) -> FlowColumns:
    """Rows of so many packets each."""
    return _of([Packet(time_ns=0, packets=packets, src_port=1024 + row) for row in range(rows)], window)


def another(partition: KafkaPartition) -> KafkaPartition:
    """The same partition of a topic that was made anew."""
    return KafkaPartition(partition.topic_id + 1, partition.number)


def nothing_is_stored_at_first(store: FlowStore, partition: KafkaPartition) -> None:
    assert store.revisions(partition, WINDOW) == []
    assert store.stored_until(partition) == 0
    assert store.other_lengths(partition, 10, 0) is None


def what_is_stored_is_read_back(store: FlowStore, partition: KafkaPartition) -> None:
    store.insert(flows(5), partition, 0, 40)
    store.insert(flows(2), partition, 1, 50)
    assert store.revisions(partition, WINDOW) == [(0, 40), (1, 50)]
    assert [int(store.rows(partition, WINDOW, revision).packets.sum()) for revision in (0, 1)] == [5, 2]
    assert store.rows(partition, WINDOW, 0).interface_names == ("eth0",)
    assert store.stored_until(partition) == 50


def what_flows_are_about_is_read_back(store: FlowStore, partition: KafkaPartition) -> None:
    site = Named("www.example", SNI, 1, "t13d1516h2_8daaf6152771_02713d6af862", "h2")
    about = [site, Named(), Named("ü.example", DNS, 3)]
    made = flows(1, rows=3)
    columns: dict[str, Any] = {
        f"{name}_names": tuple(dict.fromkeys(["", *(getattr(each, name) for each in about)]))
        for name in ("domain", "ja4", "alpn")
    }
    for name in ("domain", "ja4", "alpn"):
        places = [columns[f"{name}_names"].index(getattr(each, name)) for each in about]
        columns[name] = np.array(places, np.int32)
    columns["domain_source"] = np.array([each.source for each in about], np.uint8)
    columns["domain_count"] = np.array([each.names for each in about], np.uint16)
    store.insert(replace(made, **columns), partition, 0, 40)
    back = store.rows(partition, WINDOW, 0)
    found = {int(back.src_port[row]): shown(back, row) for row in range(3)}
    assert found == {int(made.src_port[row]): about[row] for row in range(3)}


def the_first_insert_of_a_name_is_kept(store: FlowStore, partition: KafkaPartition) -> None:
    store.insert(flows(5), partition, 0, 40)
    store.insert(flows(7), partition, 0, 60)
    assert store.revisions(partition, WINDOW) == [(0, 40)]
    assert int(store.rows(partition, WINDOW, 0).packets.sum()) == 5


def windows_and_topics_are_told_apart(store: FlowStore, partition: KafkaPartition) -> None:
    store.insert(flows(5), partition, 0, 40)
    later, longer = WindowId(START + 10, 10), WindowId(START, 60)
    for window in (later, longer):
        assert store.revisions(partition, window) == []
        store.insert(flows(1, window), partition, 0, 45)
        assert store.revisions(partition, window) == [(0, 45)]
    assert store.revisions(another(partition), WINDOW) == []
    assert store.stored_until(another(partition)) == 0
    store.insert(flows(6), another(partition), 0, 3)
    assert store.revisions(another(partition), WINDOW) == [(0, 3)]
    assert store.revisions(partition, WINDOW) == [(0, 40)]


def another_length_of_window_is_told_with_its_end(store: FlowStore, partition: KafkaPartition) -> None:
    store.insert(flows(5), partition, 0, 40)
    store.insert(flows(5, WindowId(START, 60)), partition, 0, 50)
    assert store.other_lengths(partition, 10, 30) == (60, 50)
    assert store.other_lengths(partition, 60, 30) == (10, 40)
    assert store.other_lengths(partition, 60, 40) is None  # it ended before us
    assert store.other_lengths(another(partition), 60, 30) is None


def rows_that_are_too_old_are_not_kept(store: FlowStore, partition: KafkaPartition) -> None:
    """Stores of this contract keep windows from 1970-01-02 on."""
    assert not store.expired(WINDOW)
    assert store.expired(WindowId(3600, 10))


def epochs_are_found_in_the_ledger(store: FlowStore, partition: KafkaPartition) -> None:
    node = f"node of {partition.number}"
    accounts = Accounts()
    for epoch in (1, 2):
        packets = [Packet(time_ns=START * SECOND, epoch=epoch)]
        closing = counters(epoch, packets, start_ns=START * SECOND, end_ns=(START + 1) * SECOND)
        made = batch(packets, node=node, counters=closing)
        accounts.count(made, split(made, 10, 0), epoch, 10)
    first, second = accounts.closed()
    names = [EpochId(node, 7, 1), EpochId(node, 7, 2), EpochId(node, 8, 1), EpochId("another", 7, 1)]
    assert store.stored_epochs(names) == {}
    assert store.stored_epochs([]) == {}
    store.insert_ledger(first.rows)
    store.insert_ledger(first.rows)
    assert store.stored_epochs(names) == {names[0]: ()}
    store.insert_ledger(second.rows)
    assert store.stored_epochs(names) == {names[0]: (), names[1]: ()}


def an_epoch_that_was_given_up_is_read_back_and_replaced(store: FlowStore, partition: KafkaPartition) -> None:
    node = f"node of {partition.number}"
    ring, name = RingId(node, 9), EpochId(node, 9, 1)
    accounts = Accounts()

    def take(offset: int, packets: list[Packet], closing: Sequence[EpochCounters]) -> None:
        made = batch(packets, node=node, ring_id=9, counters=closing)
        accounts.count(made, split(made, 10, 0), offset, 10)

    first, later = (
        [Packet(time_ns=(START + second) * SECOND, epoch=1, direction=second % 2, interface=f"eth{second % 2}")]
        for second in (8, 15)
    )
    take(20, first, ())
    accounts.give_up(ring, 10)
    (unclosed,) = accounts.closed()
    store.insert_ledger(unclosed.rows)
    assert store.stored_epochs([name]) == {name: unclosed.rows}
    take(30, later, counters(1, first + later, start_ns=START * SECOND, end_ns=(START + 1) * SECOND))
    (*_, closed) = accounts.closed()
    store.insert_ledger(to_write(closed.rows, store.stored_epochs([name])[name]))
    store.insert_ledger(unclosed.rows)  # by a worker that stood still
    assert store.stored_epochs([name]) == {name: ()}


def losses_can_be_stored_twice(store: FlowStore, partition: KafkaPartition) -> None:
    loss = Loss(time_ns=START * SECOND, kind="messages", node="", ring_id=0, start=3, end=8, lost=5)
    events = Loss(time_ns=START * SECOND, kind="events", node="n1", ring_id=7, start=80, end=160, lost=None)
    store.insert_losses([loss, events], partition)
    store.insert_losses([loss], partition)


def who_began_is_told_where_ports_do_not_tell_it(store: FlowStore, partition: KafkaPartition) -> None:
    rng = random.Random(5)
    ports = [
        *rng.sample(range(1, 65536), 60),
        22,
        111,
        443,
        514,
        775,
        993,
        1023,
        1024,
        2049,
        32767,
        32768,
        50051,
        65535,
    ]
    addresses = ["10.0.0.1", "10.0.0.200", "9.255.0.1", "2001:db8::1", "2001:db8::ffff", "::1"]

    def pair() -> list[Packet]:
        (src, dst), src_port, dst_port = rng.sample(addresses, 2), rng.choice(ports), rng.choice(ports)
        return [Packet(time_ns=0, src=src, dst=dst, src_port=src_port, dst_port=dst_port, tcp_flags=2)]

    initiators, last = Initiators(), START - 600 - 10
    assert _known(_learned(store, partition)) == _known(initiators)
    for start in (last - 10, last, START - 300, START):
        packets = [packet for _ in range(300) for packet in pair()]
        made = _of(packets, WindowId(start, 10))
        store.insert(made, partition, 0, 40)
        if start > last:
            initiators.learn(made)
    store.insert(
        _of([Packet(time_ns=0, src="10.7.0.2", dst="10.7.0.1", tcp_flags=2, protocol=17)], WINDOW), partition, 1, 50
    )
    assert len(initiators) > 100
    assert _known(_learned(store, partition)) == _known(initiators)
    assert len(_learned(store, another(partition))) == 0


def a_connection_that_was_turned_back_is_told_so(store: FlowStore, partition: KafkaPartition) -> None:
    one = Packet(time_ns=0, src="10.8.0.2", dst="10.8.0.1", src_port=40000, dst_port=50000, tcp_flags=2)
    other = Packet(time_ns=0, src="10.8.0.1", dst="10.8.0.2", src_port=50000, dst_port=40000, tcp_flags=2)
    store.insert(_of([one], WindowId(START - 20, 10)), partition, 0, 40)
    assert len(_learned(store, partition)) == 1
    store.insert(_of([other], WindowId(START - 10, 10)), partition, 0, 50)
    assert len(_learned(store, partition)) == 0
    store.insert(_of([one], WINDOW), partition, 0, 60)
    assert len(_learned(store, partition)) == 1


def _of(packets: list[Packet], window: WindowId) -> FlowColumns:
    """The rows of a window with these packets, at its begin."""
    state = Partition(0, position=0, window_seconds=window.seconds, node_timeout_seconds=10)
    state.take(
        0, batch([replace(each, time_ns=window.start * SECOND) for each in packets], clock_ns=window.end_ns), 0.0
    )
    (job,) = state.due(0.0)
    store = MemoryStore()
    store_window(job, store)
    ((_, stored),) = store.blocks.values()
    return stored


def _learned(store: FlowStore, partition: KafkaPartition) -> Initiators:
    initiators = Initiators()
    for rows in store.turned(partition, 10):
        initiators.learn(rows)
    return initiators


def _known(initiators: Initiators) -> list[tuple[int, int]]:
    return list(zip(*(column.tolist() for column in initiators._turned), strict=True))


def what_is_set_aside_has_its_name_and_is_kept_until_it_is_brought_in(
    store: FlowStore, partition: KafkaPartition
) -> None:
    assert (store.aside(partition, WINDOW), store.all_aside(partition.number)) == ([], [])
    for _ in range(2):  # the answer was lost
        store.set_aside(flows(3, rows=2), partition, 1, 50, "it is wrong")
    assert store.aside(partition, WINDOW) == [(1, 50)]
    (aside,) = store.all_aside(partition.number)
    assert aside == Aside(partition, WINDOW, 1, 50)
    assert store.rows_aside(aside).packets.tolist() == [3, 3]
    assert store.revisions(partition, WINDOW) == []
    assert bring_in(aside, store).packets.tolist() == [3, 3]
    assert store.revisions(partition, WINDOW) == store.aside(partition, WINDOW) == [(1, 50)]
    assert store.all_aside(partition.number) == []
    assert int(store.complete(partition, WINDOW, 1, 50).packets.sum()) == 6


CONTRACT: list[Callable[[FlowStore, KafkaPartition], None]] = [
    nothing_is_stored_at_first,
    what_is_stored_is_read_back,
    what_flows_are_about_is_read_back,
    the_first_insert_of_a_name_is_kept,
    windows_and_topics_are_told_apart,
    another_length_of_window_is_told_with_its_end,
    rows_that_are_too_old_are_not_kept,
    epochs_are_found_in_the_ledger,
    an_epoch_that_was_given_up_is_read_back_and_replaced,
    losses_can_be_stored_twice,
    who_began_is_told_where_ports_do_not_tell_it,
    a_connection_that_was_turned_back_is_told_so,
    what_is_set_aside_has_its_name_and_is_kept_until_it_is_brought_in,
]
