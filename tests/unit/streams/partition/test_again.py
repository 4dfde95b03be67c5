"""Windows made again: the live ones, and the same from wherever the work was broken off."""

import random
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from schemas.flows import FlowColumns
from schemas.packets import PacketBatch
from streams.partition.again import CHUNK, Again, Checkpoint, Flush, Span
from streams.partition.state import Partition
from streams.partition.storing import KafkaPartition, Known, rows_of
from streams.windowing.offline import in_order
from tests.unit.streams.batches import SECOND
from tests.unit.streams.past import Past

BEGIN = 1_700_000_000 // 3_600 * 3_600
SPAN = Span(BEGIN, BEGIN + 3_600)
SOURCE = KafkaPartition(5, 0)
Log = list[tuple[int, PacketBatch, int]]  # offset, batch, stamp in ms


def log_of(seed: int, *, half_seconds: int = 260, late: int = 0) -> Log:
    """Two nodes, what they sent twice, offsets without a message; `late`: seconds that some packets are older."""
    r = random.Random(seed)
    nodes = [Past("n1", BEGIN, seed), Past("n2", BEGIN + 3, seed + 1)]
    found: Log = []
    offset = r.randint(0, 3 * CHUNK)
    for n in range(half_seconds):
        for node in nodes:
            made = node.half_second(5, late=late if n > 2 * late and r.random() < 0.05 else 0)
            for each in (made, made) if r.random() < 0.05 else (made,):
                found.append((offset, each, (BEGIN * 1000) + n * 500))
                offset += r.choice((1, 1, 1, 2, 40))
    return found


def told(revision: int, flows: FlowColumns) -> tuple[Any, ...]:
    """What a test compares, whatever the numbers of names."""
    flows = in_order(flows)
    columns = []
    for each in fields(flows):
        value = getattr(flows, each.name)
        names = getattr(flows, f"{each.name}_names", None)
        if names is not None:
            value = [names[number] for number in value]
        if not each.name.endswith("_names"):
            columns.append((each.name, np.asarray(value).tolist()))
    return revision, columns


class Table:
    """Keeps the first of a name."""

    def __init__(self) -> None:
        self.flushes: dict[int, Flush] = {}
        self.checkpoint: Checkpoint | None = None

    def rows(self) -> dict[tuple[int, int], Any]:
        return {
            (flows.window_begin, revision): (name, told(revision, flows))
            for name, flush in self.flushes.items()
            for revision, flows in flush.windows
        }

    def revisions(self, until: int) -> dict[int, int]:
        counts: dict[int, int] = {}
        for name, flush in self.flushes.items():
            for _, flows in flush.windows if name <= until else ():
                counts[flows.window_begin] = counts.get(flows.window_begin, 0) + 1
        return counts

    def known(self, until: int) -> Iterable[FlowColumns]:
        return [flows for name in sorted(self.flushes) if name <= until for _, flows in self.flushes[name].windows]


def go_on(log: Log, table: Table, seconds: int, killed: float, r: random.Random) -> bool:
    """From the last checkpoint on, until the end or a kill -> whether it was the end."""
    end = log[-1][0] + 1
    start = table.checkpoint or Checkpoint.at(log[0][0])
    known = table.known(start.offset_end)
    again = Again(SOURCE, SPAN, seconds, start, revisions=table.revisions(start.offset_end), known=known)
    for offset, batch, stamp in log:
        if offset < start.resume:
            continue
        flush = again.take(offset, batch, stamp)
        if flush and flush.windows:
            if r.random() < killed:
                return False
            table.flushes.setdefault(flush.offset_end, flush)
            if r.random() < killed:
                return False
            table.checkpoint = again.checkpoint(flush.offset_end, stamp)
    table.flushes.setdefault(end, again.rest(end))
    return True


def live(log: Log, seconds: int) -> dict[int, Any]:
    """What the live app stores, its windows closed once, after all."""
    state = Partition(0, position=log[0][0], window_seconds=seconds, node_timeout_seconds=10, topic_id=5)
    for offset, batch, stamp in log:
        state.take(offset, batch, stamp / 1e3)
    found = {}
    for window in state.windows:
        job = state.begin(window)
        assert job
        flows = rows_of(job, Known(0, 0))
        assert flows
        found[window.start] = told(0, flows)
    return found


@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_they_are_the_live_ones(seconds: int) -> None:
    log, table = log_of(3), Table()
    assert go_on(log, table, seconds, 0, random.Random(1))
    assert len(table.flushes) > 1
    made = {window: rows for (window, _), (_, rows) in table.rows().items()}
    assert made == live(log, seconds)


@pytest.mark.parametrize("seed", range(4))
def test_who_is_killed_ends_with_the_same_rows(seed: int) -> None:
    r = random.Random(seed)
    log, seconds = log_of(seed, late=r.choice((0, 100))), r.choice((1, 5, 30))
    whole, table = Table(), Table()
    assert go_on(log, whole, seconds, 0, r)
    kills = 0
    while not go_on(log, table, seconds, 0.25 if kills < 20 else 0, r):
        kills += 1
    assert kills
    assert table.rows() == whole.rows()


def test_late_packets_are_a_revision_of_their_own() -> None:
    log, table = log_of(5, late=100), Table()
    assert go_on(log, table, 10, 0, random.Random(1))
    revisions = {revision for _, revision in table.rows()}
    assert revisions >= {0, 1}
    packets = sum(flush.packets for flush in table.flushes.values())
    whole = live(log, 10)
    assert packets == sum(
        sum(dict(columns)["packets"]) + sum(dict(columns)["packets_rev"]) for _, columns in whole.values()
    )


def test_only_windows_of_the_span_are_made() -> None:
    log = log_of(6)
    again = Again(SOURCE, Span(BEGIN + 60, BEGIN + 70), 1, Checkpoint.at(log[0][0]))
    for offset, batch, stamp in log:
        again.take(offset, batch, stamp)
    rest = again.rest(log[-1][0] + 1)
    assert {flows.window_begin for _, flows in rest.windows} <= set(range(BEGIN + 60, BEGIN + 70))


def test_a_clock_that_is_ahead_closes_nothing_of_others() -> None:
    node = Past("n1", BEGIN, 1)
    again = Again(SOURCE, SPAN, 10, Checkpoint.at(0))
    first = node.half_second()
    again.take(0, first, BEGIN * 1000)
    ahead = Past("n2", BEGIN + 86_400, 2, ring_id=9)
    assert again.take(1, ahead.half_second(), BEGIN * 1000) is None or again.checkpoint(1, 0).boundary < BEGIN + 86_400
    assert again.checkpoint(1, BEGIN * 1000).clock_ns < (BEGIN + 86_400) * SECOND
