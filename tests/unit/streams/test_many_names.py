"""Names that come and go, as containers make them: what is remembered of them, from a message to the table."""

import pytest

from streams.live import feed as live
from streams.live.feed import LiveFeed
from streams.partition import accounting, rings
from streams.partition.state import Partition
from streams.partition.storing import Known, store_window
from streams.testing import MemoryStore
from streams.windowing.keys import MANY, Names
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters

START = 1_800_000_000
NAMES = 30_000  # several times what is remembered
EACH = 100  # interfaces in a message


def test_tens_of_thousands_of_names_pass_and_are_forgotten() -> None:
    state = Partition(0, position=0, window_seconds=10, node_timeout_seconds=10)
    feed, store = LiveFeed(50), MemoryStore()
    most_rows = 0
    for number in range(NAMES // EACH):
        now = START + number * 0.5
        packets = [
            Packet(time_ns=int(now * SECOND), interface=f"veth{number}-{which}", epoch=number) for which in range(EACH)
        ]
        made = batch(
            packets, ring_start=number * EACH * STRIDE, clock_ns=int(now * SECOND), counters=counters(number, packets)
        )
        feed.add(state, made, state.take(number, made, now), now)
        if number % 2 == 0:
            for summary in feed.due({0: 0}, now):
                summary()
            for job in state.due(now):
                state.stored(job, store_window(job, store).known)
            epochs = state.closed_epochs(now)
            state.epochs_stored(epochs, now)
            state.committable(now)
        most_rows = max(most_rows, feed.nbytes)
    assert len(state.interfaces) <= MANY + EACH
    assert len(state.interfaces.all()) <= 2 * MANY
    assert most_rows < 1_000_000
    for _, flows in store.blocks.values():  # each insert has its own names only
        assert len(flows.interface_names) == len(flows) == 20 * EACH
        assert flows.node_names == ("n1",)
    assert len({name for _, flows in store.blocks.values() for name in flows.interface_names}) >= NAMES - 100 * EACH


def test_nodes_pass_and_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, known = 2_500, 500
    monkeypatch.setattr(rings, "MOST_NODES", known)
    monkeypatch.setattr(live, "MOST_NODES", known)
    monkeypatch.setattr(accounting, "MOST_GIVEN_UP", known)
    state = Partition(0, position=0, window_seconds=10, node_timeout_seconds=10)
    state.names = Names(known)
    feed, store = LiveFeed(50), MemoryStore()
    stored = 0
    for number in range(nodes):
        now = START + number * 0.1
        made = batch([Packet(time_ns=int(now * SECOND))], node=f"pod-{number}", clock_ns=int(now * SECOND))
        feed.add(state, made, state.take(number, made, now), now)
        if number % 50 == 0:
            feed.due({0: 0}, now)
            for job in state.due(now):
                stored += store_window(job, store).packets
                state.stored(job, Known(1, job.offset_end))
            state.epochs_stored(state.closed_epochs(now), now)
            state.committable(now)
    assert state.watermark.living <= 10 / 0.1 + 50
    assert len(state._rings) == known
    assert state.accounts.rings <= 2 * known  # those that were given up, too
    assert len(state.names) <= known
    assert feed.nodes <= known
    assert stored >= nodes - 200
    assert max(len(flows.node_names) for _, flows in store.blocks.values()) == 10 / 0.1
