"""A partition as the worker holds it: what is known of it, and how far it is acknowledged."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from schemas.flows import FlowColumns
from streams.operators.shown import Shown
from streams.partition.blocks import Blocks
from streams.partition.state import Partition
from streams.partition.storing import KafkaPartition, WindowId
from streams.worker.troubles import Place


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unpublished:
    """A revision of a window that is stored, and whose messages Kafka does not have."""

    partition: KafkaPartition  # under which it is stored
    window: WindowId
    revision: int
    flows: FlowColumns | None  # None: it is read back
    nbytes: int  # of these
    rows: int
    needed: int  # the offset from which a successor must read to send it
    since: float  # on the monotonic clock


def held(
    partition: KafkaPartition,
    window: WindowId,
    revision: int,
    flows: FlowColumns,
    *,
    needed: int,
    since: float,
    room: int,
) -> Unpublished:
    """Rows that wait; without them, to be read back, where there is no `room` for so many octets."""
    columns = (getattr(flows, each.name) for each in fields(flows))
    nbytes = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
    kept = nbytes <= room
    return Unpublished(
        partition=partition,
        window=window,
        revision=revision,
        flows=flows if kept else None,
        nbytes=nbytes if kept else 0,
        rows=len(flows),
        needed=needed,
        since=since,
    )


@dataclass(slots=True, eq=False)
class Unseen:
    """A revision of a window that is stored, and that some operators have not seen; it is one for all of them."""

    stored: Unpublished
    shown: Shown | None  # None: each reads it back
    left: int  # so many operators

    @property
    def needed(self) -> int:
        """The offset from which a successor must read to show it."""
        return self.stored.needed


@dataclass(slots=True)
class Refusal:
    """A table beside flows that refuses its rows. Times are those of the monotonic clock, in seconds."""

    delay: float  # until it is tried again
    next_try: float


class Held(Protocol):
    """A partition of any topic that is ours."""

    @property
    def closing(self) -> asyncio.Event:
        """It is no longer ours."""

    def at(self) -> Place:
        """The partition, as a place where something may go wrong."""


@dataclass(slots=True, eq=False)
class Lane:
    """A partition, and the task that writes what is due."""

    state: Partition
    tell: Callable[[int], None]  # that all below an offset is stored
    acknowledged: int = field(init=False)  # below this offset nothing is to be told
    told: int = -1  # so far; -1: nothing
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # it is no longer ours
    task: asyncio.Task[None] | None = None
    refused: dict[str, Refusal] = field(default_factory=dict)  # by table
    next_bring_in: float = 0.0  # on the monotonic clock: when to look what is set aside
    unpublished: deque[Unpublished] = field(default_factory=deque)  # in the order in which it was stored
    unseen: dict[str, deque[Unseen]] = field(default_factory=dict)  # likewise, by operator
    blocks: Blocks = field(default_factory=Blocks)  # of packets that are kept

    def __post_init__(self) -> None:
        self.acknowledged = self.state.acked

    def at(self, window: WindowId | None = None) -> Place:
        """The partition, or a window of it, as a place where something may go wrong."""
        return Place(self.state.number, window.start if window else None)

    def acknowledge(self, now: float) -> None:
        """The messages of which everything is stored."""
        needed = [each.needed for each in self.unpublished]
        needed += [each.needed for queue in self.unseen.values() for each in queue]
        offset = self.state.committable(now, [*needed, *self.blocks.needed()])
        if offset > self.acknowledged:
            self.acknowledged = self.told = offset
            self.tell(offset)
