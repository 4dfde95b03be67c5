"""Closing epochs: the kernel's counters, taken at a known position of the ring and a known time.

A closed epoch says: the kernel counted this, and all events of it lie before that position. DESIGN and
schemas/avro/PacketBatch.avsc say what the ledger makes of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from producer import bpfsys
from producer.clock import WallClock
from schemas.packets import DIRECTIONS, EpochCounters

OUTCOMES = ("seen", "emitted", "non_ip", "malformed", "ring_full")
COUNTERS = np.dtype([("epoch", "=u8"), *((f"{o}_{unit}", "=u8") for o in OUTCOMES for unit in ("packets", "bytes"))])
"""struct counters of bpf/event.h."""
MAX_INTERFACES = 512
"""Slots that the kernel program has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the kernel counts an interface and direction."""

    key: int  # index in the counter maps
    interface: str
    direction: int  # INGRESS or EGRESS
    primary: bool = True


def slots_of(number: int, interface: str) -> tuple[Slot, ...]:
    """Where an interface with this slot number is counted; bpf/event.h has the order."""
    return tuple(
        Slot(
            key=(0 if primary else 2 * MAX_INTERFACES) + number * 2 + direction,
            interface=interface,
            direction=direction,
            primary=primary,
        )
        for primary in (True, False)
        for direction in range(len(DIRECTIONS))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEpoch:
    """What the kernel counted between two moments."""

    number: int  # from 1
    end_position: int  # all its events lie before this position of the ring
    clock_ns: int  # when it was closed, Unix epoch; every packet before it lies before end_position
    counters: tuple[EpochCounters, ...]  # without those that saw nothing


class CounterMaps(Protocol):
    """The two counter maps of the kernel program."""

    def swap(self) -> None:
        """Let the kernel count in the other map; returns when nothing writes to the old one any more."""

    def read(self, key: int) -> npt.NDArray[np.void]:
        """The closed map's counters at `key`: dtype COUNTERS, a row a CPU."""

    def prepare(self, key: int, epoch: int) -> None:
        """Zero the closed map's counters at `key` and note the epoch that it will count next."""

    def begin(self, key: int, epoch: int) -> None:
        """Zero both maps' counters at `key`, which nothing counts at yet: `epoch` is the open one's."""


class KernelCounterMaps:
    """CounterMaps through the system calls."""

    def __init__(self, open_epoch_fd: int, map_fds: tuple[int, int]) -> None:
        self._outer, self._maps, self._open = open_epoch_fd, map_fds, 0
        self._cpus = bpfsys.possible_cpus()

    def swap(self) -> None:
        """See CounterMaps. The update waits for an RCU grace period: 10 ms or so."""
        bpfsys.map_update(self._outer, bytes(4), self._maps[1 - self._open].to_bytes(4, "little"))
        self._open = 1 - self._open

    def read(self, key: int) -> npt.NDArray[np.void]:
        """See CounterMaps."""
        closed = self._maps[1 - self._open]
        return np.frombuffer(
            bpfsys.map_lookup(closed, key.to_bytes(4, "little"), COUNTERS.itemsize * self._cpus), COUNTERS
        )

    def prepare(self, key: int, epoch: int) -> None:
        """See CounterMaps."""
        bpfsys.map_update(self._maps[1 - self._open], key.to_bytes(4, "little"), fresh_counters(epoch, self._cpus))


    def begin(self, key: int, epoch: int) -> None:
        """See CounterMaps."""
        for which, number in ((self._open, epoch), (1 - self._open, epoch + 1)):
            bpfsys.map_update(self._maps[which], key.to_bytes(4, "little"), fresh_counters(number, self._cpus))


def fresh_counters(epoch: int, cpus: int) -> npt.NDArray[np.void]:
    """Zero counters of an epoch, a row a CPU."""
    rows = np.zeros(cpus, COUNTERS)
    rows["epoch"] = epoch
    return rows


class Epochs:
    """Closes one epoch after the other. Begins with 1 open, in the first map, and the second map prepared for 2."""

    def __init__(
        self,
        *,
        maps: CounterMaps,
        slots: tuple[Slot, ...] = (),
        clock: WallClock,
        producer_position: Callable[[], int],
        opened_ns: int,
    ) -> None:
        """`opened_ns`: when epoch 1 began, on the monotonic clock."""
        self._maps, self._clock, self._position = maps, clock, producer_position
        self._slots: dict[Slot, int | None] = dict.fromkeys(slots)  # and the last epoch that may have counted there
        self._opened_ns = opened_ns
        self.number = 1

    @property
    def opened_ns(self) -> int:
        """When the open epoch began, on the monotonic clock."""
        return self._opened_ns

    def watch(self, slots: tuple[Slot, ...]) -> None:
        """Count there too, from the open epoch on. Before the kernel does."""
        for slot in slots:
            self._maps.begin(slot.key, self.number)
            self._slots[slot] = None

    def forget(self, slots: tuple[Slot, ...]) -> int:
        """The kernel counts there no more. Returns the last epoch that may have something of it."""
        for slot in slots:
            self._slots[slot] = self.number + 1  # a program that was running at the swap may be in the next one
        return self.number + 1

    def close(self) -> ClosedEpoch:
        """Close the open epoch, and open the next."""
        self._clock.refresh()
        closed_ns = self._clock.monotonic()
        self._maps.swap()
        position = self._position()
        number, self.number = self.number, self.number + 1
        start_ns, end_ns = self._clock.wall_ns(self._opened_ns), self._clock.wall_ns(closed_ns)
        self._opened_ns = closed_ns
        counters = []
        for slot in self._slots:
            row = self._read(slot, number, start_ns, end_ns)
            self._maps.prepare(slot.key, number + 2)
            if row.seen_packets:
                counters.append(row)
        self._slots = {slot: last for slot, last in self._slots.items() if last is None or last > number}
        return ClosedEpoch(number=number, end_position=position, clock_ns=end_ns, counters=tuple(counters))

    def _read(self, slot: Slot, number: int, start_ns: int, end_ns: int) -> EpochCounters:
        rows = self._maps.read(slot.key)
        sums = {name: int(rows[name].sum()) for name in COUNTERS.names or () if name != "epoch"}
        return EpochCounters(
            epoch=number,
            start_ns=start_ns,
            end_ns=end_ns,
            interface=slot.interface,
            direction=slot.direction,
            primary=slot.primary,
            **sums,
        )
