"""Windows that were made again take the place of those in flows, day by day. Blocking.

A day is replaced, and its rollups are made anew, while it is held: so each day is the one or the other as a whole. What
was cut short is ended, or given up, from wherever it was.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date

from common.errors import AyaflowError
from common.times import iso
from streams.partition.again import Span
from streams.store.repair import begin_of, days, holding
from streams.store.rewindow.making import Differs, Job
from streams.store.rewindow.swapping import SwapStore

_MOST_NAMED = 3


class Swap:
    """Of one job. Methods raise ServiceUnavailable when ClickHouse cannot do its work now."""

    def __init__(self, store: SwapStore, job: Job, tell: Callable[[str], None]) -> None:
        self._store, self._job, self._tell = store, job, tell
        self._days = days(*job.span)
        self._owners = f"rewindow_{job.id}_"
        self._owner = f"{self._owners}{uuid.uuid4().hex[:8]}"

    def run(self) -> Job:
        """All that is left to do. Raises AyaflowError where these are no longer the windows of flows."""
        left = [day for day in self._days if day not in self._job.days_done]
        if left and self._job.shadow not in self._store.tables():
            self.give_up("its table was gone")
            raise AyaflowError(f"the table {self._job.shadow} is gone. {self._kept()}: give the command again")
        for day in left:
            self._swap(day)
        return self._end()

    def give_up(self, why: str) -> Job:
        """Leave each day as it is, with its rollups, and forget the rest. What is done as a whole is only ended."""
        for day in self._days:
            part = self._part(day)
            if day not in self._job.days_done and self._store.claimed(self._job, part):
                with self._held(day) as hold:
                    self._store.days.rebuild(day, hold)  # it may have been replaced
                    if self._store.replaced(self._job, part):
                        self._done(day)
        if set(self._days) <= set(self._job.days_done):
            return self._end()
        self._let_go()
        self._job = self._store.save(replace(self._job, state="failed", error=f"{why}. {self._kept()}"))
        self._store.drop_shadow(self._job)
        return self._job

    def _swap(self, day: date) -> None:
        store, part, claimed = self._store, self._part(day), False
        hold = store.days.hold(day, self._owner, self._owners, patient=True)
        try:
            if differs := store.against_flows(self._job, part):
                self._differs(day, differs)
            claimed = store.claimed(self._job, part)
            if not claimed:
                store.claim(self._job, part)
                claimed = True
            store.replace_day(self._job, day, hold)
            store.days.rebuild(day, hold)
            self._done(day)
        except AyaflowError:
            if claimed:
                self._tell(
                    f"{day} is held until the command is given again, or `ayaflow rewindows --give-up {self._job.id}`"
                )
            else:
                store.days.release(hold)
            raise
        store.days.release(hold)

    def _differs(self, day: date, differs: Sequence[Differs]) -> None:
        self.give_up(f"the windows of {day} were no longer those of flows")
        raise AyaflowError(
            f"what was windowed again is not what the table flows says: {described(differs)}. {self._kept()}. "
            "If packets of that time still come, or were lost (see `ayaflow audit`), ask for another range; else give "
            "the command again"
        )

    def _done(self, day: date) -> None:
        self._job = self._store.save(replace(self._job, days_done=(*self._job.days_done, day)))

    def _end(self) -> Job:
        self._let_go()
        self._store.drop_shadow(self._job)
        self._job = self._store.save(replace(self._job, state="swapped"))
        return self._job

    def _let_go(self) -> None:
        for day in self._days:
            self._store.days.let_go(day, self._owners)

    def _held(self, day: date) -> AbstractContextManager[str]:
        return holding(self._store.days, day, self._owner, self._owners, patient=True)

    def _part(self, day: date) -> Span:
        begin, span = begin_of(day), self._job.span
        return Span(max(span.begin, begin), min(span.until, begin + 86_400))

    def _kept(self) -> str:
        if not self._job.days_done:
            return "Nothing was changed"
        return f"flows has the new windows of {', '.join(map(str, self._job.days_done))}, and no others of them"


def described(differs: Sequence[Differs]) -> str:
    """What does not add up, in words."""
    places = "; ".join(
        f"{each.packets:+,} packets and {each.bytes:+,} bytes on {each.node} {each.interface} {each.direction} "
        f"from {iso(each.period)} on"
        for each in differs[:_MOST_NAMED]
    )
    return places + (f" (and {len(differs) - _MOST_NAMED} more)" if len(differs) > _MOST_NAMED else "")
