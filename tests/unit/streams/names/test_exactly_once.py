"""Names are stored exactly once, and their ledger adds up, whoever dies when: a model of Kafka and ClickHouse."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from common.errors import ServiceUnavailable
from schemas.names import NameBatch
from streams.names.partition import INSERT_SECONDS, NamePartition
from streams.names.storing import store_block
from streams.names.testing import MemoryNames
from tests.unit.streams.names.node import Node

RUNS, STEPS = 40, 120


class World:
    """One partition; a node, workers, tables."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[tuple[float, NameBatch]] = []  # when Kafka took it
        self.committed = 0
        self.table = MemoryNames()
        self.now = 1_800_000_000.0
        self.node = Node()
        self.epoch = 1
        self.workers = [self.worker()]

    def worker(self) -> NamePartition:
        state = NamePartition(0, position=self.committed, window_seconds=10, topic_id=1)
        state.expect(self.table.blocks(state.source, state.position))
        return state

    def see(self) -> None:
        for _ in range(self.random.randint(0, 4)):
            if self.random.random() < 0.5:
                self.node.ask(epoch=self.epoch)
            else:
                self.node.noise(epoch=self.epoch)
        if self.random.random() < 0.3:
            self.node.answer(self.node.ask(epoch=self.epoch, answered=False), epoch=self.epoch)
        self.epoch += self.random.random() < 0.2

    def send(self) -> None:
        self.node.acknowledge()  # what was sent before
        self._send()

    def send_several(self) -> None:
        """Of which the producer does not know that they arrived; perhaps it never will."""
        self.node.acknowledge()
        for _ in range(self.random.randint(2, 4)):
            self.see()
            self._send()
        if self.random.random() < 0.5:
            self.node.kill()

    def _send(self, *, expire: bool = False) -> None:
        self.log.append((self.now, self.node.send(expire=expire or self.random.random() < 0.2)))

    def consume(self, state: NamePartition) -> None:
        if state.position < len(self.log):
            offset = state.position
            received, message = self.log[offset]
            state.take(offset, int(received), message, self.now)

    def write(self, state: NamePartition) -> None:
        block = state.due(self.now)
        if block is not None:
            self.table.lose_answer = self.random.random() < 0.3
            try:
                state.stored(block, store_block(block, self.table).end)
            except ServiceUnavailable:
                return  # tried again, or the worker dies
            finally:
                self.table.lose_answer = False
        self.committed = max(self.committed, state.committable(self.now))

    def step(self) -> None:
        self.now += self.random.choice([0.1, INSERT_SECONDS])
        state = self.random.choice(self.workers)
        consume, write = partial(self.consume, state), partial(self.write, state)
        acts: list[Callable[[], object]] = [self.see, self.send, consume, write]
        acts += [self.node.kill, self.crash, self.rival, self.send_several]
        self.random.choices(acts, weights=[4, 4, 6, 5, 0.5, 0.5, 0.5, 1])[0]()

    def crash(self) -> None:
        self.workers = [self.worker()]

    def rival(self) -> None:
        """Another one believes that the partition is its own; the first does, too, for a while."""
        self.workers = [self.workers[-1], self.worker()]

    def finish(self) -> None:
        self.node.acknowledge()
        self._send(expire=True)
        self.crash()
        for _ in range(2 * len(self.log) + 10):
            self.now += INSERT_SECONDS
            self.consume(self.workers[0])
            self.write(self.workers[0])


@pytest.mark.parametrize("seed", range(RUNS))
def test_each_transaction_is_stored_once_and_each_copy_is_accounted_for(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.finish()
    stored: Counter[str] = Counter()
    for table in world.table.rows.values():
        for row in table.to_pylist():
            if row["rcode"] == 0:
                stored[row["name"]] += row["count"]
    answered = Counter(f"host{copy.number}.example" for copy in world.node.ring if copy.what == "answer")
    assert stored == answered
    accounts = [account for _, some in world.table.ledger.values() for account in some]
    assert {account.missing for account in accounts} <= {0}
    assert sum(account.copies for account in accounts) == len(world.node.ring)
    assert sum((account.by_epoch for account in accounts), Counter()) == world.node.copied
    for each in accounts:
        ends = sum(each.by_status.values()) + each.unused + each.lost + each.missing + each.open
        assert each.open_before + each.copies == ends
    transactions = sum(sum(table.column("count").to_pylist()) for table in world.table.rows.values())
    assert transactions == sum(account.transactions for account in accounts)
    assert not world.table.losses
