"""Days of flows that are held still, and their rollups made anew, over HTTP (clickhouse-connect). Blocking.

A day is held by a constraint of flows: the server itself refuses rows of it, and streams sets such windows aside in
`refused` and brings them in when it is let go. So nothing is lost, and nothing can come between two statements.

People hold it as hold_YYYYMMDD, a worker of streams (streams.store.rollups.mending) as hold_YYYYMMDD_OWNER, where OWNER
is another each time. Each looks for the others behind its own constraint, so no two work at a day at once: a worker
makes way, people wait for it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

from common.errors import QueryError, ServiceUnavailable, SettingsError
from common.settings import ClickHouseSettings
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS
from streams.store.connection import Connection
from streams.store.rollups import sql

WRITTEN_SECONDS = 300
"""So long after its end a day may still be written by everybody; what comes later is late."""
_INSERT_SECONDS = 150.0  # longer than an insert may take, or a worker holds a day that was not killed
_PAUSE_SECONDS = 0.2


class HeldByOthers(ServiceUnavailable):
    """Somebody else is at that day."""


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

    def __init__(
        self, connection: Connection, settings: ClickHouseSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._connection, self._clock = connection, clock
        self._stored, self._processes = settings.stored("flows"), settings.system("processes")
        self._flows = f"{settings.database}.{self._stored}{settings.on_cluster}"

    def is_written(self, day: date) -> bool:
        """Whether everybody may still write to it."""
        return self._clock() < begin_of(day) + 86_400 + WRITTEN_SECONDS

    def hold(self, day: date, owner: str = "", predecessors: str = "") -> None:
        """From now on no rows of a day go into flows, and none are on their way.

        `owner`: of a worker. `predecessors`: what the names of their owners begin with whose holds it takes over.
        Raises HeldByOthers, to a worker.
        """
        check = f"toDate(window_begin) != toDate('{day.isoformat()}')"
        own = _name(day, owner)
        self._connection.command(f"ALTER TABLE {self._flows} ADD CONSTRAINT IF NOT EXISTS {own} CHECK {check}")
        # asked behind the constraint, which whoever lets a day go for want of room asks for behind its row of dropped
        if day in self._connection.query(dropped.GOING, lambda rows: {row[0] for row in rows}):
            self.let_go(day, owner)
            raise ServiceUnavailable(f"{day} is just going for want of room; try again in a moment")
        self._be_the_only_one(day, owner, predecessors)
        held = time.monotonic()
        while self._inserting(time.monotonic() - held):
            if time.monotonic() > held + _INSERT_SECONDS:
                raise ServiceUnavailable(
                    "an insert into ClickHouse does not end, and may be one of rows that are to be replaced; see "
                    "system.processes, and try again"
                )
            time.sleep(_PAUSE_SECONDS)

    def _be_the_only_one(self, day: date, owner: str, predecessors: str) -> None:
        if owner:
            for name in self.left(day, predecessors) if predecessors else ():
                if name != _name(day, owner):
                    self._drop(name)
            if len(self._holds(day)) > 1:
                self.let_go(day, owner)
                raise HeldByOthers(f"{day} is held by somebody else")
            return
        until = time.monotonic() + _INSERT_SECONDS
        while (names := self.left(day)) and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        for name in names:  # of a worker that was killed: should it only have been stopped, it does nothing without it
            self._drop(name)

    def _inserting(self, seconds: float) -> bool:
        """Whether inserts run that began so long ago: before the constraint was there, of which they may not know."""
        return self._connection.query(
            f"SELECT count() FROM {self._processes} WHERE query_kind = 'Insert' AND query ILIKE '%flows%' "  # noqa: S608  a name of ours
            "AND elapsed >= {seconds:Float64}",
            lambda rows: int(rows[0][0]) > 0,
            seconds=seconds,
        )

    def let_go(self, day: date, owner: str = "") -> None:
        """Rows of the day go into flows again, as far as the one that held it is concerned."""
        self._drop(_name(day, owner))

    def _drop(self, name: str) -> None:
        self._connection.command(f"ALTER TABLE {self._flows} DROP CONSTRAINT IF EXISTS {name}")

    def left(self, day: date, owners: str = "") -> list[str]:
        """Holds of workers; `owners`: what the names of these begin with."""
        return [name for name in self._holds(day) if name.startswith(f"{_name(day)}_{owners}")]

    def _holds(self, day: date) -> list[str]:
        return [name for name in self._constraints(self._stored) if name.startswith(_name(day))]

    def held(self, table: str = "flows") -> list[date]:
        """The days that are held, of a table that may have been made like flows."""
        names = self._constraints(table)
        return [datetime.strptime(name.split("_")[1], "%Y%m%d").replace(tzinfo=UTC).date() for name in names]

    def _constraints(self, table: str) -> list[str]:
        return self._connection.query(
            "SELECT arrayJoin(extractAll(create_table_query, 'CONSTRAINT `?(hold_\\\\d{8}\\\\w*)')) FROM system.tables "
            "WHERE database = currentDatabase() AND name = {name:String}",
            lambda rows: [str(row[0]) for row in rows],
            name=table,
        )

    def free(self, table: str) -> None:
        """A table that was made like flows takes all rows."""
        for name in self._constraints(table):
            self._connection.command(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")

    def rebuild(self, day: date) -> None:
        """Make the rollups of a day that is held anew."""
        there = self.rows(day) > 0
        for rollup in ROLLUPS:
            for statement, needs_rows in sql.rebuild(rollup, day.isoformat()):
                if there or not needs_rows:
                    self._connection.command(statement)

    def rows(self, day: date) -> int:
        """How many flows has of a day."""
        return self._connection.number(
            "SELECT count() FROM flows WHERE window_begin >= toDateTime({begin:UInt32}, 'UTC') "
            "AND window_begin < toDateTime({begin:UInt32} + 86400, 'UTC')",
            begin=begin_of(day),
        )


@contextlib.contextmanager
def holding(days_: Days, day: date, owner: str = "", predecessors: str = "") -> Iterator[str]:
    """Hold a day, as the constraint of this name, and let it go whatever happens, but for a kill.

    Whoever repairs it again lets it go then, or completes a window of the same partition.
    """
    try:
        days_.hold(day, owner, predecessors)
        yield _name(day, owner)
    finally:
        days_.let_go(day, owner)


def run(settings: ClickHouseSettings, begin: int, until: int, *, tell: Callable[[str], None]) -> int:
    """Make the rollups of all days that [begin, until) touches anew from flows -> how many.

    Raises QueryError, before anything is done, for days of which that cannot be done.
    """
    if settings.cluster:
        raise SettingsError("ayaflow repair works on one ClickHouse server; clickhouse.cluster is set")
    connection, retention_days = Connection(settings, None), settings.flows_retention_days
    with contextlib.closing(connection):
        return _repair(connection, Days(connection, settings), days(begin, until), retention_days, tell)


def _repair(
    connection: Connection, held: Days, chosen: list[date], retention_days: int, tell: Callable[[str], None]
) -> int:
    shorter = connection.number(dropped.SHORTER)
    oldest = day_of(max(int(time.time()) - retention_days * 86_400, shorter))
    gone = connection.query(dropped.OF_FLOWS, lambda rows: {row[0] for row in rows})
    for day in chosen:
        if held.is_written(day):
            raise QueryError(f"{day} is still being written: repair days that ended five minutes ago, with --to {day}")
        if day in gone:
            raise QueryError(
                f"{day} of flows went for want of room (see the table dropped); its rollups stay as they are"
            )
        if day <= oldest:
            before = ", and shorter before" if shorter else ""
            raise QueryError(
                f"the raw windows of {day} are removed, or about to be (clickhouse.flows_retention_days: "
                f"{retention_days}{before}); its rollups stay as they are. "
                f"Repair from {day_of(begin_of(oldest) + 86_400)} on"
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


def _name(day: date, owner: str = "") -> str:
    return f"hold_{day:%Y%m%d}" + (f"_{owner}" if owner else "")
