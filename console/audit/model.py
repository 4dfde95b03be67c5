"""The audit's comparison: what the kernel counted, what streams consumed, what is stored. Pure.

Four stages, each exact on its own, packets and bytes alike:

    kernel    an epoch's counters: seen = emitted + coalesced + non-IP + malformed + unknown link + dropped (ring full)
    kafka     an epoch: emitted + coalesced = what streams consumed of it
    store     a window: what the epochs' ledger rows say was consumed for it = the rows of flows, all revisions
    rollups   a minute, an hour: flows_1m and flows_1h = flows; an insert fills flows first, so what a rollup lacks
              is in flight while it may be the last insert of its partition

An epoch is `unclosed` when the kernel's counters never came, because its ring was given up: what was consumed of it
is stored, what else the kernel saw is not known. A `loss` is a gap that streams noticed on its way from the kernel to
the ledger. With either the audit is not exact.

Nor is it with a hole: packets that a device counted by itself and that its hooks never saw (schemas.unseen).

A window that differs is `in flight` as long as nothing proves that it will stay so. More consumed than stored: proven
when a window that ends later is stored for the same partition of Kafka, because windows of a partition close in
order. More stored than consumed: proven when the node's ledger has an epoch that began after the window's end, or the
last one of all, because all packets of the window were counted in earlier epochs.

What is proven is exact or differs; how far the proof reaches is said by console.audit.settled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from console.audit import settled
from console.audit.settled import GRACE_SECONDS, Reach, Settled

ORDER_SECONDS = 2  # by so much the proof must be later: corrections wait up to 1 s, a packet's clock is read early


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Packets and bytes."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(packets=self.packets + other.packets, bytes=self.bytes + other.bytes)

    def __sub__(self, other: "Count") -> "Count":
        return Count(packets=self.packets - other.packets, bytes=self.bytes - other.bytes)

    def __bool__(self) -> bool:
        return bool(self.packets or self.bytes)

    def positive(self) -> "Count":
        """The parts above zero."""
        return Count(packets=max(self.packets, 0), bytes=max(self.bytes, 0))

    def negative(self) -> "Count":
        """The parts below zero, as positive numbers."""
        return Count(packets=max(-self.packets, 0), bytes=max(-self.bytes, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a stage lacks and what it has too much; apart, so that they do not cancel out."""

    missing: Count = Count()
    surplus: Count = Count()

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(missing=self.missing + other.missing, surplus=self.surplus + other.surplus)

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus)

    @classmethod
    def of(cls, lacking: Count) -> "Difference":
        """From `expected - found`."""
        return cls(missing=lacking.positive(), surplus=lacking.negative())

    def net(self) -> Count:
        """missing - surplus."""
        return self.missing - self.surplus


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where packets were counted."""

    node: str
    interface: str
    direction: str  # ingress or egress


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTotals:
    """The ledger rows of one place, added up."""

    place: Place
    epochs: int
    seen: Count
    emitted: Count
    coalesced: Count
    non_ip: Count
    malformed: Count
    unknown_link: Count
    ring_full: Count
    consumed: Count
    unclosed_epochs: int  # without the kernel's counters
    unclosed: Count  # consumed of these
    device: Count  # by the device's own counters, where they were read
    kernel: Difference  # seen - outcomes, epoch by epoch
    kafka: Difference  # emitted + coalesced - consumed, epoch by closed epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A window of one place where consumed and stored differ."""

    window_start: int  # seconds since the Unix epoch
    window_seconds: int
    consumed: Count
    stored: Count
    last_epoch_end: float  # seconds since the Unix epoch; 0: no epoch touches it

    def end(self) -> float:
        """When all that belongs to it was seen."""
        return max(self.window_start + self.window_seconds, self.last_epoch_end)

    def since(self) -> float:
        """Before this moment nothing of it was seen that is not stored; of a correction, that is later packets."""
        late = self.last_epoch_end > self.window_start + self.window_seconds + ORDER_SECONDS
        return self.last_epoch_end - self.window_seconds if late else self.window_start


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTotals:
    """The windows of one place, added up."""

    place: Place
    chosen: Count  # consumed by epochs in the range
    open: Count  # consumed - stored, over whole windows
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupDifference:
    """Periods of a rollup that differ from the raw windows."""

    table: str
    node: str
    interface: str
    periods: int
    first_period: int  # seconds since the Unix epoch
    difference: Count  # absolute
    open_until: float = 0  # in flight: end of the last window that is just being stored, seconds; 0: it is not
    overdue: bool = False  # in flight for longer than it may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A gap that streams noticed; see schemas.flows.Loss."""

    kind: str  # one of schemas.flows.LOSS_KINDS, or "refused": a window that ClickHouse did not take
    node: str  # "" with messages
    kafka_partition: int
    ring_id: int  # of a window its revision
    first: int  # offset, ring position, number, ns or (a window) seconds since the Unix epoch
    behind: int
    noticed: float  # seconds since the Unix epoch
    lost: int | None  # how many of what the kind says, of a window packets; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Packets that a device counted and its hooks did not see; of the minutes in which they were a hole."""

    place: Place
    minutes: int
    first_minute: int  # seconds since the Unix epoch
    device_packets: int  # in these minutes
    unseen_packets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was read from the store at one moment."""

    now: float  # seconds since the Unix epoch, on ClickHouse's clock
    epochs: tuple[EpochTotals, ...]
    windows: tuple[WindowTotals, ...]
    reaches: tuple[Reach, ...]
    rollups: tuple[RollupDifference, ...]
    losses: tuple[Loss, ...] = ()
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One place.

    seen + unclosed = non_ip + malformed + unknown_link + dropped + stored
                    + net of in_flight and of the differences
    """

    place: Place
    epochs: int = 0
    seen: Count = Count()
    emitted: Count = Count()
    coalesced: Count = Count()
    non_ip: Count = Count()
    malformed: Count = Count()
    unknown_link: Count = Count()
    dropped: Count = Count()
    consumed: Count = Count()
    stored: Count = Count()
    unclosed_epochs: int = 0
    unclosed: Count = Count()  # consumed, of epochs without the kernel's counters
    in_flight: Difference = field(default_factory=Difference)  # surplus: stored ahead of its ledger row
    flight_since: float | None = None  # before this moment nothing waits to be stored, seconds since the Unix epoch
    ahead_since: float | None = None  # the first window that is stored ahead of its ledger row
    device: Count = Count()
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
    rollups_in_flight: tuple[RollupDifference, ...] = ()
    nodes: tuple[Settled, ...] = ()
    behind: tuple[Settled, ...] = ()  # nodes that are not settled as far as it was asked for
    now: float = 0  # seconds since the Unix epoch, on ClickHouse's clock
    asked_until: float | None = None  # None: as far as all is settled
    settled_until: float = 0  # of all nodes; not later than now
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
        return bool(self.rollups or self.losses) or any(
            row.difference() or row.unclosed_epochs or row.hole for row in self.rows
        )

    @property
    def settled(self) -> bool:
        """All that was seen in the range is stored and compared."""
        return not (self.behind or self.stuck or any(rollup.overdue for rollup in self.rollups_in_flight))

    @property
    def exact(self) -> bool:
        """All is settled, and equal."""
        return self.settled and not (self.empty or self.differs)


def compare(readings: Readings, *, until: float | None = None, node_timeout_seconds: float = 10) -> Report:
    """Judge the readings. `until`: seconds since the Unix epoch; None: as far as all is settled."""
    now = readings.now
    epochs = {totals.place: totals for totals in readings.epochs}
    windows = {totals.place: totals for totals in readings.windows}
    # a window of a clock that was ahead proves nothing of what comes until then
    reaches = {r.node: replace(r, stored_until=min(r.stored_until, now)) for r in readings.reaches}
    holes = {hole.place: hole for hole in readings.holes}
    rows = [
        replace(_row(place, epochs.get(place), windows.get(place), reaches.get(place.node)), hole=holes.get(place))
        for place in sorted(epochs.keys() | windows.keys(), key=_order)
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
        rollups=tuple(rollup for rollup in readings.rollups if not rollup.open_until),
        rollups_in_flight=tuple(
            replace(rollup, overdue=rollup.open_until < now - GRACE_SECONDS)
            for rollup in readings.rollups
            if rollup.open_until
        ),
        nodes=nodes,
        behind=settled.behind(nodes, until=until, now=now, node_timeout_seconds=node_timeout_seconds),
        now=now,
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


def _row(place: Place, epochs: EpochTotals | None, windows: WindowTotals | None, reach: Reach | None) -> Row:
    in_flight, store = Difference(), Difference()
    first_wrong: int | None = None
    since: float | None = None
    ahead: float | None = None
    for cell in windows.cells if windows else ():
        lacking = Difference.of(cell.consumed - cell.stored)
        if _proven(cell, reach):
            store += lacking
            first_wrong = cell.window_start if first_wrong is None else min(first_wrong, cell.window_start)
        else:
            in_flight += lacking
            if lacking.missing:
                since = cell.since() if since is None else min(since, cell.since())
            if lacking.surplus:
                ahead = cell.window_start if ahead is None else min(ahead, cell.window_start)
    open_now = windows.open if windows else Count()
    listed = in_flight + store
    if rest := open_now - listed.net():  # more windows differ than are listed: not a moment's matter
        store += Difference.of(rest)
    chosen = windows.chosen if windows else Count()
    if epochs is None:
        return Row(
            place=place,
            stored=chosen - open_now,
            in_flight=in_flight,
            flight_since=since,
            ahead_since=ahead,
            store=store,
            first_wrong_window=first_wrong,
        )
    return Row(
        place=place,
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
        stored=epochs.consumed - open_now,
        in_flight=in_flight,
        flight_since=since,
        ahead_since=ahead,
        device=epochs.device,
        kernel=epochs.kernel,
        kafka=epochs.kafka,
        store=store,
        first_wrong_window=first_wrong,
    )


def _proven(cell: Cell, reach: Reach | None) -> bool:
    """Whether what differs in this window will not come any more."""
    if reach is None:
        return False
    lacking = cell.consumed - cell.stored
    if lacking.packets > 0 or (lacking.packets == 0 and lacking.bytes > 0):
        return reach.stored_until >= cell.end() + ORDER_SECONDS
    return reach.ended or reach.ledger_until >= cell.end() + ORDER_SECONDS


def total(counts: Iterable[Count]) -> Count:
    """The sum."""
    return sum(counts, Count())
