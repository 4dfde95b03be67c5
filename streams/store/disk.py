"""What our tables take of ClickHouse's disk, and how days go: first written down, then dropped. Blocking.

A drop is a row of the table `dropped`, whose identity is (table, day, time) and which says `done` when the partition is
gone. Whoever finds one that is not done goes on with it.
"""

from collections.abc import Mapping
from datetime import date

from common import logs
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from schemas.clickhouse.stored import Stored, stored
from streams.disk.plan import Day, Drop, Piece, Room, Seen, Why
from streams.store.connection import Connection

log = logs.get("streams")

_NO_SPACE = ("NOT_ENOUGH_SPACE", "No space left", "CANNOT_WRITE_TO_FILE_DESCRIPTOR")
_ANY_SIZE = {"max_partition_size_to_drop": 0}  # a server has a limit of 50 GB; it is for people who err
_FIGURES = """
SELECT count() AS rows, {bytes_on_disk:UInt64} AS bytes_on_disk, toUInt64(sum(TABLE.PACKETS)) AS packets,
       toUInt64(sum(TABLE.BYTES)) AS bytes, [] AS places
FROM TABLE WHERE toDate(TIME) = toDate({day:String}) HAVING rows > 0
"""
_OF_FLOWS = """
SELECT sum(records) AS rows, {bytes_on_disk:UInt64} AS bytes_on_disk, sum(p) AS packets, sum(b) AS bytes,
       groupArray((node, interface, direction, p, b)) AS places
FROM (
    SELECT node, interface, side.1 AS direction, side.2 AS p, side.3 AS b, side.4 AS records
    FROM (
        SELECT node, interface,
               [('ingress', toUInt64(sum(if(direction = 'ingress', packets, packets_rev))),
                            toUInt64(sum(if(direction = 'ingress', bytes, bytes_rev))), count()),
                ('egress', toUInt64(sum(if(direction = 'egress', packets, packets_rev))),
                           toUInt64(sum(if(direction = 'egress', bytes, bytes_rev))), 0)] AS sides
        FROM flows WHERE toDate(window_begin) = toDate({day:String})
        GROUP BY node, interface
    )
    ARRAY JOIN sides AS side
)
HAVING rows > 0
"""
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
        self._parts, self._disks = (
            f"clusterAllReplicas('{settings.cluster}', system.{name})" if settings.cluster else f"system.{name}"
            for name in ("parts", "disks")
        )

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
        going = {host: sum(row[5] for row in pieces if row[0] == host and not row[3]) for host, *_ in rooms}
        return Seen(
            today=rooms[0][4],
            pieces=tuple(
                Piece(host=host, table=self._plain(table), day=_day(self._plain(table), day), rows=rows, bytes=size)
                for host, table, day, active, rows, size in pieces
                if active
            ),
            rooms=tuple(
                Room(host=host, free=free, total=total, going=going[host]) for host, _, free, total, _ in rooms if total
            ),
        )

    def unfinished(self) -> list[Drop]:
        """Drops that were begun."""
        return self._drops("NOT done")

    def begin(self, what: Day, why: Why, ms: int) -> Drop | None:
        """Write it down. None: the day is gone already, or somebody else is at it now."""
        drop = Drop(table=what.table, day=what.day, ms=ms, why=why, rows=what.rows)
        if self._held(what.day):
            return None
        try:
            self._write(drop, what.bytes)
        except ServiceUnavailable as error:
            if not any(word in str(error) for word in _NO_SPACE):
                raise
            # there is no room to write it down: the log has it, and the table when there is
            log.warning(
                "the disk is full: a day goes before it is written down", table=what.table, day=what.day, rows=what.rows
            )
            self._drop(drop)
            self._connection.command(
                "INSERT INTO dropped (table, day, time, why, rows, bytes_on_disk, done) VALUES ({table:String}, "
                "toDate({day:String}), fromUnixTimestamp64Milli({ms:Int64}, 'UTC'), {why:String}, {rows:UInt64}, "
                "{bytes_on_disk:UInt64}, 1)",
                **drop.named,
                why=str(why),
                rows=what.rows,
                bytes_on_disk=what.bytes,
            )
            return None
        ours = [each for each in self._drops("NOT done") if (each.table, each.day) == (what.table, what.day)]
        if not ours:
            return None
        if min(ours, key=lambda each: each.ms).ms != ms:
            self._finish(drop, also=", 0 AS rows, 0 AS bytes_on_disk, 0 AS packets, 0 AS bytes, [] AS places")
            return None
        return next(each for each in ours if each.ms == ms)

    def go_on(self, drop: Drop) -> bool:
        """Drop what was written down, unless that was done. Whether something was dropped now."""
        table = self._table(drop.table)
        now = self._connection.query(
            f"SELECT count() FROM {table.name} WHERE toDate({table.time}) = toDate({{day:String}})",  # noqa: S608  a checked name
            lambda rows: int(rows[0][0]),
            day=str(drop.day),
        )
        going = now >= drop.rows  # fewer: it was dropped, and these came late
        if going:
            if now > drop.rows:
                self._write(drop, None)
            if drop.table == "flows":
                self._connection.command(_LOST, **drop.named)
            self._drop(drop)
        self._finish(drop)
        return going

    def _held(self, day: date) -> bool:
        """Whether this day is just made anew: a constraint of flows says so (streams.store.repair)."""
        return self._connection.query(
            "SELECT count() FROM system.tables WHERE database = {database:String} "
            "AND position(create_table_query, {mark:String}) > 0",
            lambda rows: int(rows[0][0]) > 0,
            database=self._settings.database,
            mark=f"hold_{day:%Y%m%d}",
        )

    def _write(self, drop: Drop, bytes_on_disk: int | None) -> None:
        table = self._table(drop.table)
        figures = _OF_FLOWS if table.name == "flows" else _FIGURES
        for word, value in (("TABLE.PACKETS", table.packets), ("TABLE.BYTES", table.bytes), ("TIME", table.time)):
            figures = figures.replace(word, value)
        if bytes_on_disk is None:
            bytes_on_disk = sum(
                piece.bytes for piece in self.seen().pieces if (piece.table, piece.day) == (drop.table, drop.day)
            )
        self._connection.command(
            "INSERT INTO dropped (table, day, time, why, rows, bytes_on_disk, packets, bytes, places) "  # noqa: S608  constants
            "SELECT {table:String}, toDate({day:String}), fromUnixTimestamp64Milli({ms:Int64}, 'UTC'), {why:String}, * "
            f"FROM ({figures.replace('TABLE', table.name)})",
            **drop.named,
            why=str(drop.why),
            bytes_on_disk=bytes_on_disk,
        )

    def _drop(self, drop: Drop) -> None:
        settings = self._settings
        stored_table = f"{settings.database}.{drop.table}{'_local' if settings.cluster else ''}"
        on_cluster = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
        self._connection.command(f"ALTER TABLE {stored_table}{on_cluster} DROP PARTITION '{drop.day}'", _ANY_SIZE)

    def _finish(self, drop: Drop, also: str = "") -> None:
        self._connection.command(
            f"INSERT INTO dropped SELECT * REPLACE (1 AS done{also}) FROM dropped FINAL WHERE {_NAMED}",  # noqa: S608  constants
            **drop.named,
        )

    def _drops(self, where: str) -> list[Drop]:
        return self._connection.query(
            "SELECT table, day, toUnixTimestamp64Milli(time), why, rows FROM dropped FINAL "  # noqa: S608  constants
            f"WHERE {where} ORDER BY time",
            lambda rows: [
                Drop(table=table, day=day, ms=ms, why=Why(why), rows=count) for table, day, ms, why, count in rows
            ],
        )

    def _plain(self, table: str) -> str:
        return table.removesuffix("_local") if self._settings.cluster else table

    @staticmethod
    def _table(name: str) -> Stored:
        found = stored(name)
        assert found is not None
        return found


def _day(table: str, partition: str) -> date | None:
    """The day that a partition is of."""
    if stored(table) is None:
        return None
    try:
        return date.fromisoformat(partition)
    except ValueError:  # tuple(), or of another layout
        return None


def retention(settings: ClickHouseSettings) -> Mapping[str, int]:
    """Days by setting."""
    return {name: value for name, value in settings.model_dump().items() if name.endswith("_retention_days")}
