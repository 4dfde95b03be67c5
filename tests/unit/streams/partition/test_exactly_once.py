"""The real partition state and storing protocol against a model of Kafka, ClickHouse and all that can go wrong."""

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from common.errors import ServiceUnavailable
from schemas.flows import FlowColumns
from schemas.packets import EpochCounters, PacketBatch
from streams.partition.again import Again, Checkpoint, Span
from streams.partition.ledger import difference, to_write
from streams.partition.rings import RING_MESSAGES
from streams.partition.state import Partition
from streams.partition.storing import (
    KafkaPartition,
    Known,
    Outcome,
    Refused,
    WindowId,
    WindowJob,
    bring_in,
    catch_up,
    set_aside,
    store_window,
)
from streams.testing import MemoryStore, Name
from streams.windowing.windows import StraddlesOffset
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, coalesced, counters

WINDOW = 2
START = 1_800_000_000
SOURCE = KafkaPartition(0, 0)


class Nameless(MemoryStore):
    """A server that does not know the names of inserts."""

    def __init__(self) -> None:
        super().__init__()
        self.extra: list[FlowColumns] = []

    def _put(self, name: Name, offset_end: int, flows: FlowColumns) -> None:
        if name in self.blocks:
            self.extra.append(flows)
        super()._put(name, offset_end, flows)


class Stopping(MemoryStore):
    """Whoever puts something there may be stopped right before, after all questions, while others go on."""

    meanwhile: Callable[[], None] | None = None

    def insert(self, *what: Any) -> None:
        self._stop()
        super().insert(*what)

    def set_aside(self, *what: Any) -> None:
        self._stop()
        super().set_aside(*what)

    def _stop(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()


class Consumer:
    """A worker with one partition."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.generation = world.generation
        self.state = self._fresh()

    def _fresh(self) -> Partition:
        return Partition(0, position=self.world.committed, window_seconds=WINDOW, node_timeout_seconds=1e9)

    def consume(self) -> None:
        if self.state.position < len(self.world.log):
            offset = self.state.position
            self.state.take(offset, self.world.log[offset], self.world.now)

    def write(self, lose_answer: bool) -> None:
        jobs = self.state.due(self.world.now)
        early = self.state.begin(self.world.random.choice(list(self.state.windows))) if self.state.windows else None
        if early and self.world.random.random() < 0.1:
            jobs.append(early)
        elif early:
            self.state.failed(early)
        for job in jobs:
            self.world.table.lose_answer = lose_answer
            self.world.table.die = lose_answer and self.world.random.random() < 0.5
            try:
                outcome = self._store(job)
            except ServiceUnavailable:  # also when it is refused
                self.state.failed(job)
                continue
            except StraddlesOffset:
                self.state = self._fresh()
                return
            finally:
                self.world.table.lose_answer = self.world.table.die = False
            self.world.published |= {(job.window, revision) for revision, _ in outcome.publish}
            try:
                self.state.stored(job, outcome.known)
            except StraddlesOffset:
                self.state = self._fresh()
                return

    def _store(self, job: WindowJob) -> Outcome:
        """Try again, or not; set aside, or not."""
        try:
            return store_window(job, self.world.table)
        except Refused as error:
            if self.world.random.random() < 0.7:
                raise
            return set_aside(job, self.world.table, str(error))
        except ServiceUnavailable:
            self.world.table.lose_answer = self.world.table.die = False
            if self.world.random.random() < 0.5:
                raise
            return store_window(replace(job, known=None), self.world.table)  # as the worker does

    def bring_in(self) -> None:
        for aside in self.world.table.all_aside(0):
            with contextlib.suppress(Refused):
                bring_in(aside, self.world.table)
                self.world.published.add((aside.window, aside.revision))

    def compact(self) -> None:
        for window_id in list(self.state.windows):
            job = self.state.begin(window_id)
            if job is None:
                continue
            try:
                outcome = catch_up(job, self.world.table)
            except StraddlesOffset:
                self.state = self._fresh()
                return
            self.world.published |= {(window_id, revision) for revision, _ in outcome.publish}
            self.state.stored(job, outcome.known)
            self.state.windows.compact(window_id)

    def ledger(self) -> None:
        self.world.now += 1
        epochs = self.state.closed_epochs(self.world.now)
        stored = self.world.table.stored_epochs([epoch.name for epoch in epochs])
        for epoch in epochs:
            self.world.table.insert_ledger(to_write(epoch.rows, stored.get(epoch.name)))
        self.state.epochs_stored(epochs, self.world.now)

    def commit(self) -> None:
        if self.generation == self.world.generation:
            self.world.committed = max(self.world.committed, self.state.committable(self.world.now))


@dataclass
class Node:
    """A producer: its packets in ring order, with what it has sent."""

    name: str
    tells: bool  # whether batches from the ring say how many coalesced entries were sent
    clock: int = START * SECOND
    ring_id: int = 1
    epoch: int = 1
    events: list[Packet] = field(default_factory=list)  # of the ring, by position
    entries: list[Packet] = field(default_factory=list)  # coalesced, by number
    earlier: list[Packet] = field(default_factory=list)  # of rings before
    begun: bool = False  # something of this ring was sent
    silent_until: float = 0.0  # it stands still
    surely_sent: tuple[int, int] = (0, 0)  # events and entries that are not sent again: streams may have forgotten them

    def batch(self, begin: int, closing: list[EpochCounters]) -> PacketBatch:
        """The events from `begin` on."""
        sent = len(self.entries) if self.tells else 0
        made = batch(
            self.events[begin:],
            node=self.name,
            ring_id=self.ring_id,
            ring_start=begin * STRIDE,
            clock_ns=self.clock,
            counters=closing,
        )
        return replace(made, coalesced_start=sent, coalesced_end=sent)

    def coalesced(self, begin: int) -> PacketBatch:
        """The coalesced entries from `begin` on."""
        return coalesced(
            self.entries[begin:],
            number=begin,
            ring_end=len(self.events) * STRIDE,
            node=self.name,
            ring_id=self.ring_id,
            clock_ns=self.clock,
        )

    def close(self) -> list[EpochCounters]:
        """Close the epoch. It is sent by whoever calls."""
        mine = [packet for packet in self.events if packet.epoch == self.epoch]
        added = [packet for packet in self.entries if packet.epoch == self.epoch]
        self.epoch += 1
        closing = counters(self.epoch - 1, mine, coalesced=added)
        return [row for row in closing if row.seen_packets]

    def reboot(self) -> None:
        """Another ring; what was sent of the last one stays."""
        self.earlier += self.events + self.entries
        self.events, self.entries, self.epoch, self.ring_id, self.begun = [], [], 1, self.ring_id + 1, False
        self.surely_sent = (0, 0)

    def stand_still(self, until: float) -> None:
        """Send nothing."""
        self.silent_until, self.surely_sent = until, (len(self.events), len(self.entries))

    def sent(self) -> list[Packet]:
        """All of it."""
        return self.earlier + self.events + self.entries


class World:
    """Kafka's log, the table, the workers, the nodes."""

    def __init__(self, seed: int, table: MemoryStore, swapping: float = 0) -> None:
        self.random = random.Random(seed)
        self.swapping = swapping  # how likely a range is windowed again and swapped in, in each step
        self.swapped = 0
        self.log: list[PacketBatch] = []
        self.table = table
        self.generation = self.committed = 0
        self.now = 0.0
        self.published: set[tuple[WindowId, int]] = set()
        self.nodes = [Node(f"n{i}", tells=self.random.random() < 0.5) for i in range(self.random.randint(1, 2))]
        if self.random.random() < 0.2:  # somebody else has the same name
            self.nodes.append(Node("n0", tells=True, ring_id=1_000))
        self.workers = [Consumer(self)]

    def produce(self, node: Node) -> None:
        """New packets, some of them late; sometimes what was sent already is sent again, cut otherwise."""
        r = self.random
        if r.random() < 0.03:
            node.clock = max(START * SECOND, node.clock + r.choice((-30, -3, 3, 30)) * SECOND)  # somebody set it
        if r.random() < 0.02 and node.begun:
            node.reboot()
        if r.random() < 0.2:
            self.produce_coalesced(node)
            return
        again = r.random() < 0.2 and node.events
        least = max(node.surely_sent[0], len(node.events) - 6)
        begin = r.randint(least, len(node.events)) if again else len(node.events)
        closing: list[EpochCounters] = []
        if not again or r.random() < 0.5:
            node.events += [self.packet(node) for _ in range(r.randint(0, 4))]
            if r.random() < 0.3:
                closing = node.close()
        self.send(node, node.batch(begin, closing))

    def produce_coalesced(self, node: Node) -> None:
        """Packets that the kernel added up; like those of the ring, perhaps not for the first time."""
        r = self.random
        again = r.random() < 0.3 and node.entries
        least = max(node.surely_sent[1], len(node.entries) - 6)
        begin = r.randint(least, len(node.entries)) if again else len(node.entries)
        if not again or r.random() < 0.5:
            node.entries += [self.packet(node) for _ in range(r.randint(1, 4))]
        if begin < len(node.entries):
            self.send(node, node.coalesced(begin))

    def send(self, node: Node, made: PacketBatch) -> None:
        node.begun = True
        self.log.append(made)

    def packet(self, node: Node) -> Packet:
        r = self.random
        node.clock += r.choice((0, 300_000_000))
        late = r.randint(1, 5) * SECOND if r.random() < 0.1 else 0
        return Packet(
            time_ns=max(START * SECOND, node.clock - late),
            src_port=r.randint(1, 3),
            packets=r.randint(1, 9),
            direction=r.randint(0, 1),
            epoch=node.epoch,
        )

    def run(self, steps: int) -> None:
        r = self.random
        for _ in range(steps):
            x = r.random()
            worker = r.choice(self.workers[-3:]) if r.random() < 0.3 else self.workers[-1]
            self.now += 0.3
            if self.swapping and r.random() < self.swapping:
                self.swap()
            if x < 0.3:
                self.produce(r.choice([node for node in self.nodes if node.silent_until <= self.now]))
            elif x < 0.31 and len({node.name for node in self.nodes}) < len(self.nodes):
                r.choice(self.nodes[:-1]).stand_still(self.now + r.uniform(5, 40))
            elif x < 0.65:
                worker.consume()
            elif x < 0.8:
                self.write(worker)
            elif x < 0.82:
                worker.compact()
            elif x < 0.83:
                worker.bring_in()
            elif x < 0.84:
                self.refuse()
            elif x < 0.9:
                worker.ledger()
            elif x < 0.96:
                worker.commit()
            else:
                self.generation += 1
                self.workers.append(Consumer(self))
        self.finish()

    def write(self, worker: Consumer) -> None:
        if isinstance(self.table, Stopping) and self.random.random() < 0.2:
            self.table.meanwhile = self.others
        worker.write(lose_answer=self.random.random() < 0.2)

    def others(self) -> None:
        """A worker is stopped: another one has its partition, and what was stored is windowed again."""
        r, flaws = self.random, (self.table.lose_answer, self.table.die)
        self.table.lose_answer = self.table.die = False
        for act in r.choices((self.swap, self.rival), k=r.randint(1, 4)):
            act()  # and no table changes its mind: docs/internals.md, What is left open
        self.table.lose_answer, self.table.die = flaws

    def rival(self) -> None:
        self.generation += 1
        self.workers.append(Consumer(self))
        for _ in range(self.random.randint(0, len(self.log))):
            self.workers[-1].consume()
        self.now += self.random.choice((0.3, 5))
        self.workers[-1].write(lose_answer=False)
        if self.random.random() < 0.3:
            self.workers[-1].commit()

    def refuse(self) -> None:
        """Some windows from now on, or none."""
        starts = [packet.time_ns // SECOND // WINDOW * WINDOW for node in self.nodes for packet in node.sent()]
        self.table.refuses = set(self.random.sample(starts, min(len(starts), self.random.randint(0, 3))))

    def swap(self) -> None:
        """As `ayaflow rewindow` does: of all below what is stored, and only where it is what is stored."""
        starts = sorted(name.window.start for name in self.table.blocks)
        if not starts:
            return
        begin = self.random.choice(starts) // WINDOW * WINDOW
        span = Span(begin, begin + WINDOW * self.random.randint(1, 4))
        there = [found for name, found in self.table.blocks.items() if span.begin <= name.window.start < span.until]
        end = self.random.choice([max(offset_end for offset_end, _ in there), self.random.choice(there)[0]])
        stored = [(offset_end, flows) for offset_end, flows in there if offset_end <= end]  # what is later stays
        seconds = self.random.choice((1, WINDOW))
        again = Again(SOURCE, span, seconds, Checkpoint.at(0))
        made: list[tuple[int, FlowColumns]] = []
        for offset, message in enumerate(self.log[:end]):
            flush = again.take(offset, message, START * 1000)
            made += flush.windows if flush else ()
        made += again.rest(end).windows
        packets = [sum(int((f.packets + f.packets_rev).sum()) for _, f in each) for each in (made, stored)]
        if packets[0] == packets[1]:
            self.table.swap_in(SOURCE, span, made, end)
            self.swapped += 1

    def finish(self) -> None:
        for node in self.nodes:
            node.clock += 1000 * SECOND
            self.log.append(node.batch(len(node.events), node.close()))
        # rings before are given up when their nodes go on and they do not
        self.log += [node.batch(len(node.events), []) for _ in range(RING_MESSAGES) for node in self.nodes]
        self.generation += 1
        self.table.refuses = set()
        last = Consumer(self)
        least = 40 if self.swapping else 20  # what comes late to a high revision waits for a minute
        for n in range(200):  # and one that writes a window at a time needs a turn for each
            if n >= least and not last.state.windows:
                break
            while last.state.position < len(self.log):
                last.consume()
            self.now += 2
            last.write(lose_answer=False)
            last.ledger()
        last.bring_in()
        last.commit()
        assert not last.state.windows

    def wanted(self) -> dict[tuple[str, int], int]:
        totals: dict[tuple[str, int], int] = {}
        for node in self.nodes:
            for packet in node.sent():
                key = (node.name, packet.time_ns // SECOND // WINDOW * WINDOW)
                totals[key] = totals.get(key, 0) + packet.packets
        return totals

    def stored(self) -> dict[tuple[str, int], int]:
        twice = self.table.extra if isinstance(self.table, Nameless) else []
        return self._totals([flows for _, flows in self.table.blocks.values()] + twice)

    def merged(self) -> dict[tuple[str, int], int]:
        """What is stored, also in shorter windows."""
        totals: dict[tuple[str, int], int] = {}
        for (node, start), packets in self.stored().items():
            totals[node, start // WINDOW * WINDOW] = totals.get((node, start // WINDOW * WINDOW), 0) + packets
        return totals

    def rolled_up(self) -> dict[tuple[str, int], int]:
        return self._totals(list(self.table.rollup.values()))

    @staticmethod
    def _totals(blocks: list[FlowColumns]) -> dict[tuple[str, int], int]:
        totals: dict[tuple[str, int], int] = {}
        for flows in blocks:
            for i in range(len(flows)):
                key = (flows.node_names[flows.node[i]], flows.window_begin)
                totals[key] = totals.get(key, 0) + int(flows.packets[i] + flows.packets_rev[i])
        return totals


RUNS = int(os.environ.get("MODEL_RUNS", "100"))


def test_totals_are_exact_after_crashes_lost_answers_rivals_late_packets_and_duplicates() -> None:
    corrections = unclosed = aside = 0
    for seed in range(RUNS):
        world = World(seed, MemoryStore())
        world.run(world.random.randint(50, 250))
        assert world.stored() == world.wanted(), f"seed {seed}"
        assert world.rolled_up() == world.wanted(), f"seed {seed}: a rollup lacks rows"
        corrections += sum(name.revision > 0 for name in world.table.blocks)
        aside += len(world.table.kept_aside)
        stored = {(name.window, name.revision) for name in world.table.blocks}
        assert world.published == stored, f"seed {seed}: a revision was never published"
        for row in world.table.ledger.values():
            assert difference(row) == 0, f"seed {seed}: {row}"
            unclosed += not row.closed
        consumed: dict[tuple[str, int], int] = {}
        for row in world.table.ledger.values():
            for window, packets in zip(row.consumed_windows, row.consumed_packets, strict=True):
                consumed[row.node, window] = consumed.get((row.node, window), 0) + packets
        assert consumed == world.wanted(), f"seed {seed}: the ledger lacks packets"
        if all(node.tells or not node.entries for node in world.nodes):  # else the last coalesced message is kept
            assert world.committed >= len(world.log) - len(world.nodes) * 2, f"seed {seed}"
    assert corrections > RUNS / 10  # the runs do have late packets
    assert aside > RUNS / 100
    assert unclosed > RUNS / 100  # and rings that were given up


def test_windows_that_are_made_again_and_swapped_in_lose_and_double_nothing() -> None:
    """Whatever comes late before, meanwhile and after, and whoever reads again."""
    swapped = late = 0
    for seed in range(RUNS // 4):
        world = World(seed, MemoryStore(), swapping=0.03)
        world.run(world.random.randint(50, 250))
        assert world.merged() == world.wanted(), f"seed {seed}"
        swapped += world.swapped
        again = world.table.again
        late += sum(
            any(a <= n.window.start < u and end > e for _, a, u, _, e in again)
            for n, (end, _) in world.table.blocks.items()
        )
    assert swapped > RUNS / 8
    assert late > RUNS / 40  # some came after their windows were made again


def test_whoever_is_stopped_between_its_questions_and_its_insert_doubles_and_loses_nothing() -> None:
    """For however long: others store meanwhile, set aside, and windows are made again and swapped in."""
    swapped = 0
    for seed in range(RUNS // 2):
        world = World(seed, Stopping(), swapping=0.02)
        world.run(world.random.randint(50, 250))
        assert world.merged() == world.wanted(), f"seed {seed}"
        swapped += world.swapped
    assert swapped > RUNS / 8


@pytest.mark.parametrize(("server", "packets"), [(MemoryStore, 1), (Nameless, 2)])
def test_of_two_workers_that_read_before_either_inserts_only_the_name_makes_one_win(
    server: type[MemoryStore], packets: int
) -> None:
    """The model can fail: this is what the deduplication token is for."""
    message = batch([Packet(time_ns=START * SECOND)], clock_ns=(START + 5) * SECOND)
    states = [Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10) for _ in range(2)]
    for state in states:
        state.take(0, message, 0.0)
    (ours,), (rivals,) = [state.due(5.0) for state in states]

    class Busy(server):  # type: ignore[misc,valid-type]
        rival: WindowJob | None = rivals

        def insert(self, *what: Any) -> None:
            rival, self.rival = self.rival, None
            if rival:
                store_window(rival, self)
            super().insert(*what)

    table = Busy()
    store_window(ours, table)
    stored = [flows for _, flows in table.blocks.values()] + getattr(table, "extra", [])
    assert sum(int(flows.packets.sum()) for flows in stored) == packets


@pytest.mark.parametrize("rows", [0, 1])
def test_a_window_that_is_due_but_stored_already_is_not_inserted_again(rows: int) -> None:
    table = MemoryStore()
    first = Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)
    message = batch([Packet(time_ns=START * SECOND)], clock_ns=(START + 5) * SECOND)
    first.take(0, message, 0.0)
    (job,) = first.due(5.0)
    assert store_window(job, table).rows == 1
    again = Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)
    again.take(0, message, 0.0)
    if rows:
        again.take(
            1, batch([Packet(time_ns=START * SECOND + 1)], ring_start=STRIDE, clock_ns=(START + 5) * SECOND), 0.0
        )
    (job,) = again.due(5.0)
    outcome = store_window(job, table)
    assert outcome.rows == rows
    assert [revision for revision, _ in outcome.publish] == list(range(rows + 1))
    again.stored(job, outcome.known)
    assert not again.windows
    assert np.sum([flows.packets.sum() for _, flows in table.blocks.values()]) == rows + 1


def test_a_window_of_which_somebody_deleted_the_rows_that_say_its_offset_is_not_stored_twice() -> None:
    def later(state: Partition, offset: int) -> WindowJob:
        """A packet that comes late."""
        at = (START + 5) * SECOND
        late = batch([Packet(time_ns=START * SECOND + offset)], ring_start=STRIDE * offset, clock_ns=at)
        state.take(offset, late, 0.0)
        job = state.begin(WindowId(START, WINDOW))
        assert job is not None
        return job

    class Cut(MemoryStore):
        def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
            return [(revision, 0 if revision == 0 else end) for revision, end in super().revisions(partition, window)]

    table = MemoryStore()
    state = Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)
    job = later(state, 0)
    state.stored(job, store_window(job, table).known)
    cut = Cut()
    cut.blocks = table.blocks
    job = later(state, 1)  # who stored it knows up to where
    outcome = store_window(job, cut)
    assert (outcome.rows, outcome.known) == (1, Known(2, 2))
    again = Partition(0, position=0, window_seconds=WINDOW, node_timeout_seconds=10)
    cut.drop(max(cut.blocks))  # the correction is gone as a whole
    job = later(again, 0)
    outcome = store_window(job, cut)
    assert (outcome.rows, outcome.known) == (0, Known(1, 1))
    again.stored(job, outcome.known)
    assert store_window(later(again, 1), cut).rows == 1  # it came behind what was read
    assert np.sum([flows.packets.sum() for _, flows in table.blocks.values()]) == 2
