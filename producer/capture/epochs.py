"""Closing epochs: the kernel's counters and flow table, taken at a known position of the ring and a known time. Pure.

A closed epoch says: the kernel counted this, added these packets up by flow, and all its events lie before that
position. It stays in the kernel until it is safe (`stored`), so that whoever comes after us can read it again; only
then the next one is closed. docs/decisions/0002 and 0006.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from producer.capture.devices import Devices
from producer.clock import WallClock
from producer.kernel.abi import COALESCED, COALESCED_KEY, INSPECTING_COUNTERS, Records, counter_key
from producer.kernel.run_state import RunState
from schemas.fields import DIRECTIONS
from schemas.packets import EpochCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the kernel counts an interface and direction."""

    key: int  # index in the counter maps
    interface: str
    direction: int  # INGRESS or EGRESS
    primary: bool = True


def slots_of(number: int, interface: str) -> tuple[Slot, ...]:
    """Where an interface with this slot number is counted."""
    return tuple(
        Slot(
            key=counter_key(number, direction, secondary=not primary),
            interface=interface,
            direction=direction,
            primary=primary,
        )
        for primary in (True, False)
        for direction in range(len(DIRECTIONS))
    )


def no_flows() -> Records:
    """An empty flow table."""
    return np.zeros(0, COALESCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEpoch:
    """What the kernel counted between two moments."""

    number: int  # from 1
    end_position: int  # all its events lie before this position of the ring
    clock_ns: int  # when it was closed, Unix epoch; every packet before it lies before end_position, or in `flows`
    counters: tuple[EpochCounters, ...]  # of those that saw something; none did: of the node itself
    flows: Records = field(default_factory=no_flows)  # the flow table: dtype COALESCED, in the order of their numbers
    coalesced_start: int = 0  # number of the first of `flows`
    idle_ns: tuple[int, int] = (0, 0)  # from when to when the kernel counted nothing, Unix epoch; 0, 0: it did


class KernelMaps(Protocol):
    """The kernel's counters and flow tables: two of each, one for odd and one for even epochs (maps.PinnedMaps)."""

    def open(self, epoch: int) -> None:
        """Let the kernel count in this epoch's maps; returns when nothing writes to the others any more."""

    def counters(self, epoch: int, key: int) -> npt.NDArray[np.void]:
        """The epoch's counters at `key`: dtype COUNTERS, a row a CPU."""

    def zero(self, epoch: int, key: int) -> None:
        """Zero the counters at `key` in the epoch's map, and note the epoch there."""

    def flows(self, epoch: int) -> tuple[Records, Records]:
        """The flow table of a closed epoch: keys and values, in an order that is the same each time."""

    def clear(self, epoch: int, keys: Records) -> None:
        """Remove these from the epoch's flow table."""


class Epochs:
    """Closes one epoch after the other; `state` says which is open, and survives us.

    Of a closed epoch everything is read before `state.open` says that it is closed: whoever finds `state.closing` at
    the open epoch closes it again, which changes nothing but the time that takes.
    """

    def __init__(
        self,
        *,
        maps: KernelMaps,
        state: RunState,
        clock: WallClock,
        producer_position: Callable[[], int],
        slots: tuple[Slot, ...] = (),
    ) -> None:
        """`slots`: where the kernel counts already."""
        self._maps, self._state, self._clock, self._position = maps, state, clock, producer_position
        self.devices = Devices(clock.monotonic)
        self._slots: dict[Slot, int | None] = dict.fromkeys(slots)  # and the last epoch that may have counted there
        self._idle_end = 0  # of the time that the epoch that is not stored tells of; monotonic
        self._keys: Records | None = None  # of the flow table of the epoch that is not stored; None: not known

    @property
    def number(self) -> int:
        """Of the open epoch."""
        return int(self._state.open)

    @property
    def opened_ns(self) -> int:
        """When the open epoch began, on the monotonic clock."""
        return self._state.of(self.number, "opened_ns")

    @property
    def stored(self) -> int:
        """The last epoch that is safe."""
        return int(self._state.stored)

    @property
    def unclean(self) -> int:
        """Entries that are removed from the closed epoch's flow table when they are safe."""
        return 0 if self._keys is None else len(self._keys)

    def watch(self, slots: tuple[Slot, ...]) -> None:
        """Count there too, from the open epoch on. Before the kernel does."""
        for slot in slots:
            self._maps.zero(self.number, slot.key)
            self._maps.zero(self.number + 1, slot.key)
            self._slots[slot] = None

    def forget(self, slots: tuple[Slot, ...]) -> int:
        """The kernel counts there no more. Returns the last epoch that may have something of it."""
        for slot in slots:
            self._slots[slot] = self.number + 1  # a program that was running at the swap may be in the next one
        return self.number + 1

    def inherited(self) -> ClosedEpoch | None:
        """The epoch that our predecessor closed, and of which it did not learn that it is safe."""
        number = self.number
        if self._state.closing == number:
            return self._finish_closing(self._position())
        if self.stored == number - 1:
            self._clean(number - 1)  # it may have been killed while it did
            return None
        closed, _ = self._read(number - 1, self._state.of(number - 1, "end_position"))
        return closed

    def close(self, *, last: bool = False) -> ClosedEpoch:
        """Close the open epoch, and open the next. Only when the one before is stored. `last`: none comes behind it."""
        if self.stored != self.number - 1:
            raise RuntimeError("an epoch is not safe yet: its maps are needed")
        self.devices.before()
        self._clock.refresh()
        self._state.closing_ns = self._clock.monotonic()
        self._state.closing = self.number
        return self._finish_closing(None, last=last)

    def _finish_closing(self, position: int | None, *, last: bool = False) -> ClosedEpoch:
        number, state = self.number, self._state
        self._maps.open(number + 1)
        position = self._position() if position is None else position
        self.devices.after()
        closed_ns = int(state.closing_ns)
        state.note(number, closed_ns=closed_ns, end_position=position)
        closed, entries = self._read(number, position, last=last)
        state.note(number + 1, opened_ns=closed_ns, coalesced_start=closed.coalesced_start + entries)
        state.open = number + 1
        return closed

    def confirm(self, number: int) -> None:
        """All of the closed epoch is safe: empty its maps, for the one after the open one."""
        if number != self.number - 1 or self.stored == number:
            return
        self._state.stored = number
        if self._idle_end:
            self._state.idle_told(self._idle_end)
            self._idle_end = 0
        self._clean(number)
        self._slots = {slot: last for slot, last in self._slots.items() if last is None or last > number}

    def _clean(self, number: int) -> None:
        for slot in self._slots:
            self._maps.zero(number + 2, slot.key)
        keys = self._maps.flows(number)[0] if self._keys is None else self._keys
        self._maps.clear(number, keys)
        self._keys = None

    def _read(self, number: int, position: int, *, last: bool = False) -> tuple[ClosedEpoch, int]:
        """A closed epoch, and how many entries its flow table has."""
        start_ns = self._clock.wall_ns(self._state.of(number, "opened_ns"))
        end_ns = self._clock.wall_ns(self._state.of(number, "closed_ns"))
        rows = [self._counters(slot, number, start_ns, end_ns) for slot in self._slots]
        rows = self.devices.compare(number, rows, start_ns, end_ns)
        counters = [row for row in rows if row.seen_packets or row.device_packets]
        if last or not counters:
            counters.append(EpochCounters.nothing(epoch=number, start_ns=start_ns, end_ns=end_ns, ended=last))
        self._keys, flows = np.zeros(0, COALESCED_KEY), no_flows()
        if any(row.coalesced_packets for row in rows):
            self._keys, flows = self._maps.flows(number)
        idle = self._state.idle()
        self._idle_end = idle[1]
        closed = ClosedEpoch(
            number=number,
            end_position=position,
            clock_ns=end_ns,
            counters=tuple(counters),
            flows=flows,
            coalesced_start=self._state.of(number, "coalesced_start"),
            idle_ns=(self._clock.wall_ns(idle[0]), self._clock.wall_ns(idle[1])) if self._idle_end else (0, 0),
        )
        return closed, len(flows)

    def _counters(self, slot: Slot, number: int, start_ns: int, end_ns: int) -> EpochCounters:
        rows = self._maps.counters(number, slot.key)
        counted = rows.dtype.names or ()  # another version may have counted less
        totals = dict(zip(counted, rows.view("=u8").reshape(len(rows), -1).sum(axis=0).tolist(), strict=True))
        sums = {name: totals.get(name, 0) for name in INSPECTING_COUNTERS.names or () if name != "epoch"}
        return EpochCounters(
            epoch=number,
            start_ns=start_ns,
            end_ns=end_ns,
            interface=slot.interface,
            direction=slot.direction,
            primary=slot.primary,
            **sums,
        )
