"""Looks how much room there is, and lets the oldest days go before there is none.

One worker does it (streams.disk.turns). Should two believe so for a moment, they do the same thing, once.
"""

import math
import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Protocol

from common import logs
from streams.disk.plan import Day, Drop, Growth, Limits, Plan, Seen, Why, announcement, plan
from streams.metrics import Metrics

log = logs.get("streams")

_LOOK_SECONDS, _LEAST_SECONDS = 5.0, 0.5
_LOOKS = 4  # before there is no more room
_TAKES_SECONDS, _FORGETS = 1.0, 0.95  # what a day takes to go at least; how much of a longer one counts for the next
_MOST_AT_ONCE = 1000  # days of one look


class Disk(Protocol):
    """What streams.store.disk.ClickHouseDisk is; ServiceUnavailable says that the same may work later."""

    def seen(self) -> Seen:
        """What there is now."""

    def unfinished(self) -> list[Drop]:
        """Drops that were begun."""

    def go(self, what: Day, why: Why, ms: int) -> int:
        """Set its rows aside, count them, write that down and drop them -> rows. 0: they are held, or gone already."""

    def go_on(self, drop: Drop) -> int:
        """Likewise, with one that was begun."""

    def close(self) -> None:
        """Close the connection."""


class Keeper:
    """Keeps within the limits. Used from one thread; what it tells, from any."""

    def __init__(
        self,
        disk: Disk,
        limits: Limits,
        retention: Mapping[str, int],
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retention`: days by setting; `monotonic`: seconds of a clock that does not step."""
        self._monotonic = monotonic
        self._disk, self._limits, self._retention, self._metrics = disk, limits, retention, metrics
        self._growth = Growth()
        self._found: Plan | None = None
        self._last: str | None = None  # what went last
        self._takes = _TAKES_SECONDS  # seconds until a day is gone

    def look(self) -> None:
        """Once. Raises ServiceUnavailable."""
        for drop in self._disk.unfinished():
            self._gone(drop.table, drop.day, drop.why, self._disk.go_on(drop))
        for _ in range(_MOST_AT_ONCE):
            seen = self._disk.seen()
            began = self._monotonic()
            # what comes until the next look and a day that goes then, and once more for what is under way
            coming = 2 * (_LEAST_SECONDS + self._takes) * self._growth.rate_now
            found = self._found = plan(seen, self._limits, self._retention, coming=coming)
            self._growth.look(began, found.used)
            self._measure(found, seen)
            if found.why is None or found.next is None:
                break
            what = found.next
            rows = self._disk.go(what, found.why, time.time_ns() // 1_000_000)
            if not rows:  # it is held, or somebody else is at it
                break
            self._takes = max(_TAKES_SECONDS, self._monotonic() - began, _FORGETS * self._takes)
            self._growth.went(what.bytes)
            self._gone(what.table, what.day, found.why, rows)

    def pause(self) -> float:
        """Seconds until the next look: the nearer the end of the room, the sooner."""
        rate = self._growth.rate_now
        if self._found is None or self._found.left is None or not rate:
            return _LOOK_SECONDS
        return min(_LOOK_SECONDS, max(_LEAST_SECONDS, self._found.left / rate / _LOOKS))

    def _gone(self, table: str, day: date, why: Why, rows: int) -> None:
        if not rows:
            return
        self._metrics.dropped_partitions.labels(table, str(why)).inc()
        self._metrics.dropped_rows.labels(table).inc(rows)
        self._last = f"{day} of {table}"
        setting = {Why.CAP: "clickhouse.max_bytes", Why.DISK: "clickhouse.reserve_bytes"}[why]
        log.warning("a day was dropped", table=table, day=str(day), rows=rows, because_of=setting)

    def _measure(self, found: Plan, seen: Seen) -> None:
        metrics, seconds = self._metrics, self._seconds(found)
        metrics.stored_bytes.set(found.used)
        metrics.stored_bytes_limit.set(self._limits.cap or math.nan)
        metrics.disk_free_bytes.set(min((room.free for room in seen.rooms), default=math.nan))
        metrics.next_drop_seconds.set(math.nan if seconds is None else seconds)

    def _seconds(self, found: Plan) -> float | None:
        rate = self._growth.rate
        return None if found.left is None or not rate else max(found.left, 0) / rate

    def told(self) -> dict[str, Any] | None:
        """For /health; None: nothing is known yet."""
        found = self._found
        if found is None:
            return None
        seconds = self._seconds(found)
        return {
            "stored_bytes": found.used,
            "max_bytes": self._limits.cap or None,
            "left_bytes": found.left,
            "next_table": found.next.table if found.next else None,
            "next_day": str(found.next.day) if found.next else None,
            "next_seconds": None if seconds is None else round(seconds),
            "last_dropped": self._last,
        }

    @property
    def warnings(self) -> list[str]:
        """What is to be known before it happens, in sentences."""
        return [*announcement(self._found, self._limits, self._growth.rate)] if self._found else []

    def close(self) -> None:
        """Close the connection."""
        self._disk.close()
