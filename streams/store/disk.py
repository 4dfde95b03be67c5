"""What our tables take of ClickHouse's disk, and how days go. Blocking.

A day goes in one step from its table to one of its own (MOVE PARTITION), where nothing is added any more: it is counted
there, what was counted is written down, then that table is dropped. So each row is kept or counted, also one that is
stored while its day goes: it is in the table of before, and the next to go.

A drop is a row of the table `dropped`, whose identity is (table, day, time), and which is `done` when it has the
figures and the rows are gone. Its table is going_…, and gone_… as soon as somebody counts it. Whoever finds one that is
not done goes on with it: the new name keeps out who began it and was only slow.
"""

import re
import time
from datetime import UTC, date, datetime

from common import logs
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from schemas.clickhouse.stored import Stored, stored
from streams.disk.plan import Day, Drop, Piece, Room, Seen, Why
from streams.partition.storing import MADE_AGAIN
from streams.store.connection import Connection

log = logs.get("streams")

_NO_SPACE = ("NOT_ENOUGH_SPACE", "No space left", "CANNOT_WRITE_TO_FILE_DESCRIPTOR")
_MOVING_SECONDS, _PAUSE_SECONDS = 60.0, 0.1
_FORGOTTEN_MS = 600_000
_PLACE = re.compile(r"^(Replicated\w+\('[^']*)'")  # the path in ZooKeeper; without one each table has its own
_ANY_SIZE = {  # a server has limits of 50 GB; they are for people who err
    "max_partition_size_to_drop": 0,
    "max_table_size_to_drop": 0,
}
_SIZE = """SELECT assumeNotNull(sum(bytes_on_disk)) FROM PARTS
        WHERE database = {database:String} AND table = {aside:String} AND active"""
_FIGURES = f"""
SELECT count() AS rows, ({_SIZE}) AS bytes_on_disk, toUInt64(sum(PACKETS)) AS packets,
       toUInt64(sum(BYTES)) AS bytes, [] AS places, [] AS names
FROM ASIDE AS t HAVING rows > 0
"""  # noqa: S608  constants
_OF_FLOWS = f"""
SELECT sum(records) AS rows, ({_SIZE}) AS bytes_on_disk, sum(p) AS packets, sum(b) AS bytes,
       groupArray((node, interface, direction, p, b)) AS places,
       (SELECT groupArray((topic_id, kafka_partition, window_begin, window_seconds, k, e)) FROM (
           SELECT topic_id, kafka_partition, window_begin, window_seconds,
                  max(revision) AS k, max(kafka_offset_end) AS e
           FROM ASIDE WHERE revision < MADE_AGAIN GROUP BY ALL)) AS names
FROM (
    SELECT node, interface, side.1 AS direction, side.2 AS p, side.3 AS b, side.4 AS records
    FROM (
        SELECT node, interface,
               [('ingress', toUInt64(sum(if(direction = 'ingress', packets, packets_rev))),
                            toUInt64(sum(if(direction = 'ingress', bytes, bytes_rev))), count()),
                ('egress', toUInt64(sum(if(direction = 'egress', packets, packets_rev))),
                           toUInt64(sum(if(direction = 'egress', bytes, bytes_rev))), 0)] AS sides
        FROM ASIDE
        GROUP BY node, interface
    )
    ARRAY JOIN sides AS side
)
HAVING rows > 0
"""  # noqa: S608  constants
_NAMED = "table = {table:String} AND day = toDate({day:String}) AND time = fromUnixTimestamp64Milli({ms:Int64}, 'UTC')"
_LOST = f"""
INSERT INTO losses (time, kind, topic_id, kafka_partition, node, ring_id, gap_start, gap_end, lost)
SELECT d.time, 'dropped', 0, -1, d.place.1, toUnixTimestamp64Milli(d.time),
       toInt64(toUnixTimestamp(d.day)) * 1000000000, (toInt64(toUnixTimestamp(d.day)) + 86400) * 1000000000,
       sum(d.place.4)
FROM (SELECT time, day, arrayJoin(places) AS place FROM dropped FINAL WHERE {_NAMED}) AS d
GROUP BY d.time, d.day, d.place.1
"""  # noqa: S608  constants


class ClickHouseDisk:
    """The disk of ClickHouse, or those of its cluster. Methods raise ServiceUnavailable."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connection = Connection(settings, None)
        self._parts, self._disks, self._processes = map(settings.system, ("parts", "disks", "processes"))
        self._is_tidy = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def seen(self) -> Seen:
        """What there is now."""
        pieces = self._connection.query(
            "SELECT hostName() AS host, table, if(active, partition, '') AS day, active, sum(rows), sum(bytes_on_disk) "  # noqa: S608  constants
            f"FROM {self._parts} WHERE database = {{database:String}} GROUP BY host, table, day, active",
            list,
            database=self._settings.database,
        )
        rooms = self._connection.query(
            "SELECT hostName() AS host, name, free_space, total_space, today() "  # noqa: S608  constants
            f"FROM {self._disks} WHERE name IN ('default', (SELECT disk_name FROM {self._parts} "
            "WHERE database = {database:String} AND active LIMIT 1))",
            list,
            database=self._settings.database,
        )
        held = self._connection.query(
            "SELECT arrayJoin(extractAll(create_table_query, 'hold_([0-9]{8})')) FROM system.tables "
            "WHERE database = {database:String} AND name = {flows:String}",
            lambda rows: frozenset(datetime.strptime(row[0], "%Y%m%d").replace(tzinfo=UTC).date() for row in rows),
            database=self._settings.database,
            flows=self._settings.stored("flows"),
        )
        going = {host: sum(row[5] for row in pieces if row[0] == host and not row[3]) for host, *_ in rooms}
        return Seen(
            today=rooms[0][4],
            pieces=tuple(
                Piece(host=host, table=self._plain(table), day=_day(self._plain(table), day), rows=rows, bytes=size)
                for host, table, day, active, rows, size in pieces
                if active and rows  # what went is covered by an empty part for a while
            ),
            rooms=tuple(
                Room(host=host, free=free, total=total, going=going[host]) for host, _, free, total, _ in rooms if total
            ),
            held=held,
        )

    def unfinished(self) -> list[Drop]:
        """Drops that were begun."""
        begun = self._drops("NOT done")
        if not self._is_tidy:
            self._tidy(begun)
            self._is_tidy = True
        return begun

    def go(self, what: Day, why: Why, ms: int) -> int:
        """Set its rows aside, count them, write that down and drop them -> rows. 0: they are held, or gone already."""
        drop = Drop(table=what.table, day=what.day, ms=ms, why=why)
        going, _ = _names(drop)
        try:
            self._prepare(drop, going)
            if self._held(drop.day):  # asked behind the row, which who holds a day asks for behind the constraint
                self._change(f"DROP TABLE {self._of_ours(going)}", end=" SYNC")
                return self._finish(drop)
            move = f" MOVE PARTITION '{drop.day}' TO TABLE {self._of_ours(going)}"
            self._change(f"ALTER TABLE {self._stored(drop)}", end=move)
        except ServiceUnavailable as error:
            if not _is_full(error):
                raise
            self._drop_uncounted(drop, what, f"ALTER TABLE {self._stored(drop)}", f" DROP PARTITION '{drop.day}'")
            self._change(f"DROP TABLE IF EXISTS {self._of_ours(going)}", end=" SYNC")
            return what.rows
        return self._count_and_drop(drop, going)

    def go_on(self, drop: Drop) -> int:
        """Likewise, with one that was begun."""
        going, gone = _names(drop)
        there = self._tables(going, gone)
        if going in there:
            self._change(f"RENAME TABLE {self._of_ours(going)} TO {self._of_ours(gone)}")
            self._wait_for_moves(going)
        return self._count_and_drop(drop, gone) if there else self._finish(drop)

    def _prepare(self, drop: Drop, going: str) -> None:
        """Its table and its row, in this order: whoever finds the row and no table knows that all is done."""
        like = f"{self._stored(drop)}{self._engine(drop.table, going)}"
        self._change(f"CREATE TABLE {self._of_ours(going)}", end=f" AS {like}")
        days = self._settings.retention[self._table(drop.table).retention]
        if (datetime.now(UTC).date() - drop.day).days >= days - 1:
            self._change(f"ALTER TABLE {self._of_ours(going)}", end=" REMOVE TTL")  # it would take rows uncounted
        self._connection.command(
            "INSERT INTO dropped (table, day, time, why) VALUES ({table:String}, toDate({day:String}), "
            "fromUnixTimestamp64Milli({ms:Int64}, 'UTC'), {why:String})",
            **drop.named,
            why=str(drop.why),
        )

    def _count_and_drop(self, drop: Drop, aside: str) -> int:
        """What is set aside, and grows no more."""
        try:
            self._write(drop, aside)
            if drop.table == "flows":
                self._connection.command(_LOST, **drop.named)
        except ServiceUnavailable as error:
            if not _is_full(error):
                raise
            what = self._whole(drop, aside)
            self._drop_uncounted(drop, what, f"DROP TABLE {self._of_ours(aside)}", " SYNC")
            return what.rows
        self._change(f"DROP TABLE {self._of_ours(aside)}", end=" SYNC")
        return self._finish(drop)

    def _whole(self, drop: Drop, aside: str) -> Day:
        """What is set aside, without reading it."""
        return self._connection.query(
            f"SELECT sum(rows), sum(bytes_on_disk) FROM {self._parts} "  # noqa: S608  constants
            "WHERE database = {database:String} AND table = {aside:String} AND active",
            lambda rows: Day(table=drop.table, day=drop.day, rows=int(rows[0][0]), bytes=int(rows[0][1])),
            database=self._settings.database,
            aside=aside,
        )

    def _engine(self, table: str, going: str) -> str:
        """Of a replica: AS would take the place of the other table in ZooKeeper, too."""
        if not self._settings.cluster:
            return ""
        engine = self._connection.query(
            "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            lambda rows: str(rows[0][0]),
            database=self._settings.database,
            name=self._settings.stored(table),
        )
        return f" ENGINE = {beside(engine, going)}"

    def _drop_uncounted(self, drop: Drop, what: Day, statement: str, end: str) -> None:
        """There is no room to set it aside or to write it down: the log has it, and the table when there is."""
        log.warning(
            "the disk is full: a day goes before it is written down", table=what.table, day=what.day, rows=what.rows
        )
        self._change(statement, end=end)
        self._connection.command(
            "INSERT INTO dropped (table, day, time, why, rows, bytes_on_disk, done) VALUES ({table:String}, "
            "toDate({day:String}), fromUnixTimestamp64Milli({ms:Int64}, 'UTC'), {why:String}, {rows:UInt64}, "
            "{bytes_on_disk:UInt64}, 1)",
            **drop.named,
            why=str(drop.why),
            rows=what.rows,
            bytes_on_disk=what.bytes,
        )

    def _wait_for_moves(self, going: str) -> None:
        """Until no statement moves rows to a table: it may know it from before it had another name."""
        until = time.monotonic() + _MOVING_SECONDS
        while self._connection.query(
            f"SELECT count() FROM {self._processes} "  # noqa: S608  constants
            "WHERE query_kind = 'Alter' AND position(query, {move:String}) > 0",
            lambda rows: int(rows[0][0]) > 0,
            move=f"TO TABLE {self._of_ours(going)}",
        ):
            if time.monotonic() > until:
                raise ServiceUnavailable(f"a day is still being moved to {going}; see system.processes")
            time.sleep(_PAUSE_SECONDS)

    def _tidy(self, begun: list[Drop]) -> None:
        """Remove what was made for a drop that was then not even written down."""
        known = {name for each in begun for name in _names(each)}
        empty = self._connection.query(
            "SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, 'going_') "
            "AND total_rows = 0 AND toUnixTimestamp(metadata_modification_time) * 1000 < {ms:Int64}",
            lambda rows: [str(row[0]) for row in rows],
            database=self._settings.database,
            ms=time.time_ns() // 1_000_000 - _FORGOTTEN_MS,
        )
        for name in set(empty) - known:
            self._change(f"DROP TABLE IF EXISTS {self._of_ours(name)}", end=" SYNC")

    def _held(self, day: date) -> bool:
        """Whether this day is just made anew: a constraint of flows says so (streams.store.repair)."""
        return self._connection.query(
            "SELECT count() FROM system.tables WHERE database = {database:String} "
            "AND position(create_table_query, {mark:String}) > 0",
            lambda rows: int(rows[0][0]) > 0,
            database=self._settings.database,
            mark=f"hold_{day:%Y%m%d}",
        )

    def _write(self, drop: Drop, aside: str) -> None:
        table = self._table(drop.table)
        figures = _OF_FLOWS if table.name == "flows" else _FIGURES
        cluster, database = self._settings.cluster, self._settings.database
        whole = f"cluster('{cluster}', {database}, {aside})" if cluster else self._of_ours(aside)
        values = (
            ("PACKETS", table.packets),
            ("BYTES", table.bytes),
            ("ASIDE", whole),
            ("PARTS", self._parts),
            ("MADE_AGAIN", str(MADE_AGAIN)),
        )
        for word, value in values:
            figures = figures.replace(word, value)
        self._connection.command(
            "INSERT INTO dropped (table, day, time, why, rows, bytes_on_disk, packets, bytes, places, names) "  # noqa: S608  constants
            "SELECT {table:String}, toDate({day:String}), fromUnixTimestamp64Milli({ms:Int64}, 'UTC'), {why:String}, * "
            f"FROM ({figures})",
            **drop.named,
            why=str(drop.why),
            database=database,
            aside=aside,
        )

    def _change(self, statement: str, *, end: str = "") -> None:
        """Run DDL on all servers."""
        also = {"alter_sync": 2} if self._settings.cluster else {}  # what is read then may be another replica
        self._connection.command(f"{statement}{self._settings.on_cluster}{end}", {**_ANY_SIZE, **also})

    def _stored(self, drop: Drop) -> str:
        """The table that it is of, on each server."""
        return self._of_ours(self._settings.stored(drop.table))

    def _of_ours(self, table: str) -> str:
        return f"{self._settings.database}.{table}"

    def _tables(self, *names: str) -> set[str]:
        """Those that there are."""
        return self._connection.query(
            "SELECT name FROM system.tables WHERE database = {database:String} AND name IN {names:Array(String)}",
            lambda rows: {str(row[0]) for row in rows},
            database=self._settings.database,
            names=list(names),
        )

    def _finish(self, drop: Drop) -> int:
        """Write down that it is done -> the rows that it had."""
        self._connection.command(
            f"INSERT INTO dropped SELECT * REPLACE (1 AS done) FROM dropped FINAL WHERE {_NAMED}",  # noqa: S608  constants
            **drop.named,
        )
        return self._connection.number(f"SELECT sum(rows) FROM dropped FINAL WHERE {_NAMED}", **drop.named)  # noqa: S608  constants

    def _drops(self, where: str) -> list[Drop]:
        return self._connection.query(
            f"SELECT table, day, toUnixTimestamp64Milli(time), why FROM dropped FINAL WHERE {where} ORDER BY time",  # noqa: S608  constants
            lambda rows: [Drop(table=table, day=day, ms=ms, why=Why(why)) for table, day, ms, why in rows],
        )

    def _plain(self, table: str) -> str:
        return table.removesuffix("_local") if self._settings.cluster else table

    @staticmethod
    def _table(name: str) -> Stored:
        found = stored(name)
        assert found is not None
        return found


def _is_full(error: ServiceUnavailable) -> bool:
    return any(word in str(error) for word in _NO_SPACE)


def beside(engine: str, table: str) -> str:
    """The engine of a replica, for another table."""
    return _PLACE.sub(rf"\1_{table}'", engine)


def _names(drop: Drop) -> tuple[str, str]:
    """The table of a drop: as long as rows may come into it, and then."""
    name = f"{drop.table}_{drop.day:%Y%m%d}_{drop.ms}"
    return f"going_{name}", f"gone_{name}"


def _day(table: str, partition: str) -> date | None:
    """The day that a partition is of."""
    if stored(table) is None:
        return None
    try:
        return date.fromisoformat(partition)
    except ValueError:  # tuple(), or of another layout
        return None
