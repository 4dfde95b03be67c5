"""What `ayaflow rewindow` was asked for and how far that is; and giving up what was begun and is no longer wanted."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.errors import QueryError, SettingsError
from common.settings import ClickHouseSettings
from common.times import iso
from streams.store.rewindow import Job, RewindowStore


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
        if job.state == "swapping":  # flows may have some of its days already, and hold another
            raise QueryError(
                f"{id_} is taking the place of windows of flows, which cannot be left half done: give its command "
                "again, and it goes on and ends"
            )
        if not job.finished:
            store.save(replace(job, state="failed", error="given up"))
        store.drop_shadow(job)
        tell(
            f"given up: {job.shadow} is gone" if not job.finished else f"{id_} was {job.state}; nothing of it was left"
        )


def _store(settings: ClickHouseSettings) -> RewindowStore:
    if settings.cluster:
        raise SettingsError("ayaflow rewindow works on one ClickHouse server; clickhouse.cluster is set")
    return RewindowStore(settings)


def _about(store: RewindowStore, job: Job, size: int) -> Begun:
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
