"""Days of flows that are held still, and their rollups made anew, over HTTP (clickhouse-connect). Blocking.

A day is held by a constraint of flows: the server itself refuses rows of it, and streams sets such windows aside in
`refused` and brings them in when it is let go. So nothing is lost, and nothing can come between two statements.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

from common.errors import QueryError, ServiceUnavailable, SettingsError
from common.settings import ClickHouseSettings
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS
from streams.store import rollups
from streams.store.connection import Connection

WRITTEN_SECONDS = 300
"""So long after its end a day may still be written by everybody; what comes later is late."""
_INSERT_SECONDS = 150.0  # longer than an insert may take
_PAUSE_SECONDS = 0.2


def day_of(second: int) -> date:
    """The day, in UTC."""
    return datetime.fromtimestamp(second, UTC).date()


def days(begin: int, until: int) -> list[date]:
    """The days that [begin, until) touches, seconds since the Unix epoch."""
    return [day_of(second) for second in range(begin // 86_400 * 86_400, until, 86_400)]


def begin_of(day: date) -> int:
    """Its first second."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


class Days:
    """Holds days of flows. Methods raise ServiceUnavailable when ClickHouse cannot do its work now."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.time) -> None:
        self._connection, self._clock = connection, clock

    def is_written(self, day: date) -> bool:
        """Whether everybody may still write to it."""
        return self._clock() < begin_of(day) + 86_400 + WRITTEN_SECONDS

    def hold(self, day: date) -> None:
        """From now on no rows of a day go into flows, and none are on their way."""
        check = f"toDate(window_begin) != toDate('{day.isoformat()}')"
        self._connection.command(f"ALTER TABLE flows ADD CONSTRAINT IF NOT EXISTS {_name(day)} CHECK {check}")
        # asked behind the constraint, which whoever lets a day go for want of room asks for behind its row of dropped
        if day in self._connection.query(dropped.GOING, lambda rows: {row[0] for row in rows}):
            self.let_go(day)
            raise ServiceUnavailable(f"{day} is just going for want of room; run the command again")
        held = time.monotonic()
        while self._inserting(time.monotonic() - held):
            if time.monotonic() > held + _INSERT_SECONDS:
                raise ServiceUnavailable(
                    "an insert into ClickHouse does not end, and may be one of rows that are to be replaced; see "
                    "system.processes, and run the command again"
                )
            time.sleep(_PAUSE_SECONDS)

    def _inserting(self, seconds: float) -> bool:
        """Whether inserts run that began so long ago: before the constraint was there, of which they may not know."""
        return self._connection.query(
            "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND query ILIKE '%flows%' "
            "AND elapsed >= {seconds:Float64}",
            lambda rows: int(rows[0][0]) > 0,
            seconds=seconds,
        )

    def let_go(self, day: date) -> None:
        """Rows of the day go into flows again."""
        self._connection.command(f"ALTER TABLE flows DROP CONSTRAINT IF EXISTS {_name(day)}")

    def held(self, table: str = "flows") -> list[date]:
        """The days that are held, of a table that may have been made like flows."""
        return self._connection.query(
            "SELECT arrayJoin(extractAll(create_table_query, 'CONSTRAINT `?hold_(\\\\d{8})')) FROM system.tables "
            "WHERE database = currentDatabase() AND name = {name:String}",
            lambda rows: [datetime.strptime(row[0], "%Y%m%d").replace(tzinfo=UTC).date() for row in rows],
            name=table,
        )

    def free(self, table: str) -> None:
        """A table that was made like flows takes all rows."""
        for day in self.held(table):
            self._connection.command(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {_name(day)}")

    def rebuild(self, day: date) -> None:
        """Make the rollups of a day that is held anew."""
        there = self.rows(day) > 0
        for rollup in ROLLUPS:
            for statement, needs_rows in rollups.rebuild(rollup, day.isoformat()):
                if there or not needs_rows:
                    self._connection.command(statement)

    def rows(self, day: date) -> int:
        """How many flows has of a day."""
        return self._connection.query(
            "SELECT count() FROM flows WHERE window_begin >= toDateTime({begin:UInt32}, 'UTC') "
            "AND window_begin < toDateTime({begin:UInt32} + 86400, 'UTC')",
            lambda rows: int(rows[0][0]),
            begin=begin_of(day),
        )


@contextlib.contextmanager
def holding(days_: Days, day: date) -> Iterator[None]:
    """Hold a day, and let it go whatever happens, but for a kill: whoever repairs it again lets it go then."""
    days_.hold(day)
    try:
        yield
    finally:
        days_.let_go(day)


def run(settings: ClickHouseSettings, begin: int, until: int, *, tell: Callable[[str], None]) -> int:
    """Make the rollups of all days that [begin, until) touches anew from flows -> how many.

    Raises QueryError, before anything is done, for days of which that cannot be done.
    """
    if settings.cluster:
        raise SettingsError("ayaflow repair works on one ClickHouse server; clickhouse.cluster is set")
    connection, retention_days = Connection(settings, None), settings.flows_retention_days
    with contextlib.closing(connection):
        return _repair(connection, days(begin, until), retention_days, tell)


def _repair(connection: Connection, chosen: list[date], retention_days: int, tell: Callable[[str], None]) -> int:
    held = Days(connection)
    oldest = day_of(int(time.time()) - retention_days * 86_400)
    gone = connection.query(dropped.OF_FLOWS, lambda rows: {row[0] for row in rows})
    for day in chosen:
        if held.is_written(day):
            raise QueryError(f"{day} is still being written: repair days that ended five minutes ago, with --to {day}")
        if day in gone:
            raise QueryError(
                f"{day} of flows went for want of room (see the table dropped); its rollups stay as they are"
            )
        if day <= oldest:
            raise QueryError(
                f"the raw windows of {day} are removed, or about to be (clickhouse.flows_retention_days: "
                f"{retention_days}); its rollups stay as they are. Repair from {day_of(begin_of(oldest) + 86_400)} on"
            )
    repaired = 0
    for day in chosen:
        if not held.rows(day):
            tell(f"{day}: flows has no rows; its rollups stay as they are")
            held.let_go(day)
            continue
        with holding(held, day):
            held.rebuild(day)
        repaired += 1
        tell(f"{day}: {', '.join(ROLLUPS)} are what flows is")
    return repaired


def _name(day: date) -> str:
    return f"hold_{day:%Y%m%d}"
