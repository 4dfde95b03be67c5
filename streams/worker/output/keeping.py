"""Packets on their way into the table packets, where they are kept: block by block, beside the windows.

Acknowledging waits for them; a table that refuses them is tried again for ever, and meanwhile the partition takes no
more.
"""

from functools import partial

from streams.partition.storing import Refused
from streams.worker.clock import Clock
from streams.worker.lane import Lane
from streams.worker.neighbours import PacketTable
from streams.worker.output.refusals import or_refused
from streams.worker.retrying import KEPT, LONGEST_DELAY, Retrying

_TICK = 0.2  # seconds between two looks


class Keeping:
    """Stores the packets of lanes. Raises Released when the partition goes meanwhile."""

    def __init__(self, table: PacketTable | None, again: Retrying, clock: Clock) -> None:
        """`table` None: packets are not kept."""
        self._table, self._again, self._clock = table, again, clock

    @property
    def wanted(self) -> bool:
        """Whether they are kept."""
        return self._table is not None

    async def run(self, lane: Lane) -> None:
        """Until the lane is closing."""
        if self._table is None:
            return
        while not lane.closing.is_set():
            block = lane.blocks.ready()
            if block is None:
                await self._clock.wait(lane.closing, _TICK)
                continue
            work = partial(or_refused, partial(self._table.insert, block, lane.state.source))
            found = await self._again.insist(KEPT, lane.at(), lane.closing, work)
            if isinstance(found, Refused):
                self._again.troubles.report(KEPT, str(found), lane.at())
                await self._clock.wait(lane.closing, LONGEST_DELAY)
            else:
                lane.blocks.stored(block)
