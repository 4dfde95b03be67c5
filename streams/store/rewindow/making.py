"""What is asked of `ayaflow rewindow`, and windows that are made again and proved. Blocking; clickhouse-connect.

A *shadow* table is like flows, without its views. What is done to tables here can be done again without harm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from common.settings import ClickHouseSettings
from schemas.clickhouse import dropped
from streams.partition.again import Checkpoint, Flush, Span
from streams.partition.storing import KafkaPartition
from streams.store import turned
from streams.store.arrow import connections, flow_table
from streams.store.connection import Connection
from streams.store.repair import Days
from streams.windowing.initiators import MOST, Connections

MARGIN_SECONDS = 7_200
"""An epoch of the ledger may touch windows so far from it; see console.audit.sql."""
_RECALL_SECONDS = 3_600
"""Before the first window: who began the connections of that time is read from flows."""
IN_SPAN = "window_begin >= toDateTime({begin:UInt32}, 'UTC') AND window_begin < toDateTime({until:UInt32}, 'UTC')"
_STATES = ("making", "swapping", "swapped", "kept", "failed")
FINISHED = ("swapped", "kept", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of rewindows: what is asked for, and how far it is."""

    id: str
    state: str
    topic_id: int
    span: Span
    window_seconds: int
    filter: str  # as it was written; empty: none
    into: str  # the table that it is kept in; empty: flows
    offsets: Mapping[int, tuple[int, int]]  # by partition: the first message that is read, and the one behind the last
    bucket_seconds: int
    days_done: tuple[date, ...] = ()
    error: str = ""
    changed: int = 0  # when that was written, seconds since the Unix epoch

    @property
    def shadow(self) -> str:
        """The table that its rows are made in."""
        return f"rewindow_{self.id}"

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that it may have while it is not finished, beside those of a day that is held."""
        return self.shadow, f"{self.shadow}_kept"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in FINISHED


class Stored(NamedTuple):
    """What flows has of a partition in a span."""

    offset_end: int  # nothing of it is from at or behind this offset
    beyond: bool  # it has later windows of the partition


class Differs(NamedTuple):
    """What does not add up."""

    node: str
    interface: str
    direction: str
    period: int  # start, seconds since the Unix epoch
    packets: int  # made again, less what was to be
    bytes: int


class RewindowStore:
    """Every method raises ServiceUnavailable, with what the server said, when it cannot do its work now."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connection = Connection(settings, None)
        self.days = Days(self._connection, settings)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # jobs

    def jobs(self, id_prefix: str = "") -> list[Job]:
        """Those whose id begins so, the oldest first."""
        return self._connection.query(
            "SELECT id, toString(state), topic_id, toUnixTimestamp(window_from), toUnixTimestamp(window_until), "
            "window_seconds, filter, into_table, partitions, offsets_begin, offsets_end, bucket_seconds, days_done, "
            "error, toUnixTimestamp(changed) FROM rewindows FINAL WHERE startsWith(id, {prefix:String}) "
            "ORDER BY rewindows.changed",
            lambda rows: [_job(row) for row in rows],
            prefix=id_prefix,
        )

    def save(self, job: Job) -> Job:
        """Write down how far a job is."""
        partitions = sorted(job.offsets)
        row = {
            "id": pa.array([job.id]),
            "changed": pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC")),
            "state": pa.array([_STATES.index(job.state)], pa.int8()),
            "topic_id": pa.array([job.topic_id], pa.uint64()),
            "window_from": pa.array([job.span.begin], pa.uint32()),
            "window_until": pa.array([job.span.until], pa.uint32()),
            "window_seconds": pa.array([job.window_seconds], pa.uint16()),
            "filter": pa.array([job.filter]),
            "into_table": pa.array([job.into]),
            "partitions": pa.array([partitions], pa.list_(pa.int32())),
            "offsets_begin": pa.array([[job.offsets[each][0] for each in partitions]], pa.list_(pa.int64())),
            "offsets_end": pa.array([[job.offsets[each][1] for each in partitions]], pa.list_(pa.int64())),
            "bucket_seconds": pa.array([job.bucket_seconds], pa.uint32()),
            "days_done": pa.array([[_day_number(day) for day in job.days_done]], pa.list_(pa.uint16())),
            "error": pa.array([job.error]),
        }
        self._connection.insert("rewindows", pa.table(row))
        return job

    def checkpoint(self, job: Job, partition: int, reached: Checkpoint, *, done: bool) -> None:
        """Write down how far a partition is."""
        row: dict[str, Any] = {"id": [job.id], "kafka_partition": pa.array([partition], pa.int32())}
        row |= {name: pa.array([value], pa.int64()) for name, value in reached._asdict().items()}
        self._connection.insert("rewindow_progress", pa.table(row | {"done": [done]}))

    def reached(self, job: Job) -> dict[int, tuple[Checkpoint, bool]]:
        """Of each partition that was begun: its last checkpoint, and whether it is done."""
        return self._connection.query(
            "SELECT kafka_partition, max(done), argMax((offset_end, boundary, resume, clock_ns), (done, offset_end)) "
            "FROM rewindow_progress WHERE id = {id:String} GROUP BY kafka_partition",
            lambda rows: {int(row[0]): (Checkpoint(*map(int, row[2])), bool(row[1])) for row in rows},
            id=job.id,
        )

    # what is there

    def lengths(self, span: Span) -> set[int]:
        """Lengths of the windows that flows and ledger have in a span, or that reach into it."""
        begin = max(0, span.begin - 3_600)
        return self._connection.query(
            f"SELECT DISTINCT window_seconds FROM flows WHERE {IN_SPAN} "  # noqa: S608  constants
            f"UNION DISTINCT SELECT DISTINCT window_seconds FROM ledger WHERE {_ENDED_NEAR}",
            lambda rows: {int(row[0]) for row in rows},
            **_near(Span(begin, span.until)),
        )

    def dropped(self) -> set[date]:
        """Days of flows or of the ledger that went for want of room: nothing can be compared there."""
        return self._connection.query(dropped.DAYS, lambda rows: {row[0] for row in rows})

    def tables(self) -> set[str]:
        """Names of all tables of the database."""
        return self._connection.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase()", lambda rows: {row[0] for row in rows}
        )

    def topics(self, span: Span) -> set[int]:
        """The topics that the rows of a span are of."""
        return self._connection.query(
            f"SELECT DISTINCT topic_id FROM flows WHERE {IN_SPAN}",  # noqa: S608  constants
            lambda rows: {int(row[0]) for row in rows},
            **span._asdict(),
        )

    def stored(self, topic_id: int, span: Span) -> dict[int, Stored]:
        """What flows has of each partition in a span, and was set aside."""
        return self._connection.query(
            "SELECT kafka_partition, maxIf(kafka_offset_end, inside), max(NOT inside) FROM ("  # noqa: S608  constants
            f"SELECT kafka_partition, kafka_offset_end, {IN_SPAN} AS inside FROM flows "
            "WHERE window_begin >= toDateTime({begin:UInt32}, 'UTC') AND topic_id = {topic:UInt64} UNION ALL "
            f"SELECT kafka_partition, kafka_offset_end, 1 FROM refused FINAL WHERE {IN_SPAN} "
            "AND topic_id = {topic:UInt64}) GROUP BY kafka_partition",
            lambda rows: {int(row[0]): Stored(int(row[1]), bool(row[2])) for row in rows},
            **span._asdict(),
            topic=topic_id,
        )

    def recall(self, source: KafkaPartition, before: int) -> Sequence[Connections]:
        """Who began the connections of the hour before a window, where that is not what ports and addresses say."""
        return [self._turned("flows", source, before - _RECALL_SECONDS, before)]

    def made(
        self, job: Job, source: KafkaPartition, reached: Checkpoint
    ) -> tuple[dict[int, int], Sequence[Connections]]:
        """What a shadow has of a partition at a checkpoint: revisions by window, and as `recall` from its rows."""
        revisions = self._connection.query(
            "SELECT start, count() FROM (SELECT toUnixTimestamp(window_begin) AS start, revision, "  # noqa: S608  constants
            f"max(kafka_offset_end) AS offset_end FROM {job.shadow} WHERE kafka_partition = {{partition:Int32}} "
            "GROUP BY start, revision HAVING offset_end <= {end:Int64}) GROUP BY start",
            lambda rows: {int(start): int(count) for start, count in rows},
            partition=source.number,
            end=reached.offset_end,
        )
        until = min(reached.boundary, job.span.until)
        return revisions, [self._turned(job.shadow, source, max(job.span.begin, until - _RECALL_SECONDS) - 1, until)]

    def _turned(self, table: str, source: KafkaPartition, since: int, until: int) -> Connections:
        sql = turned.rows(table)
        names = {"partition": source.number, "topic": source.topic_id}
        return self._connection.arrow(sql, connections, **names, since=max(0, since), until=until, most=MOST)

    # the shadow

    def make_shadow(self, job: Job) -> None:
        """The table that a job's rows go to, if it is not there yet."""
        self._connection.command(f"CREATE TABLE IF NOT EXISTS {job.shadow} AS flows")
        self.days.free(job.shadow)  # of what flows holds now

    def drop_shadow(self, job: Job) -> None:
        """All that a job needed and nobody else does."""
        for table in job.tables:
            self._connection.command(f"DROP TABLE IF EXISTS {table}")

    def table_bytes(self) -> dict[str, int]:
        """What each table of a job takes on disk, by its name; those that are empty are not there."""
        return self._connection.query(
            "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND active "
            "AND startsWith(table, 'rewindow_') GROUP BY table",
            lambda rows: {table: int(size) for table, size in rows},
        )

    def insert(self, job: Job, source: KafkaPartition, flush: Flush) -> None:
        """Store a flush in the shadow, unless something has its name."""
        parts = [flow_table(flows, source, revision, flush.offset_end) for revision, flows in flush.windows]
        if not parts:
            return
        table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        token = f"{job.shadow}/{source.number}/{flush.offset_end}"
        self._connection.insert(job.shadow, table, {"insert_deduplication_token": token})

    def against_ledger(self, job: Job) -> list[Differs]:
        """Where what was made again is not what the ledger says that streams consumed, the first ones."""
        return self._differs(
            job,
            "SELECT node, interface, toString(direction) AS direction, toUnixTimestamp(window) AS start, "  # noqa: S608  constants
            "-toInt64(p) AS packets, -toInt64(b) AS bytes FROM ("
            "SELECT node, interface, direction, consumed_windows, consumed_packets, consumed_bytes FROM ledger FINAL "
            f"WHERE {_ENDED_NEAR}) ARRAY JOIN consumed_windows AS window, consumed_packets AS p, consumed_bytes AS b "
            "WHERE window >= toDateTime({begin:UInt32}, 'UTC') AND window < toDateTime({until:UInt32}, 'UTC')",
        )

    def against_flows(self, job: Job, span: Span) -> list[Differs]:
        """Likewise, the rows of flows in a part of the job's span that it takes the place of."""
        return self._differs(replace(job, span=span), _passed("flows", "-", f"NOT ({later(job)})"))

    def _differs(self, job: Job, other: str) -> list[Differs]:
        return self._connection.query(
            "SELECT node, interface, direction, intDiv(start, {bucket:UInt32}) * {bucket:UInt32} AS period, "  # noqa: S608  constants
            f"sum(packets), sum(bytes) FROM ({_passed(job.shadow, '', '1')} UNION ALL {other}) "
            "GROUP BY node, interface, direction, period HAVING sum(packets) != 0 OR sum(bytes) != 0 "
            "ORDER BY period, node, interface, direction LIMIT 100",
            lambda rows: [Differs(*row) for row in rows],
            **_near(job.span),
            bucket=job.bucket_seconds,
        )

    def totals(self, table: str, span: Span) -> tuple[int, int, int]:
        """Rows, packets and bytes of a span."""
        return self._connection.query(
            "SELECT count(), sum(packets + packets_rev), sum(bytes + bytes_rev) "  # noqa: S608  constants
            f"FROM {table} WHERE {IN_SPAN}",
            lambda rows: (int(rows[0][0]), int(rows[0][1]), int(rows[0][2])),
            **span._asdict(),
        )

    def keep(self, job: Job, where: str, parameters: Mapping[str, Any]) -> None:
        """Give the shadow the name that is wanted; with a condition, only its rows of which it holds."""
        made = job.shadow
        if where:
            made = f"{job.shadow}_kept"
            if job.into not in self.tables():
                self._connection.command(f"DROP TABLE IF EXISTS {made}")
                self._connection.command(f"CREATE TABLE {made} AS {job.shadow}")
                # its values are parameters, see console.query.filter_sql
                fill = f"INSERT INTO {made} SELECT * FROM {job.shadow} AS f WHERE {where}"  # noqa: S608
                self._connection.command(fill, **parameters)
        if job.into not in self.tables():
            self._connection.command(f"RENAME TABLE {made} TO {job.into}")
        self.drop_shadow(job)


_ENDED_NEAR = """end_time > toDateTime({oldest:UInt32}, 'UTC') AND end_time <= toDateTime({newest:UInt32}, 'UTC')
    AND interface != ''"""


def later(job: Job) -> str:
    """Rows of flows in its span that are not of the messages that it was made of: what came late, or is of others."""
    ends = sorted((number, end) for number, (_, end) in job.offsets.items())
    partitions, offsets = [number for number, _ in ends], [end for _, end in ends]
    name = "topic_id, kafka_partition, window_begin, window_seconds, revision"
    return (
        f"topic_id NOT IN ({job.topic_id}, 0) OR ({name}) IN ("  # noqa: S608  numbers of ours
        f"SELECT {name} FROM flows WHERE {IN_SPAN} GROUP BY {name} HAVING "
        "max(kafka_offset_end) > "
        f"transform(kafka_partition, {partitions}::Array(Int32), {offsets}::Array(Int64), 0::Int64))"
    )


def _near(span: Span) -> dict[str, int]:
    oldest, newest = max(0, span.begin - MARGIN_SECONDS), span.until + MARGIN_SECONDS
    return {**span._asdict(), "oldest": oldest, "newest": newest}


def _passed(table: str, sign: str, where: str) -> str:
    """What passed each interface in each direction, by the windows of a table."""
    sides = ", ".join(
        f"('{way}', sum(if(direction = '{way}', packets, packets_rev)), sum(if(direction = '{way}', bytes, bytes_rev)))"
        for way in ("ingress", "egress")
    )
    return (
        "SELECT node, interface, side.1 AS direction, start, "  # noqa: S608  constants
        f"{sign}toInt64(side.2) AS packets, {sign}toInt64(side.3) AS bytes FROM ("
        f"SELECT node, interface, toUnixTimestamp(window_begin) AS start, [{sides}] AS sides FROM {table} "
        f"WHERE {IN_SPAN} AND {where} GROUP BY node, interface, start) ARRAY JOIN sides AS side"
    )


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _job(row: Sequence[Any]) -> Job:
    """Of a row of `RewindowStore.jobs`."""
    id_, state, topic_id, begin, until, seconds, text, into, partitions, firsts, ends, bucket, done, error, changed = (
        row
    )
    return Job(
        id=id_,
        state=state,
        topic_id=int(topic_id),
        span=Span(int(begin), int(until)),
        window_seconds=int(seconds),
        filter=text,
        into=into,
        offsets=dict(zip(partitions, zip(firsts, ends, strict=True), strict=True)),
        bucket_seconds=int(bucket),
        days_done=tuple(done),
        error=error,
        changed=int(changed),
    )
