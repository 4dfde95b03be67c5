"""Which table answers for which part of a time range: the smallest that is exact. Pure.

A range is cut at whole days and hours, or minutes, as far as there are tables with what is asked: what is left at its
ends is read from finer ones, at last from flows. A rollup's row holds the windows that start in its period, so the sum
over the parts is the sum over all windows that start in the range, whatever table they come from.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import BY_TIME, ROLLUPS, SMALLEST

Tables = Mapping[int, str]
"""Seconds of a period and its table, the coarsest first; 0: windows as they are."""
RAW: dict[int, str] = {0: "flows"}
BY_ENDS: Tables = {seconds: table for table, seconds in reversed(BY_TIME.items())} | RAW
"""For questions about both ends of flows, and not about where they were seen."""
BY_SERVICE: Tables = {ROLLUPS["services_1m"].seconds: "services_1m"} | RAW
"""For those about neither."""
BY_HOST: Tables = {ROLLUPS["hosts_1h"].seconds: "hosts_1h"} | RAW
"""For those about one end."""
FIRST_RAW = f"""
SELECT greatest(
    (SELECT toUnixTimestamp(max(day)) + 86400 FROM ({dropped.SHORTENED})),
    if((SELECT min(time) FROM {SMALLEST}) < (SELECT toStartOfHour(min(window_begin)) FROM flows),
       (SELECT if(count() = 0, toUnixTimestamp(now()), toUnixTimestamp(min(window_begin))) FROM flows), 0)
) AS first
"""  # noqa: S608  constants
"""Seconds since the Unix epoch from when on flows has what the rollups have: more may be gone than a retention says."""
_ENDS = {"src_addr", "dst_addr"}
_COARSEST = ("flows_1d", "hosts_1h", "flows_1h", "services_1m", "flows")
_ROUNDED = 3_600
"""The longest period that is taken whole where the raw windows are gone."""


def tables(columns: Collection[str], *, raw: bool, one_end: bool) -> Tables:
    """The tables that have these columns of flows.

    `raw`: something is asked that only flows has. `one_end`: each flow is asked for at one end, or at each of its ends,
    and no condition is about the other end.
    """
    if raw:
        return RAW
    if _ENDS.isdisjoint(columns):
        return BY_SERVICE
    if one_end and {*columns} - _ENDS <= {*ROLLUPS["hosts_1h"].keys}:
        return BY_HOST
    return {seconds: table for seconds, table in BY_ENDS.items() if not seconds or {*columns} <= {*ROLLUPS[table].keys}}


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
        return next(table for table in _COARSEST if table in used)


def plan(
    since: datetime, until: datetime, chosen: Tables = BY_ENDS, *, step: int = 0, oldest_raw: datetime | None = None
) -> Plan:
    """Cut [since, until).

    `step`: periods must lie within steps of so many seconds, counted from the Unix epoch; 0: any. `oldest_raw`: windows
    that started before it are gone; what the rollups still hold of the periods of the ends is then taken whole.
    """
    first, last = int(since.timestamp()), -int(-until.timestamp() // 1)
    fitting = {period: table for period, table in chosen.items() if step % max(period, 1) == 0}
    if max(fitting) and oldest_raw is not None and since < oldest_raw:
        period = min(max(fitting), _ROUNDED)
        first = first // period * period
        if until < oldest_raw:
            last = -(-last // period) * period
    parts = _cut(first, last, list(fitting.items()))
    return Plan(segments=tuple(parts), since=first, until=last)


def _cut(first: int, last: int, chosen: list[tuple[int, str]]) -> list[Segment]:
    if first >= last:
        return []
    (period, table), *finer = chosen
    if not period:
        return [Segment(table=table, first=first, last=last)]
    begin, end = -(-first // period) * period, last // period * period
    if begin >= end:
        return _cut(first, last, finer)
    return [*_cut(first, begin, finer), Segment(table=table, first=begin, last=end), *_cut(end, last, finer)]


def oldest_raw(now: datetime, retention_days: int, first: int = 0) -> datetime:
    """From when on the raw windows are complete; a day of margin for the TTL, which works by the day.

    `first`: what FIRST_RAW answers.
    """
    return max(now.astimezone(UTC) - timedelta(days=retention_days - 1), datetime.fromtimestamp(first, UTC))
