"""Which table answers for which part of a time range: the coarsest that is exact. Pure.

A range is cut at whole days, hours and minutes: whole days are read from flows_1d, whole hours beside them from
flows_1h, whole minutes from flows_1m, and what is left at its ends from flows. A rollup's row holds the windows that
start in its period, so the sum over the parts is the sum over all windows that start in the range, whatever table they
come from.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.clickhouse.rollups import BY_TIME

TABLES = {seconds: table for table, seconds in reversed(BY_TIME.items())} | {0: "flows"}
"""Seconds of a period and its table, the coarsest first; 0: windows as they are."""
_ROUNDED = 3_600
"""The longest period that is taken whole where the raw windows are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the range, read from one table."""

    table: str
    first: int  # seconds since the Unix epoch
    last: int  # exclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The segments of a range in the order of time; never none."""

    segments: tuple[Segment, ...]
    since: int  # seconds since the Unix epoch
    until: int  # exclusive

    @property
    def coarsest(self) -> str:
        """The coarsest table that is read."""
        used = {segment.table for segment in self.segments}
        return next(table for table in TABLES.values() if table in used)


def plan(since: datetime, until: datetime, *, raw: bool, step: int = 0, oldest_raw: datetime | None = None) -> Plan:
    """Cut [since, until).

    `raw`: something is asked that only flows has. `step`: periods must lie within steps of so many seconds, counted
    from the Unix epoch; 0: any. `oldest_raw`: windows that started before it are gone; what the rollups still hold
    of the period that `since` lies in is then taken whole.
    """
    first, last = int(since.timestamp()), -int(-until.timestamp() // 1)
    periods = [period for period in TABLES if period and not raw and step % period == 0]
    if periods and oldest_raw is not None and since < oldest_raw:
        period = min(periods[0], _ROUNDED)
        first = first // period * period
    parts = _cut(first, last, periods)
    return Plan(segments=tuple(parts), since=first, until=last)


def _cut(first: int, last: int, periods: list[int]) -> list[Segment]:
    if first >= last:
        return []
    if not periods:
        return [Segment(table=TABLES[0], first=first, last=last)]
    period = periods[0]
    begin, end = -(-first // period) * period, last // period * period
    if begin >= end:
        return _cut(first, last, periods[1:])
    middle = [Segment(table=TABLES[period], first=begin, last=end)]
    return _cut(first, begin, periods[1:]) + middle + _cut(end, last, periods[1:])


def oldest_raw(now: datetime, retention_days: int) -> datetime:
    """From when on the raw windows are complete; a day of margin for the TTL, which works by the day."""
    return now.astimezone(UTC) - timedelta(days=retention_days - 1)
