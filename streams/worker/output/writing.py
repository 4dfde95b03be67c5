"""A partition's way into ClickHouse: its due windows one after the other, losses, the ledger, then the acknowledgement.

A failed insert is tried again for ever; a window that is refused is set aside (streams.worker.output.refusals).
Publishing (streams.worker.output.publishing) goes on beside it.
"""

from collections import Counter
from dataclasses import replace
from functools import partial

from common import logs
from schemas.flows import Loss
from streams.metrics import Metrics
from streams.partition.ledger import EpochId, figures, to_write
from streams.partition.storing import Outcome, Refused, WindowJob, catch_up, store_window
from streams.worker.clock import Clock
from streams.worker.lane import Lane
from streams.worker.neighbours import FlowStore, Publisher
from streams.worker.output.operating import Operating
from streams.worker.output.publishing import Publishing
from streams.worker.output.refusals import Refusals, or_refused
from streams.worker.retrying import CLICKHOUSE, Retrying

log = logs.get("streams")


class Writing:
    """Stores what a lane has to store. Raises Released when the partition goes meanwhile."""

    def __init__(
        self,
        store: FlowStore,
        publisher: Publisher,
        metrics: Metrics,
        again: Retrying,
        clock: Clock,
        *,
        publish_flows: bool,
        operating: Operating,
    ) -> None:
        self._store, self._metrics, self._again, self._clock = store, metrics, again, clock
        self.publishing = Publishing(store, publisher, metrics, again, clock, wanted=publish_flows)
        self._followers = (self.publishing.send, operating.show)
        self._refusals = Refusals(store, self._followers, metrics, again, clock)
        self.rows_stored = 0
        self.last_insert: float | None = None  # on the clock

    async def once(self, lane: Lane) -> None:
        """Everything that is due now."""
        await self._write_losses(lane)  # before what makes the table say that we were further
        await self._compact(lane)
        for job in lane.state.due(self._clock.time()):
            if lane.closing.is_set():
                return
            await self._write(lane, job)
        await self._refusals.bring_in(lane)
        await self._write_ledger(lane)
        lane.acknowledge(self._clock.time())

    async def bring_in(self, lane: Lane) -> None:
        """Of a partition of which nothing came yet, what is set aside."""
        await self._refusals.bring_in(lane)

    def leave(self, lane: Lane) -> None:
        """The lane is closed."""
        self._refusals.leave(lane)

    async def _compact(self, lane: Lane) -> None:
        for window in lane.state.windows.compactable():
            job = lane.state.begin(window)
            if job is not None:  # compacted rows cannot be divided: first leave out what is stored already
                outcome = await self._again.insist(
                    CLICKHOUSE, lane.at(window), lane.closing, partial(catch_up, job, self._store)
                )
                self._follow(lane, job, outcome)
                lane.state.stored(job, outcome.known)
                lane.state.windows.compact(window)

    async def _write(self, lane: Lane, job: WindowJob) -> None:
        tries = 0

        def attempt() -> Outcome:
            nonlocal tries
            tries += 1
            return store_window(job if tries == 1 else replace(job, known=None), self._store)

        begun = self._clock.monotonic()
        found = await self._again.insist(CLICKHOUSE, lane.at(job.window), lane.closing, partial(or_refused, attempt))
        self._metrics.insert_seconds.observe(self._clock.monotonic() - begun)
        outcome = await self._refusals.refused(lane, job, found) if isinstance(found, Refused) else found
        if outcome.expired:
            self._metrics.expired_rows.inc(outcome.expired)
            log.warning(
                "rows are older than clickhouse.flows_retention_days and were not kept",
                rows=outcome.expired,
                window_begin=job.window.start,
            )
        if outcome.rows:
            self._metrics.rows_stored.inc(outcome.rows)
            self._metrics.stored_packets.inc(outcome.packets)
            self._metrics.windows_stored.inc()
            if outcome.known.revision > 1:
                self._metrics.corrections.inc()
            self.rows_stored += outcome.rows
            self.last_insert = self._clock.time()
        self._follow(lane, job, outcome)
        lane.state.stored(job, outcome.known)
        log.debug(
            "stored",
            partition=job.partition.number,
            window_begin=job.window.start,
            rows=outcome.rows,
            revision=outcome.known.revision - 1,
            offset_end=outcome.known.offset_end,
        )

    def _follow(self, lane: Lane, job: WindowJob, outcome: Outcome) -> None:
        for revision, flows in outcome.publish:
            for follow in self._followers:
                follow(lane, job.partition, job.window, revision, flows, needed=job.pieces[0].first_offset)

    async def _write_losses(self, lane: Lane) -> None:
        losses = lane.state.losses.waiting()
        if not losses:
            return

        def store() -> list[Loss]:
            self._store.insert_losses(losses, lane.state.source)
            return losses

        if await self._refusals.insist(lane, "losses", store):
            lane.state.losses.written(losses)

    async def _write_ledger(self, lane: Lane) -> None:
        epochs = lane.state.closed_epochs(self._clock.time())
        if not epochs:
            return

        def store() -> tuple[int, Counter[str]]:
            # What is there was written before a restart, from all of the epoch's packets; we may know only the rest
            stored = self._store.stored_epochs([epoch.name for epoch in epochs])
            rows = [row for epoch in epochs for row in to_write(epoch.rows, stored.get(epoch.name))]
            if rows:
                self._store.insert_ledger(rows)
            replaced = {EpochId(row.node, row.ring_id, row.counters.epoch) for row in rows} & stored.keys()
            # here: of many it takes longer than the loop may stand
            return len(rows), figures(rows) - figures(row for name in replaced for row in stored[name])

        written = await self._refusals.insist(lane, "ledger", store)
        if written is None:
            return
        count, sums = written
        self._metrics.ledger_rows.inc(count)
        for figure, counter in self._metrics.ledger_packets.items():
            counter.inc(sums[figure])
        if sums["missing"] or sums["surplus"] or sums["unclosed"]:
            wrong = {name: sums[name] for name in ("missing", "surplus", "unclosed")}
            log.warning("ledger differs", partition=lane.state.number, epochs=len(epochs), **wrong)
        lane.state.epochs_stored(epochs, self._clock.time())
