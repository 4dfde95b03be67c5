"""The recovery protocol: how a window gets into the flows table exactly once. Pure apart from the Store it is given.

Each insert of a window carries the partition P, a revision k (0 at the close, 1, 2, … for packets that came late)
and the end offset E: the rows hold every contribution from offsets below E that earlier revisions do not hold, and
none from E on. The table is thereby its own commit log:

- before the first insert of a window the revisions that are there are read: contributions below their E are stored;
- an insert is named by (topic, its id, P, window, k), *without* E, and the server keeps the first of a name. Of two
  workers that both believe to own the partition one wins;
- what the table refuses for too long is set aside, under the name that it would have, and counts as stored;
- where windows are made again (`ayaflow rewindow`) and their rows replaced, the names that were used stay used: who
  asked before and inserts long after has the same name as who asks after, and one of them wins;
- after the insert E is read back. When it is not ours, a rival (or our own try whose answer was lost) was first, and
  what lies from its E on is kept for the next revision.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from common.errors import ServiceUnavailable
from schemas.flows import FlowColumns
from streams.windowing.biflow import merge
from streams.windowing.initiators import Initiators
from streams.windowing.naming import Table as Naming
from streams.windowing.rows import concatenate
from streams.windowing.tunnels import Table
from streams.windowing.windows import Piece, from_offset

MADE_AGAIN = 1 << 30
"""Revisions from here on are no names: of rows that `ayaflow rewindow` made where no insert had that revision."""


class Refused(ServiceUnavailable):
    """The server is well and does not take these rows: a constraint, a type that does not fit."""


class KafkaPartition(NamedTuple):
    """Where packets come from. Offsets mean nothing without the topic's identity: a new topic begins at 0 again."""

    topic_id: int  # common.kafka.topic_id; 0: not known
    number: int


class WindowId(NamedTuple):
    """A window; two lengths can stand side by side after streams.window_seconds was changed."""

    start: int  # seconds since the Unix epoch
    seconds: int

    @property
    def end_ns(self) -> int:
        """First nanosecond after it."""
        return (self.start + self.seconds) * 1_000_000_000


class Known(NamedTuple):
    """What is stored of a window."""

    revision: int  # that comes next
    offset_end: int  # E of the newest revision; 0: nothing is stored


class Store(Protocol):
    """The flows table, as the protocol needs it."""

    def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all names of a window that are stored, by k. E is 0 where the rows are gone that said it."""

    def insert(self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> None:
        """Store rows under the name (topic, partition, window, revision), unless something has that name."""

    def expired(self, window: WindowId) -> bool:
        """Whether the table does not keep rows so old."""

    def rows(self, partition: KafkaPartition, window: WindowId, revision: int) -> FlowColumns:
        """What is stored under a name."""

    def complete(self, partition: KafkaPartition, window: WindowId, revision: int, offset_end: int) -> FlowColumns:
        """What is stored under a name. The rollups have it, too, when this returns."""

    def set_aside(
        self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int, error: str
    ) -> None:
        """Keep rows that the table refuses beside it, under their name."""

    def aside(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all of a window that ever was set aside, by k.

        Of windows that were made again in its place, too: the highest k that it had before, -1 where it had none, and
        the E of what they were made of.
        """

    def rows_aside(self, aside: "Aside") -> FlowColumns:
        """What was set aside under a name."""

    def brought_in(self, aside: "Aside") -> None:
        """The table has it now."""


class Aside(NamedTuple):
    """The name of what was set aside, and its E."""

    partition: KafkaPartition
    window: WindowId
    revision: int
    offset_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowJob:
    """All that is held of a window at one moment."""

    partition: KafkaPartition
    window: WindowId
    offset_end: int  # the next offset to be consumed: E
    pieces: tuple[Piece, ...]  # all contributions below E that may not be stored yet
    node_names: tuple[str, ...]
    interface_names: tuple[str, ...]
    tunnels: Table  # what the numbers of tunnels in the pieces stand for
    naming: Naming  # likewise of names
    initiators: Initiators  # the partition's: learns the rows of its windows, one window after the other
    known: Known | None  # what we know to be stored; None: nothing was read back yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job."""

    known: Known
    rows: int  # inserted
    packets: int  # in these rows
    expired: int  # inserted, but older than what the table keeps
    publish: tuple[tuple[int, FlowColumns], ...]  # revision, rows: for the flows topic
    aside: int = 0  # packets that were set aside


def catch_up(job: WindowJob, store: Store) -> Outcome:
    """Read back what is stored of a window; insert nothing new.

    Revisions that we did not know of were written by a worker, perhaps ourselves, that may not have lived to see the
    end of it. Should the server have died between the table and its rollups, the rollups that lack them take them now.
    And they are published.
    """
    aside = dict(store.aside(job.partition, job.window))
    told = dict(store.revisions(job.partition, job.window))
    for revision in [revision for revision, offset_end in told.items() if not offset_end]:
        # what we do not know to be stored: all that we have read, or it would be stored twice
        ours = job.known.offset_end if job.known and revision < job.known.revision else job.offset_end
        told[revision] = aside.get(revision, ours)
    taken = aside | told
    known = Known(max(taken, default=-1) + 1, max(taken.values(), default=0))
    publish: list[tuple[int, FlowColumns]] = []
    if len(from_offset(job.pieces, known.offset_end)) < len(job.pieces):
        for revision, offset_end in told.items():
            if job.known is None or revision >= job.known.revision:
                rows = store.complete(job.partition, job.window, revision, offset_end)
                job.initiators.learn(rows)
                publish.append((revision, rows))
    if job.known and known.revision < job.known.revision:  # rows that went by TTL, or that somebody deleted
        known = job.known
    return Outcome(known=known, rows=0, packets=0, expired=0, publish=tuple(publish))


def store_window(job: WindowJob, store: Store) -> Outcome:
    """Insert what is not stored yet. Can be repeated after any failure, with the same job and `known` None.

    Raises StraddlesOffset when compacted rows would have to be divided: the partition must then be read again from
    its last acknowledged offset. Errors of the store pass through.
    """
    before = catch_up(job, store)
    known, publish = before.known, list(before.publish)
    flows = rows_of(job, known)
    if flows is None:
        return before
    store.insert(flows, job.partition, known.revision, job.offset_end)
    offset_end = dict(store.revisions(job.partition, job.window)).get(known.revision)
    if offset_end is None:
        if not store.expired(job.window):
            raise ServiceUnavailable("ClickHouse took rows of the flows table and does not show them")
        known = Known(known.revision + 1, job.offset_end)
        publish.append((known.revision - 1, flows))
        return Outcome(known=known, rows=0, packets=0, expired=len(flows), publish=tuple(publish))
    if offset_end != job.offset_end:
        flows = store.rows(job.partition, job.window, known.revision)
        job.initiators.learn(flows)
    publish.append((known.revision, flows))
    expired = store.expired(job.window)  # then they are gone in a moment, though they are still shown
    return Outcome(
        known=Known(known.revision + 1, offset_end),
        rows=0 if expired else len(flows),
        packets=0 if expired else int(flows.packets.sum() + flows.packets_rev.sum()),
        expired=len(flows) if expired else 0,
        publish=tuple(publish),
    )


def set_aside(job: WindowJob, store: Store, error: str) -> Outcome:
    """Keep what the table refuses of a window beside it. Raises as store_window does.

    It has the next name of the window, as if it were stored: a worker that reads its messages again leaves it out.
    """
    before = catch_up(replace(job, known=None), store)
    flows = rows_of(job, before.known)
    if flows is None:
        return before
    revision = before.known.revision
    store.set_aside(flows, job.partition, revision, job.offset_end, error)
    stored = dict(store.revisions(job.partition, job.window)).get(revision)
    if stored is not None:  # a rival, whom the table did not refuse
        return replace(before, known=Known(revision + 1, stored))
    packets = int(flows.packets.sum() + flows.packets_rev.sum())
    return replace(before, known=Known(revision + 1, job.offset_end), aside=packets)


def bring_in(aside: Aside, store: Store) -> FlowColumns:
    """Store what was set aside, under its name -> its rows. Raises Refused when the table still does not take it."""
    flows = store.rows_aside(aside)
    if aside.revision not in dict(store.revisions(aside.partition, aside.window)):
        store.insert(flows, aside.partition, aside.revision, aside.offset_end)
    store.brought_in(aside)
    return flows


def rows_of(job: WindowJob, known: Known) -> FlowColumns | None:
    """The rows of a window that are not stored, which its partition's initiators learn; None: there are none."""
    pieces = from_offset(job.pieces, known.offset_end)
    if not pieces:
        return None
    flows = merge(
        concatenate([piece.rows for piece in pieces]),
        window_begin=job.window.start,
        window_seconds=job.window.seconds,
        node_names=job.node_names,
        interface_names=job.interface_names,
        tunnels=job.tunnels,
        naming=job.naming,
        initiators=job.initiators,
    )
    job.initiators.learn(flows)
    return flows
