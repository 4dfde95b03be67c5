"""Stored windows on their way to the flows topic. Storing them does not wait for it; acknowledging does, for a while.

What waits is held in bounded memory; the rest is read back from the table when its turn comes. While the topic takes
nothing, offsets are not acknowledged, so that whoever has the partition next sends it. After PATIENCE_SECONDS the
messages of a window are given up: the table has its rows.
"""

import contextlib
from functools import partial

from common import logs
from common.errors import ServiceUnavailable
from common.logs import Limit
from schemas.flows import FlowColumns
from streams.metrics import Metrics
from streams.partition.storing import KafkaPartition, WindowId
from streams.worker.clock import Clock
from streams.worker.lane import Lane, held
from streams.worker.neighbours import FlowStore, Publisher
from streams.worker.retrying import CLICKHOUSE, FIRST_DELAY, FLOWS, LONGEST_DELAY, Retrying

log = logs.get("streams")

PATIENCE_SECONDS = 600.0
MOST_BYTES = 64 << 20  # of rows that wait, of all partitions
_TICK = 0.2  # seconds between two looks at what waits


class Publishing:
    """Sends what a lane has stored, in its order."""

    def __init__(
        self, store: FlowStore, publisher: Publisher, metrics: Metrics, again: Retrying, clock: Clock, *, wanted: bool
    ) -> None:
        """`wanted`: somebody reads the topic."""
        self._store, self._publisher, self._metrics = store, publisher, metrics
        self._again, self._clock, self._wanted = again, clock, wanted
        self._limit = Limit(clock.monotonic)
        self._nbytes = 0
        self.given_up = 0  # rows

    def send(
        self, lane: Lane, partition: KafkaPartition, window: WindowId, revision: int, flows: FlowColumns, *, needed: int
    ) -> None:
        """Send rows that are stored. `needed`: the first message that is not acknowledged until Kafka has them."""
        if not self._wanted:
            return
        waits = held(
            partition, window, revision, flows, needed=needed, since=self._clock.monotonic(),
            room=MOST_BYTES - self._nbytes,
        )  # fmt: skip
        self._nbytes += waits.nbytes
        lane.unpublished.append(waits)

    async def run(self, lane: Lane) -> None:
        """Until the lane is closing."""
        delay = FIRST_DELAY
        while not lane.closing.is_set():
            try:
                while lane.unpublished and not lane.closing.is_set():
                    await self._send_first(lane)
            except ServiceUnavailable as error:
                self._again.troubles.report(FLOWS, str(error), lane.at())
                self._give_up(lane)
                await self._clock.wait(lane.closing, delay)
                delay = min(2 * delay, LONGEST_DELAY)
            else:
                delay = FIRST_DELAY
                await self._clock.wait(lane.closing, _TICK)

    async def finish(self, lane: Lane) -> None:
        """The lane is closed: send what was stored last, where that works. Whoever comes next sends the rest."""
        with contextlib.suppress(ServiceUnavailable):
            while lane.unpublished and not self._again.troubles.of(FLOWS):
                await self._send_first(lane)

    def leave(self, lane: Lane) -> None:
        """The lane is gone."""
        self._again.troubles.report(FLOWS, None, lane.at())
        self._nbytes -= sum(each.nbytes for each in lane.unpublished)

    async def _send_first(self, lane: Lane) -> None:
        first, flows = lane.unpublished[0], lane.unpublished[0].flows
        if flows is None:
            read = partial(self._store.rows, first.partition, first.window, first.revision)
            flows = await self._again.once(CLICKHOUSE, read)
        await self._again.once(FLOWS, partial(self._publisher.flows, flows, first.partition, first.revision))
        self._again.troubles.report(FLOWS, None, lane.at())
        self._done(lane)

    def _give_up(self, lane: Lane) -> None:
        """What has waited for too long: or no offset would be acknowledged, and Kafka removes messages in the end."""
        while lane.unpublished and self._clock.monotonic() - lane.unpublished[0].since >= PATIENCE_SECONDS:
            first = lane.unpublished[0]
            self.given_up += first.rows
            self._metrics.unpublished_flows.inc(first.rows)
            if times := self._limit.due(lane.state.number):
                log.error(
                    "flow records were not published: the flows topic took nothing for too long; the table has them",
                    partition=lane.state.number,
                    window_begin=first.window.start,
                    rows=first.rows,
                    minutes=round(PATIENCE_SECONDS / 60, 1),
                    times=times,
                )
            self._done(lane)

    def _done(self, lane: Lane) -> None:
        self._nbytes -= lane.unpublished.popleft().nbytes
