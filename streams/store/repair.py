"""Days of flows that are held still, and their rollups made anew, over HTTP (clickhouse-connect). Blocking.

A day is held by a constraint of flows: the server itself refuses rows of it, and streams sets such windows aside in
`refused` and brings them in when it is let go. So nothing is lost, and nothing can come between two statements.

Each holds it as hold_YYYYMMDD_OWNER, where OWNER is another each time, and looks for the others behind its own
constraint, so no two work at a day at once: a worker of streams (streams.store.rollups.mending) makes way, a command
waits for who was there before. Who does not end is taken over. It may only have been stopped: so rows are made in a
table of its own, by a statement that fails without its constraint; and whoever takes over drops that table, without
which it replaces nothing.
"""

import contextlib
import time
import uuid
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
_REPAIR = "repair_"
_HOLD, _AGAIN = "hold_", "_again_"
REMADE = tuple(f"{table}{_AGAIN}" for table in ("flows", *ROLLUPS))
"""What the names of tables begin with in which a day that is held is made anew."""


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

    def hold(self, day: date, owner: str, predecessors: str, *, patient: bool = False) -> str:
        """From now on no rows of a day go into flows, and none are on their way -> name of the constraint.

        `predecessors`: what the names of their owners begin with whose holds it takes over. `patient`: waits for
        others; else raises HeldByOthers.
        """
        check = f"toDate(window_begin) != toDate('{day.isoformat()}')"
        own = name_of(day, owner)
        self._connection.command(f"ALTER TABLE {self._flows} ADD CONSTRAINT IF NOT EXISTS {own} CHECK {check}")
        # asked behind the constraint, which whoever lets a day go for want of room asks for behind its row of dropped
        if day in self._connection.query(dropped.GOING, lambda rows: {row[0] for row in rows}):
            self.release(own)
            raise ServiceUnavailable(f"{day} is just going for want of room; try again in a moment")
        for name in self.left(day, predecessors) if predecessors else ():
            if name != own:
                self.release(name)
        self._be_the_only_one(day, own, patient=patient)
        if patient:
            for name in self._remade(day):
                self._connection.command(f"DROP TABLE IF EXISTS {name}")
        held = time.monotonic()
        while self._inserting(time.monotonic() - held):
            if time.monotonic() > held + _INSERT_SECONDS:
                self.release(own)
                raise ServiceUnavailable(
                    "an insert into ClickHouse does not end, and may be one of rows that are to be replaced; see "
                    "system.processes, and try again"
                )
            time.sleep(_PAUSE_SECONDS)
        return own

    def _be_the_only_one(self, day: date, own: str, *, patient: bool) -> None:
        if not patient:
            if len(self.left(day)) > 1:
                self.release(own)
                raise HeldByOthers(f"{day} is held by somebody else")
            return
        until = time.monotonic() + _INSERT_SECONDS
        while True:
            names = self.left(day)  # in the order in which they came
            if own not in names:
                raise ServiceUnavailable(f"{day} was taken over by somebody else; try again in a moment")
            before = names[: names.index(own)]
            if not before:
                return
            if time.monotonic() > until:
                break
            time.sleep(_PAUSE_SECONDS)
        for name in before:
            self.release(name)

    def _inserting(self, seconds: float) -> bool:
        """Whether inserts run that began so long ago: before the constraint was there, of which they may not know."""
        return self._connection.query(
            f"SELECT count() FROM {self._processes} WHERE query_kind = 'Insert' AND query ILIKE '%flows%' "  # noqa: S608  a name of ours
            "AND elapsed >= {seconds:Float64}",
            lambda rows: int(rows[0][0]) > 0,
            seconds=seconds,
        )

    def let_go(self, day: date, owners: str) -> None:
        """Rows of the day go into flows again, as far as those whose names begin so are concerned."""
        for name in self.left(day, owners):
            self.release(name)

    def release(self, hold: str) -> None:
        """Likewise, as far as one constraint is concerned."""
        self._connection.command(f"ALTER TABLE {self._flows} DROP CONSTRAINT IF EXISTS {hold}")

    def left(self, day: date, owners: str = "") -> list[str]:
        """Holds, the oldest first; `owners`: what the names of these begin with."""
        return [name for name in self._constraints(self._stored) if name.startswith(name_of(day, owners))]

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

    @contextlib.contextmanager
    def remade(self, table: str, hold: str, like: str = "") -> Iterator[str]:
        """A table that rows of a day which is held are made in, to replace those of `table`; it is gone afterwards."""
        name = table + _AGAIN + hold.removeprefix(_HOLD)
        self._connection.command(f"DROP TABLE IF EXISTS {name}")
        self._connection.command(f"CREATE TABLE {name} AS {like or table}")
        try:
            yield name
        finally:
            self._connection.command(f"DROP TABLE IF EXISTS {name}")

    def _remade(self, day: date) -> list[str]:
        """Those that others made of a day, and that are still there."""
        return self._connection.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase() "
            "AND arrayExists(made -> startsWith(name, made), {made:Array(String)})",
            lambda rows: [str(row[0]) for row in rows],
            made=[f"{prefix}{day:%Y%m%d}_" for prefix in REMADE],
        )

    def rebuild(self, day: date, hold: str) -> None:
        """Make the rollups of a day anew. `hold`: the constraint that it is held by; without it nothing is done."""
        there = self.rows(day) > 0
        for rollup in ROLLUPS:
            with self.remade(rollup, hold) as made:
                self._connection.command(sql.fill(rollup, day.isoformat(), made), hold=hold)
                if there:
                    self._connection.command(f"ALTER TABLE {rollup} REPLACE PARTITION '{day}' FROM {made}")

    def rows(self, day: date) -> int:
        """How many flows has of a day."""
        return self._connection.number(
            "SELECT count() FROM flows WHERE window_begin >= toDateTime({begin:UInt32}, 'UTC') "
            "AND window_begin < toDateTime({begin:UInt32} + 86400, 'UTC')",
            begin=begin_of(day),
        )


@contextlib.contextmanager
def holding(days_: Days, day: date, owner: str, predecessors: str, *, patient: bool = False) -> Iterator[str]:
    """Hold a day, as the constraint of this name, and let it go whatever happens, but for a kill.

    Whoever repairs it again lets it go then, or completes a window of the same partition.
    """
    try:
        yield days_.hold(day, owner, predecessors, patient=patient)
    finally:
        days_.release(name_of(day, owner))


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
            held.let_go(day, _REPAIR)
            continue
        with holding(held, day, f"{_REPAIR}{uuid.uuid4().hex[:8]}", _REPAIR, patient=True) as hold:
            held.rebuild(day, hold)
        repaired += 1
        tell(f"{day}: {', '.join(ROLLUPS)} are what flows is")
    return repaired


def name_of(day: date, owner: str) -> str:
    """The constraint by which one holds a day; of what owners' names begin with, what theirs begin with."""
    return f"{_HOLD}{day:%Y%m%d}_{owner}"
