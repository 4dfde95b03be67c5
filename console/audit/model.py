"""The audit's comparison: what the kernel counted, what streams consumed, what is stored. Pure.

Four stages, each exact on its own, packets and bytes alike:

    kernel    an epoch's counters: seen = emitted + coalesced + non-IP + malformed + unknown link + dropped (ring full)
    kafka     an epoch: emitted + coalesced = what streams consumed of it
    store     a window: what the epochs' ledger rows say was consumed for it = the rows of flows, all revisions
    rollups   a minute, an hour, a day: each rollup = flows; an insert fills flows first, so what a rollup lacks
              is in flight while it may be the last insert of its partition

An epoch is `unclosed` when the kernel's counters never came, because its ring was given up: what was consumed of it
is stored, what else the kernel saw is not known. A `loss` is a gap that streams noticed on its way from the kernel to
the ledger. With either the audit is not exact.

Nor is it over days that went for want of room (console.audit.dropped).

Nor is it with a hole: packets that a device counted by itself and that its hooks never saw (schemas.unseen).

A window that differs is `in flight` as long as nothing proves that it will stay so. More consumed than stored: proven
when a window that ends later is stored for the same partition of Kafka, because windows of a partition close in
order, unless streams says that it holds something of that window still: what comes late is stored later. More stored
than consumed: proven when the node's ledger has an epoch that began after the window's end, or the last one of all, and
lacks none before, because all packets of the window were counted in earlier epochs.

Names have stages of their own (console.audit.names).

What is proven is exact or differs; how far the proof reaches is said by console.audit.settled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from console.audit import settled
from console.audit.names import NameTotals
from console.audit.readings import (
    NOTHING,
    ORDER_SECONDS,
    Cell,
    Count,
    Difference,
    EpochTotals,
    Gone,
    Hole,
    Loss,
    Place,
    Readings,
    RollupDifference,
    WindowTotals,
)
from console.audit.settled import GRACE_SECONDS, Reach, Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One place.

    seen + unclosed = non_ip + malformed + unknown_link + dropped + stored + gone
                    + net of in_flight and of the differences
    """

    place: Place
    epochs: int = 0
    seen: Count = NOTHING
    emitted: Count = NOTHING
    coalesced: Count = NOTHING
    non_ip: Count = NOTHING
    malformed: Count = NOTHING
    unknown_link: Count = NOTHING
    dropped: Count = NOTHING
    consumed: Count = NOTHING
    stored: Count = NOTHING
    gone: Count = NOTHING  # consumed for days that went for want of room
    gone_lacking: Count = NOTHING  # by how much that is not what went, of whole days
    unclosed_epochs: int = 0
    unclosed: Count = NOTHING  # consumed, of epochs without the kernel's counters
    in_flight: Difference = field(default_factory=Difference)  # surplus: stored ahead of its ledger row
    flight_since: float | None = None  # before this moment nothing waits to be stored, seconds since the Unix epoch
    ahead_since: float | None = None  # the first window that is stored ahead of its ledger row
    device: Count = NOTHING
    hole: Hole | None = None
    kernel: Difference = field(default_factory=Difference)
    kafka: Difference = field(default_factory=Difference)
    store: Difference = field(default_factory=Difference)
    first_wrong_window: int | None = None  # seconds since the Unix epoch

    def difference(self) -> Difference:
        """All stages together."""
        return self.kernel + self.kafka + self.store


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of an audit."""

    rows: tuple[Row, ...]
    rollups: tuple[RollupDifference, ...]
    losses: tuple[Loss, ...] = ()
    names: tuple[NameTotals, ...] = ()
    rollups_in_flight: tuple[RollupDifference, ...] = ()
    nodes: tuple[Settled, ...] = ()
    behind: tuple[Settled, ...] = ()  # nodes that are not settled as far as it was asked for
    asked_until: float | None = None  # None: as far as all is settled
    settled_until: float = 0  # of all nodes; not later than ClickHouse's clock
    stuck: bool = False  # something waits that the ledger cannot know of

    @property
    def until(self) -> float:
        """The audit speaks up to this moment."""
        return self.settled_until if self.asked_until is None else self.asked_until

    def with_stuck(self, since: float | None) -> "Report":
        """With what stands still since a moment; None: nothing does."""
        if since is None or (self.asked_until is not None and self.asked_until <= since):
            return self
        return replace(self, stuck=True, settled_until=min(self.settled_until, since))

    @property
    def empty(self) -> bool:
        """Nothing is stored in the range, and nothing was lost."""
        return not (self.rows or self.losses or any(node.reach.inside for node in self.nodes))

    @property
    def differs(self) -> bool:
        """Some stage is known to be wrong."""
        return (
            bool(self.rollups or self.losses)
            or any(row.difference() or row.unclosed_epochs or row.hole for row in self.rows)
            or any(each.differs for each in self.names)
        )

    @property
    def settled(self) -> bool:
        """All that was seen in the range is stored and compared."""
        return not (self.behind or self.stuck or any(rollup.overdue for rollup in self.rollups_in_flight))

    @property
    def exact(self) -> bool:
        """All is settled, and equal."""
        return self.settled and not (self.empty or self.differs)


def compare(
    readings: Readings, *, until: float | None = None, node_timeout_seconds: float = 10, open_since: float | None = None
) -> Report:
    """Judge the readings. `until`: seconds since the Unix epoch; None: as far as all is settled.

    `open_since`: start of the first window of which streams has what is not stored; None: of none, or it is not known.
    """
    now = readings.now
    epochs = {totals.place: totals for totals in readings.epochs}
    windows = {totals.place: totals for totals in readings.windows}
    # a window of a clock that was ahead proves nothing of what comes until then
    reaches = {r.node: replace(r, stored_until=min(r.stored_until, now)) for r in readings.reaches}
    holes = {hole.place: hole for hole in readings.holes}
    gone = {each.place: each for each in readings.gone}
    rows = [
        _row(
            place,
            epochs.get(place),
            windows.get(place),
            reaches.get(place.node),
            holes.get(place),
            gone=gone.get(place),
            open_since=open_since,
        )
        for place in sorted(epochs.keys() | windows.keys() | gone.keys(), key=_order)
    ]
    nodes = settled.settle(
        [*readings.reaches, *_strangers(rows, reaches)],
        _earliest((row.place.node, row.flight_since) for row in rows),
        until=until,
        now=now,
        node_timeout_seconds=node_timeout_seconds,
    )
    return Report(
        rows=tuple(rows),
        losses=readings.losses,
        names=readings.names,
        rollups=tuple(rollup for rollup in readings.rollups if not rollup.open_until),
        rollups_in_flight=tuple(
            replace(rollup, overdue=rollup.open_until < now - GRACE_SECONDS)
            for rollup in readings.rollups
            if rollup.open_until
        ),
        nodes=nodes,
        behind=settled.behind(nodes, until=until, now=now, node_timeout_seconds=node_timeout_seconds),
        asked_until=until,
        settled_until=min([now, *(node.until for node in nodes)]),
    )


def _earliest(moments: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """The earliest moment of each node that has one."""
    found: dict[str, float] = {}
    for node, moment in moments:
        if moment is not None:
            found[node] = min(moment, found.get(node, moment))
    return found


def _strangers(rows: Iterable[Row], reaches: Mapping[str, Reach]) -> list[Reach]:
    """Nodes that have rows in flows and none in the ledger: settled until the first of their windows."""
    ahead = ((row.place.node, row.ahead_since) for row in rows if row.place.node not in reaches)
    return [Reach(node=node, closed_until=moment) for node, moment in _earliest(ahead).items()]


def _order(place: Place) -> tuple[str, str, bool]:
    return place.node, place.interface, place.direction != "ingress"


def _row(
    place: Place,
    epochs: EpochTotals | None,
    windows: WindowTotals | None,
    reach: Reach | None,
    hole: Hole | None,
    *,
    gone: Gone | None,
    open_since: float | None,
) -> Row:
    in_flight, store = Difference(), Difference()
    first_wrong: int | None = None
    since: float | None = None
    ahead: float | None = None
    for cell in windows.cells if windows else ():
        lacking = Difference.of(cell.consumed - cell.stored)
        if _proven(cell, reach, open_since):
            store += lacking
            first_wrong = cell.window_begin if first_wrong is None else min(first_wrong, cell.window_begin)
        else:
            in_flight += lacking
            if lacking.missing:
                since = cell.since() if since is None else min(since, cell.since())
            if lacking.surplus:
                ahead = cell.window_begin if ahead is None else min(ahead, cell.window_begin)
    open_now = windows.open if windows else NOTHING
    listed = in_flight + store
    if rest := open_now - listed.net():  # more windows differ than are listed: not a moment's matter
        store += Difference.of(rest)
    chosen = windows.chosen if windows else NOTHING
    row = Row(
        place=place,
        stored=(epochs.consumed if epochs else chosen) - open_now - (gone.count if gone and epochs else NOTHING),
        gone=gone.count if gone else NOTHING,
        gone_lacking=gone.lacking if gone else NOTHING,
        in_flight=in_flight,
        flight_since=since,
        ahead_since=ahead,
        hole=hole,
        store=store,
        first_wrong_window=first_wrong,
    )
    if epochs is None:
        return row
    return replace(
        row,
        epochs=epochs.epochs,
        seen=epochs.seen,
        emitted=epochs.emitted,
        coalesced=epochs.coalesced,
        non_ip=epochs.non_ip,
        malformed=epochs.malformed,
        unknown_link=epochs.unknown_link,
        dropped=epochs.ring_full,
        consumed=epochs.consumed,
        unclosed_epochs=epochs.unclosed_epochs,
        unclosed=epochs.unclosed,
        device=epochs.device,
        kernel=epochs.kernel,
        kafka=epochs.kafka,
    )


def _proven(cell: Cell, reach: Reach | None, open_since: float | None) -> bool:
    """Whether what differs in this window will not come any more."""
    if reach is None:
        return False
    lacking = cell.consumed - cell.stored
    if lacking.packets > 0 or (lacking.packets == 0 and lacking.bytes > 0):
        held = open_since is not None and open_since <= cell.window_begin
        return not held and reach.stored_until >= cell.end() + ORDER_SECONDS
    if reach.gap is not None and reach.gap.since < cell.end() + ORDER_SECONDS:
        return False  # of the epochs that are not there yet: another partition has them, since the node's key moved
    return reach.ended or reach.ledger_until >= cell.end() + ORDER_SECONDS
