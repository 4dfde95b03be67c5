"""Makes windows again: plans, reads, proves, keeps or swaps. What was begun and killed goes on where it was.

Blocking; one process and one partition of the topic at a time.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from common.errors import AyaflowError, DecodeError, QueryError, SettingsError
from common.settings import Settings
from schemas.avro.codec import Codec
from schemas.topics import TopicNames
from streams.kafka.log import PacketLog
from streams.partition.again import Again, Checkpoint
from streams.partition.storing import KafkaPartition
from streams.rewindow import plan
from streams.rewindow.plan import Wanted
from streams.rewindow.swap import Swap, described
from streams.store.repair import days
from streams.store.rewindow.making import Differs, Job
from streams.store.rewindow.swapping import SwapStore

TELL_SECONDS = 2.0

Tell = Callable[[str], None]


def run(settings: Settings, wanted: Wanted, *, tell: Tell) -> Job:
    """Do what is wanted, or the rest of it -> the job, which is kept or swapped. `tell`: sentences for people.

    Raises QueryError for what cannot be done, AyaflowError for what does not add up; then it begins anew when it is
    asked for again.
    """
    if settings.clickhouse.cluster:
        raise SettingsError("ayaflow rewindow works on one ClickHouse server; clickhouse.cluster is set")
    topic = TopicNames.of(settings.kafka.topic_prefix).packets
    with (
        contextlib.closing(SwapStore(settings.clickhouse)) as store,
        contextlib.closing(PacketLog(settings.kafka, topic, settings.streams.app_id)) as log,
        contextlib.closing(Codec(settings.schema_registry.url)) as codec,
    ):
        work = Rewindow(wanted, store, log, codec, tell)
        return work.run(retention_days=settings.clickhouse.flows_retention_days)


class Rewindow:
    """One request."""

    def __init__(self, wanted: Wanted, store: SwapStore, log: PacketLog, codec: Codec, tell: Tell) -> None:
        self._wanted, self._store, self._log, self._codec, self._tell = wanted, store, log, codec, tell
        self._told = 0.0

    def run(self, *, retention_days: int) -> Job:
        """All of it."""
        job = self._unfinished() or self._plan(retention_days)
        named = bool(job.into) and job.into in self._store.tables()  # by a run that was killed before it said so
        if job.state == "making" and not named:
            self._make(job)
            self._prove(job, self._store.against_ledger(job), "the ledger")
            rows, packets, size = self._store.totals(job.shadow, job.span)
            self._tell(f"{rows:,} rows with {packets:,} packets and {size:,} bytes, as the ledger says")
            if not job.into:
                job = self._store.save(replace(job, state="swapping"))
        if job.into:
            self._store.keep(job, self._wanted.where, self._wanted.parameters)
            job = self._store.save(replace(job, state="kept"))
            self._tell(f"kept in the table {job.into}")
            return job
        job = Swap(self._store, job, self._tell).run()
        self._tell("these windows are in flows now, and in its rollups")
        return job

    def _unfinished(self) -> Job | None:
        prefix = self._wanted.id_prefix(self._log.topic_id())
        unfinished = [each for each in self._store.jobs() if not each.finished]
        job = next((each for each in unfinished if each.id.startswith(prefix)), None)
        if job:
            self._tell(f"going on with what was begun ({job.shadow})")
        elif unfinished:
            self._tell(f"begun and not ended before: {len(unfinished)} (`ayaflow rewindows` lists them)")
        return job

    def _plan(self, retention_days: int) -> Job:
        wanted, store, now = self._wanted, self._store, time.time()
        plan.check(wanted, now=now, retention_days=retention_days, tables=store.tables())
        if gone := sorted(store.dropped() & set(days(*wanted.span))):
            raise QueryError(
                f"{gone[0]} went for want of room (see the table dropped): there is nothing to compare its new windows "
                "with"
            )
        if not wanted.into:
            for day in days(*wanted.span):
                if store.days.is_written(day):
                    raise QueryError(
                        f"{day} is still being written: its windows can be replaced five minutes after its end; "
                        "--into NAME keeps them beside"
                    )
        bucket = plan.bucket(wanted, store.lengths(wanted.span))
        topic_id = self._log.topic_id()
        if store.topics(wanted.span) - {topic_id, 0}:
            raise QueryError(
                f"flows has windows of this time from another topic {self._log.topic}, which was deleted since: its "
                "packets are gone, and cannot be windowed again"
            )
        ends, stored = self._log.ends(), store.stored(topic_id, wanted.span)
        first = {number: self._log.first(number, each.low) if each.low else None for number, each in ends.items()}
        first_ms = {number: message.stamp_ms if message else None for number, message in first.items()}
        if why := plan.earliest(wanted, ends=ends, first_ms=first_ms, stored=stored):
            raise QueryError(why)
        offsets = plan.offsets(
            wanted,
            ends=ends,
            warm=self._log.at((wanted.span.begin - plan.WARM_SECONDS) * 1000, ends),
            late=self._log.at((wanted.span.until + plan.LATE_SECONDS) * 1000, ends),
            stored=stored,
        )
        prefix = wanted.id_prefix(topic_id)
        before = store.jobs(prefix)
        for each in before:
            store.drop_shadow(each)  # of a run that was killed when all but this was done
        job = Job(
            id=f"{prefix}{len(before) + 1}",
            state="making",
            topic_id=topic_id,
            span=wanted.span,
            window_seconds=wanted.window_seconds,
            filter=wanted.filter,
            into=wanted.into,
            offsets=offsets,
            bucket_seconds=bucket,
        )
        return store.save(job)

    # making

    def _make(self, job: Job) -> None:
        self._store.make_shadow(job)
        reached = self._store.reached(job)
        messages = sum(end - begin for begin, end in job.offsets.values())
        before = 0
        for number, (begin, end) in sorted(job.offsets.items()):
            start, done = reached.get(number, (Checkpoint.at(begin), False))
            if not done and begin < end:
                self._make_partition(job, KafkaPartition(job.topic_id, number), start, before, messages)
            before += end - begin

    def _make_partition(self, job: Job, source: KafkaPartition, start: Checkpoint, before: int, messages: int) -> None:
        store = self._store
        begin, end = job.offsets[source.number]
        revisions, made = store.made(job, source, start)
        known = [*store.recall(source, job.span.begin), *made]
        again = Again(source, job.span, job.window_seconds, start, revisions=revisions, known=known)
        stamp_ms = 0
        for message in self._log.read(source.number, start.resume, end):
            stamp_ms = message.stamp_ms
            try:
                batch = self._codec.decode_packet_batch(message.value or b"")
            except DecodeError:
                again.skip(message.offset)
                continue
            flush = again.take(message.offset, batch, stamp_ms)
            if flush and flush.windows:
                store.insert(job, source, flush)
                store.checkpoint(job, source.number, again.checkpoint(flush.offset_end, stamp_ms), done=False)
            self._progress(before + message.offset - begin, messages)
        rest = again.rest(end)
        store.insert(job, source, rest)
        store.checkpoint(job, source.number, again.checkpoint(end, stamp_ms), done=True)

    def _progress(self, done: int, messages: int) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._tell(f"{done:,} of {messages:,} messages read ({100 * done / max(1, messages):.0f} %)")

    # proving

    def _prove(self, job: Job, differs: Sequence[Differs], what: str) -> None:
        """Give the job up where something does not add up. Raises AyaflowError."""
        if not differs:
            return
        self._give_up(
            job,
            f"what was windowed again is not what {what} says: {described(differs)}. "
            f"Nothing was changed. If packets of that time still come, or were lost (see `ayaflow audit`), ask for "
            "another range; else give the command again",
        )

    def _give_up(self, job: Job, error: str) -> None:
        self._store.save(replace(job, state="failed", error=error))
        self._store.drop_shadow(job)
        raise AyaflowError(error)
