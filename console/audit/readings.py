"""What the audit compares, as it was read at one moment. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from console.audit.names import NameTotals
from console.audit.settled import Reach

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


NOTHING = Count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a stage lacks and what it has too much; apart, so that they do not cancel out."""

    missing: Count = NOTHING
    surplus: Count = NOTHING

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

    window_begin: int  # seconds since the Unix epoch
    window_seconds: int
    consumed: Count
    stored: Count
    last_epoch_end: float  # seconds since the Unix epoch; 0: no epoch touches it

    def end(self) -> float:
        """When all that belongs to it was seen."""
        return max(self.window_begin + self.window_seconds, self.last_epoch_end)

    def since(self) -> float:
        """Before this moment nothing of it was seen that is not stored; of a correction, that is later packets."""
        late = self.last_epoch_end > self.window_begin + self.window_seconds + ORDER_SECONDS
        return self.last_epoch_end - self.window_seconds if late else self.window_begin


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

    kind: str  # one of schemas.flows.LOSS_KINDS, or "refused", "refused names": what ClickHouse did not take
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
class Gone:
    """What was consumed of one place for days that went for want of room."""

    place: Place
    count: Count  # by epochs in the range
    lacking: Count  # of days in the range as a whole: consumed, and neither known to have gone nor stored since


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
    names: tuple[NameTotals, ...] = ()
    gone: tuple[Gone, ...] = ()


def total(counts: Iterable[Count]) -> Count:
    """The sum."""
    return sum(counts, NOTHING)
