"""A partition as the worker holds it: what is known of it, and its messages that are not acknowledged."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from streams.partition.state import Partition
from streams.partition.storing import WindowId
from streams.worker.neighbours import Acknowledge
from streams.worker.troubles import Place


@dataclass(slots=True, eq=False)
class Lane:
    """A partition, the task that writes what is due, and the messages that are not acknowledged."""

    state: Partition
    messages: deque[tuple[int, Acknowledge]] = field(default_factory=deque)  # by offset
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # it is no longer ours
    task: asyncio.Task[None] | None = None

    def at(self, window: WindowId | None = None) -> Place:
        """The partition, or a window of it, as a place where something may go wrong."""
        return Place(self.state.number, window.start if window else None)

    def acknowledge(self, now: float) -> None:
        """The messages of which everything is stored."""
        offset = self.state.committable(now)
        while self.messages and self.messages[0][0] < offset:
            self.messages.popleft()[1]()
