"""`ayaflow audit --rollups`: that each rollup is what flows is, for every measure that it carries, day by day.

Both sides are brought to rows that stand once, and compared by their number and a sum of hashes of all their columns:
so a value in the wrong row is found, too, and nothing is held but the sums of one side of one day. What differs is
then asked about measure by measure.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TextIO

from common.settings import ClickHouseSettings
from console.audit.read import Range
from console.store.client import Store
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS, SMALLEST, SUMS

GRACE_SECONDS = 120
"""A period that ended so long ago is in the tables, if nothing comes late."""
LOOKS = 3
"""So often a difference is looked at before it is believed: flows and its rollups are filled one after the other."""
_PAUSE_SECONDS = 1.0
_DAY = 86_400
_MOST_BYTES = 1 << 30  # of sums in memory; more goes to disk

DAYS = f"""
SELECT DISTINCT toString(day) AS day FROM (
    SELECT DISTINCT toDate(window_begin) AS day FROM flows
    WHERE window_begin >= toDateTime({{from:UInt32}}, 'UTC') AND window_begin < toDateTime({{to:UInt32}}, 'UTC')
      AND {dropped.comparable("window_begin")}
    UNION ALL
    SELECT DISTINCT toDate(time) AS day FROM {SMALLEST}
    WHERE time >= toDateTime({{from:UInt32}}, 'UTC') AND time < toDateTime({{to:UInt32}}, 'UTC')
      AND {dropped.comparable("time")}
)
ORDER BY day
"""  # noqa: S608  constants
"""Also those that somebody dropped from flows alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupDay:
    """One day of one rollup."""

    table: str
    day: date
    until: int  # seconds since the Unix epoch: periods that begin before were compared
    rows: int  # that it should have
    wrong: dict[str, int]  # measure -> rows in which it is not what flows says; empty: all is equal


def check(
    store: Store,
    span: Range,
    *,
    retention_days: int,
    now: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[RollupDay]:
    """Compare all days that are there in a range, whole days and periods that are over."""
    kept = (int(now()) - retention_days * _DAY) // _DAY * _DAY + 2 * _DAY  # rows of days before may be gone already
    first = max(int(span.since.timestamp()) // _DAY * _DAY, kept)
    last = min(int(span.until.timestamp()), int(now()) + _DAY)
    for row in store.select(DAYS, {"from": first, "to": last}):
        day = date.fromisoformat(row["day"])
        for table, rollup in ROLLUPS.items():
            begin = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            over = int(now() - GRACE_SECONDS) // rollup.seconds * rollup.seconds
            until = min(begin + _DAY, over)
            if until > begin:
                yield _day(store, table, day, (begin, until), pause)


def _day(store: Store, table: str, day: date, between: tuple[int, int], pause: Callable[[float], None]) -> RollupDay:
    until, where = between[1], {"from": between[0], "to": between[1]}
    for look in range(LOOKS):
        made, stored = (store.select(sql, where)[0] for sql in sums(table))
        if (made["rows"], made["hash"]) == (stored["rows"], stored["hash"]):
            return RollupDay(table=table, day=day, until=until, rows=int(made["rows"]), wrong={})
        if look < LOOKS - 1:
            pause(_PAUSE_SECONDS)
    told = store.select(differences(table), where)[0]
    wrong = {name: int(told[name]) for name in (*SUMS, *ROLLUPS[table].others) if int(told[name])}
    return RollupDay(table=table, day=day, until=until, rows=int(made["rows"]), wrong=wrong or {"rows": 1})


def _sides(table: str) -> tuple[str, str]:
    """SQL of the rows as flows has them and as the table has them, in [from, to)."""

    def between(column: str) -> str:
        return f"{column} >= toDateTime({{from:UInt32}}, 'UTC') AND {column} < toDateTime({{to:UInt32}}, 'UTC')"

    about = ROLLUPS[table]
    return about.made(between("t.window_begin")), about.stored(table, between("t.time"))


def sums(table: str) -> tuple[str, str]:
    """The two sides, each as one row: how many rows, and the sum of their hashes."""
    columns = ", ".join(("time", *ROLLUPS[table].columns))
    made, stored = _sides(table)

    def question(side: str) -> str:
        return (
            f"SELECT count() AS rows, toString(sum(cityHash64({columns}))) AS hash FROM ({side}) "  # noqa: S608  constants
            f"SETTINGS max_bytes_before_external_group_by = {_MOST_BYTES}"
        )

    return question(made), question(stored)


def differences(table: str) -> str:
    """One row: for each measure, in how many rows the two sides differ."""
    about = ROLLUPS[table]
    measures = (*SUMS, *about.others)
    made, stored = _sides(table)
    keys = ", ".join(("time", *about.keys))
    both = ", ".join(f"maxIf(s.{name}, s.made) != maxIf(s.{name}, NOT s.made) AS {name}" for name in measures)
    totals = ", ".join(f"countIf(d.{name}) AS {name}" for name in measures)
    return (
        f"SELECT {totals} FROM (SELECT {both} FROM (SELECT *, true AS made FROM ({made}) "  # noqa: S608  constants
        f"UNION ALL SELECT *, false AS made FROM ({stored})) AS s GROUP BY {keys}) AS d "
        f"SETTINGS max_bytes_before_external_group_by = {_MOST_BYTES}"
    )


def run(settings: ClickHouseSettings, span: Range, *, form: str, out: TextIO) -> int:
    """Compare and print, a line a day and rollup in JSON, a line a day else; 1 when something differs."""
    differs, seen = False, False
    with Store(settings) as store:
        chosen = span.behind_shorter_retention(store)
        for day, found in _by_day(check(store, chosen, retention_days=settings.flows_retention_days)):
            seen = True
            differs |= any(each.wrong for each in found)
            if form == "json":
                out.writelines(json.dumps(_json(each)) + "\n" for each in found)
            else:
                out.write(_line(day, found) + "\n")
            out.flush()
    if form != "json":
        out.write(_end(differs=differs, seen=seen) + "\n")
    return 1 if differs or not seen else 0


def _by_day(days: Iterator[RollupDay]) -> Iterator[tuple[date, list[RollupDay]]]:
    current: list[RollupDay] = []
    for each in days:
        if current and current[0].day != each.day:
            yield current[0].day, current
            current = []
        current.append(each)
    if current:
        yield current[0].day, current


def _line(day: date, found: list[RollupDay]) -> str:
    wrong = [each for each in found if each.wrong]
    rows = ", ".join(f"{each.table} {each.rows:,}" for each in found)
    if not wrong:
        return f"{day}  equal in every row and measure ({rows} rows)"
    said = "; ".join(
        f"{each.table} differs in " + ", ".join(f"{name} of {count:,} rows" for name, count in each.wrong.items())
        for each in wrong
    )
    return f"{day}  {said}. Make it anew: ayaflow repair --from {day} --to {day + timedelta(days=1)}"


def _end(*, differs: bool, seen: bool) -> str:
    if not seen:
        return "flows has no rows in this range: nothing was compared"
    return "some rollups are not what flows is" if differs else "all rollups are what flows is"


def _json(each: RollupDay) -> dict[str, Any]:
    return {
        "table": each.table,
        "day": each.day.isoformat(),
        "until": datetime.fromtimestamp(each.until, UTC).isoformat().replace("+00:00", "Z"),
        "rows": each.rows,
        "equal": not each.wrong,
        "wrong": each.wrong,
    }
