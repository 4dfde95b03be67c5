"""What the devices' own counters say beside those of our hooks: they move where a hook is not there. Does no I/O.

Every few seconds, right before an epoch is closed, all are read, and again right after the next one is open. What a
device counted from after one close until before another passed while epochs were open that are known exactly: so it is
never more than the hooks had to see, unless something kept packets from them. It is often less: a device may count a
super-packet as one, later than the hook (a queue, counters that the hardware brings up to date once a second), or not
at all. What was seen and not counted yet is remembered for one reading; the first of a device, of which nobody knows,
is short.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from common import logs
from producer.clock import Nanoseconds
from schemas.fields import DIRECTIONS
from schemas.packets import EpochCounters
from schemas.unseen import READ_SECONDS, SPAN_SECONDS, is_hole

READ_NS = READ_SECONDS * 1_000_000_000
FIRST_NS = 2_000_000_000  # after the first reading of a device: until then its counters may lag behind what was before

Passage = tuple[str, int]
"""Interface and direction."""

log = logs.get("producer")


@dataclass(frozen=True, slots=True)
class DeviceCount:
    """Of one direction, since the device was made."""

    packets: int
    bytes: int


ReadDevices = Callable[[], Mapping[Passage, DeviceCount]]
"""All devices that are, or should be, watched; those that cannot be read now are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Packets of the last minute that passed our hooks by."""

    interface: str
    direction: str
    device_packets: int
    unseen_packets: int


@dataclass(slots=True, kw_only=True)
class _Compared:
    """A device and the hooks on it since the last reading."""

    before: DeviceCount  # that reading, right before an epoch's end
    after: DeviceCount  # and right after it
    epoch: int  # that epoch
    seen: int = 0
    credit: int | None = None  # seen before `after`, and perhaps counted behind it; None: nobody looked
    recent: deque[tuple[int, int, int]] = field(default_factory=deque)  # of SPAN_SECONDS: when, device, unseen

    def settle(self, packets: int) -> int:
        """How many of the packets that the device counted since `after` were not seen."""
        credit = self.seen if self.credit is None else self.credit  # of as long a time as this one
        self.credit = max(0, self.seen - packets)
        return max(0, packets - self.seen - credit)


class Devices:
    """Compares each device's counters with ours, epoch by epoch."""

    def __init__(self, monotonic: Nanoseconds) -> None:
        self.holes: tuple[Hole, ...] = ()
        self._monotonic = monotonic
        self._read: ReadDevices = dict
        self._due_ns = 0
        self._ending: Mapping[Passage, DeviceCount] | None = None  # None: not read with this epoch
        self._beginning: Mapping[Passage, DeviceCount] = {}
        self._compared: dict[Passage, _Compared] = {}
        self._absent: set[Passage] = set()  # at the last reading

    def follow(self, read: ReadDevices) -> None:
        """Ask this for the devices from now on."""
        self._read = read

    def forget(self, interface: str) -> None:
        """The device has gone; one that comes under its name is another."""
        for direction in range(len(DIRECTIONS)):
            self._compared.pop((interface, direction), None)

    def before(self) -> None:
        """An epoch is about to be closed."""
        now, self._ending = self._monotonic(), None
        if now >= self._due_ns:
            self._due_ns, self._ending = now + READ_NS, self._read()

    def after(self) -> None:
        """The next one is open."""
        if self._ending is not None:
            self._beginning = self._read()

    def compare(self, epoch: int, rows: list[EpochCounters], start_ns: int, end_ns: int) -> list[EpochCounters]:
        """Rows of the epoch that was closed, with what the devices counted where that was read.

        A device on which there is no hook has a row, too. `start_ns`, `end_ns`: of the epoch.
        """
        for row in rows:
            if row.seen_packets and (compared := self._compared.get((row.interface, row.direction))):
                compared.seen += row.seen_packets
        if self._ending is None:
            return rows
        moved = {passage: self._moved(passage, count, epoch) for passage, count in self._ending.items()}
        self._begin(epoch)
        self._judge()
        found = [
            replace(row, **more) if row.primary and (more := moved.pop((row.interface, row.direction), None)) else row
            for row in rows
        ]
        return found + [
            EpochCounters.nothing(
                epoch=epoch, start_ns=start_ns, end_ns=end_ns, interface=interface, direction=direction, **more
            )
            for (interface, direction), more in moved.items()
            if more
        ]

    def _moved(self, passage: Passage, count: DeviceCount, epoch: int) -> dict[str, Any] | None:
        """The device's columns of EpochCounters; None: it was not read before, or began anew."""
        compared = self._compared.get(passage)
        if compared is None:
            return None
        packets, octets = count.packets - compared.before.packets, count.bytes - compared.before.bytes
        counted = count.packets - compared.after.packets
        if min(counted, packets, octets) < 0:  # a driver's reset, 32 bits that are full, a device of the same name
            compared.credit = None
            return None
        unseen = compared.settle(counted)
        compared.recent.append((self._monotonic(), packets, unseen))
        return {
            "device_epochs": epoch - compared.epoch,
            "device_packets": packets,
            "device_bytes": octets,
            "unseen_packets": unseen,
        }

    def _begin(self, epoch: int) -> None:
        """Of those that could not be read at the end, what began before goes on, once."""
        ending = self._ending or {}
        for passage, count in self._beginning.items():
            compared = self._compared.get(passage)
            if compared is None:
                self._due_ns = min(self._due_ns, self._monotonic() + FIRST_NS)
                self._compared[passage] = _Compared(before=ending.get(passage, count), after=count, epoch=epoch)
            elif before := ending.get(passage):
                if compared.credit is not None:  # what was counted since it was read is behind no more
                    compared.credit = max(0, compared.credit - max(0, count.packets - before.packets))
                compared.before, compared.after, compared.epoch, compared.seen = before, count, epoch, 0
        for passage in [*(ending.keys() - self._beginning.keys()), *(self._absent - ending.keys())]:
            self._compared.pop(passage, None)
        self._absent = self._compared.keys() - ending.keys() - self._beginning.keys()

    def _judge(self) -> None:
        oldest = self._monotonic() - SPAN_SECONDS * 1_000_000_000
        known = {(hole.interface, hole.direction) for hole in self.holes}
        holes = []
        for (interface, direction), compared in self._compared.items():
            while compared.recent and compared.recent[0][0] <= oldest:
                compared.recent.popleft()
            device, unseen = (sum(each[i] for each in compared.recent) for i in (1, 2))
            if not is_hole(device, unseen):
                continue
            hole = Hole(
                interface=interface, direction=DIRECTIONS[direction], device_packets=device, unseen_packets=unseen
            )
            holes.append(hole)
            if (hole.interface, hole.direction) not in known:
                log.warning(
                    "packets passed our hooks by: they are not there, or something before them takes packets",
                    **asdict(hole),
                )
        self.holes = tuple(holes)
