"""What `ayaflow rewindow` was asked for and how far that is; and giving up what was begun and is no longer wanted."""

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.errors import QueryError, SettingsError
from common.settings import ClickHouseSettings
from common.times import iso
from streams.rewindow.swap import Swap
from streams.store.rewindow.making import FINISHED, Job
from streams.store.rewindow.swapping import SwapStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A request, for people and machines; times as ISO 8601 writes them."""

    id: str
    state: str  # making, swapping, swapped, kept, failed
    changed: str  # when it came to this state
    window_from: str
    window_until: str
    window_seconds: int
    filter: str
    into: str  # the table that it is kept in; empty: flows
    messages_read: int  # while it is made, as of the last checkpoint
    messages: int
    bytes: int  # on disk, of the tables in which it is made
    error: str

    @property
    def command(self) -> str:
        """What goes on with it, and ends it."""
        words = f"ayaflow rewindow --from {self.window_from} --to {self.window_until} --window {self.window_seconds}s"
        words += f" --filter {shlex.quote(self.filter)}" if self.filter else ""
        return words + (f" --into {self.into}" if self.into else "")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in FINISHED


def begun(settings: ClickHouseSettings) -> list[Begun]:
    """All requests that are remembered, the oldest first. Raises ServiceUnavailable."""
    with contextlib.closing(_store(settings)) as store:
        sizes = store.table_bytes()
        return [_about(store, job, sum(sizes.get(table, 0) for table in job.tables)) for job in store.jobs()]


def give_up(settings: ClickHouseSettings, id_: str, *, tell: Callable[[str], None]) -> None:
    """Drop what a request made, and forget how far it was. Raises QueryError when that cannot be."""
    with contextlib.closing(_store(settings)) as store:
        job = next((job for job in store.jobs(id_) if job.id == id_), None)
        if job is None:
            raise QueryError(f"there is no rewindow {id_!r}; `ayaflow rewindows` lists them")
        if job.state == "swapping":
            tell(_swap_given_up(Swap(store, job, tell).give_up("given up")))
        elif not job.finished and job.into in store.tables():  # it was killed before it could say so
            store.drop_shadow(job)
            store.save(replace(job, state="kept"))
            tell(f"{id_} had ended: what it made is kept in {job.into} (to drop it: DROP TABLE {job.into})")
        else:
            if not job.finished:
                store.save(replace(job, state="failed", error="given up"))
            store.drop_shadow(job)
            tell(
                f"given up: {job.shadow} is gone"
                if not job.finished
                else f"{id_} was {job.state}; nothing of it was left"
            )


def _swap_given_up(job: Job) -> str:
    if job.state == "swapped":
        return f"{job.id} had ended: its windows are in flows, and in its rollups"
    return f"{job.error}; {job.shadow} is gone"


def _store(settings: ClickHouseSettings) -> SwapStore:
    if settings.cluster:
        raise SettingsError("ayaflow rewindow works on one ClickHouse server; clickhouse.cluster is set")
    return SwapStore(settings)


def _about(store: SwapStore, job: Job, size: int) -> Begun:
    messages = sum(end - begin for begin, end in job.offsets.values())
    reached = store.reached(job) if job.state == "making" else {}
    read = sum(
        max(0, reached[number][0].offset_end - begin) for number, (begin, _) in job.offsets.items() if number in reached
    )
    return Begun(
        id=job.id,
        state=job.state,
        changed=iso(job.changed),
        window_from=iso(job.span.begin),
        window_until=iso(job.span.until),
        window_seconds=job.window_seconds,
        filter=job.filter,
        into=job.into,
        messages_read=read if job.state == "making" else messages,
        messages=messages,
        bytes=size,
        error=job.error,
    )
