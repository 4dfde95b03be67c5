"""Days of flows are replaced by windows that were made again, over HTTP (clickhouse-connect). Blocking.

All of it can be done again without harm, from wherever it was cut short: what came later than the messages that windows
were made of stays, and whether a day is replaced already makes no difference. Each statement is for one who holds the
day (streams.store.repair).
"""

from datetime import date
from typing import Any

import pyarrow as pa

from streams.partition.again import Span
from streams.partition.storing import MADE_AGAIN
from streams.store.repair import begin_of
from streams.store.rewindow.making import IN_SPAN, Job, RewindowStore, later
from streams.store.rollups.sql import STILL_HELD

_OF_DAY = "window_begin >= toDateTime({day:UInt32}, 'UTC') AND window_begin < toDateTime({day:UInt32} + 86400, 'UTC')"
_NAMED = """(kafka_partition, toUnixTimestamp(window_begin), window_seconds, revision) IN (
    SELECT kafka_partition, toUnixTimestamp(w), s, arrayJoin(range(toUInt32(k + 1))) FROM rewindowed
    ARRAY JOIN windows AS w, lengths AS s, revisions AS k WHERE topic_id = {topic:UInt64}
    AND w >= toDateTime({day:UInt32}, 'UTC') AND w < toDateTime({day:UInt32} + 86400, 'UTC'))"""
"""Of rows that were made again: an insert of streams had their name."""


class SwapStore(RewindowStore):
    """Every method raises ServiceUnavailable, with what the server said, when it cannot do its work now."""

    def claimed(self, job: Job, span: Span) -> bool:
        """Whether it is written down that a part of a job's span is its own."""
        where = "id = {id:String} AND window_from = toDateTime({begin:UInt32}, 'UTC')"
        return self._connection.number(f"SELECT count() FROM rewindowed WHERE {where}", id=job.id, begin=span.begin) > 0  # noqa: S608

    def replaced(self, job: Job, span: Span) -> bool:
        """Whether flows has a job's windows in a part of its span, and not those of before."""
        others = self._connection.number(
            f"SELECT count() FROM flows WHERE {IN_SPAN} AND NOT ({later(job)}) "  # noqa: S608  constants
            "AND window_seconds != {seconds:UInt16}",
            **span._asdict(),
            seconds=job.window_seconds,
        )
        return others == 0

    def claim(self, job: Job, span: Span) -> None:
        """Write down that flows has these windows up to the end of the job's messages, for recovery and audit.

        And which names they had, before their rows are replaced: who asks for the next one asks for the same as before.
        """
        found = self._connection.query(
            "SELECT kafka_partition, groupArrayIf(start, named), groupArrayIf(seconds, named), "  # noqa: S608  constants
            "groupArrayIf(highest, named) FROM ("
            "SELECT kafka_partition, toUnixTimestamp(window_begin) AS start, window_seconds AS seconds, "
            f"min(revision) < {MADE_AGAIN} AS named, maxIf(revision, revision < {MADE_AGAIN}) AS highest "
            f"FROM flows WHERE {IN_SPAN} AND topic_id IN ({{topic:UInt64}}, 0) "
            "GROUP BY kafka_partition, start, seconds) GROUP BY kafka_partition",
            lambda rows: {int(row[0]): row[1:] for row in rows},
            **span._asdict(),
            topic=job.topic_id,
        )
        partitions = sorted(found.keys() & job.offsets.keys())
        same = {
            "topic_id": (job.topic_id, pa.uint64()),
            "window_from": (span.begin, pa.uint32()),
            "window_until": (span.until, pa.uint32()),
            "id": (job.id, pa.string()),
            "bucket_seconds": (job.bucket_seconds, pa.uint32()),
        }
        columns = {name: pa.array([value] * len(partitions), kind) for name, (value, kind) in same.items()}
        columns["kafka_partition"] = pa.array(partitions, pa.int32())
        columns["kafka_offset_end"] = pa.array([job.offsets[each][1] for each in partitions], pa.int64())
        for n, (name, kind) in enumerate(
            (("windows", pa.uint32()), ("lengths", pa.uint16()), ("revisions", pa.uint32()))
        ):
            columns[name] = pa.array([list(found[each][n]) for each in partitions], pa.list_(kind))
        self._connection.insert("rewindowed", pa.table(columns))

    def replace_day(self, job: Job, day: date, hold: str) -> None:
        """Put the job's rows of a day in the place of those of flows; the others of that day stay.

        `hold`: the constraint that it is held by; without it nothing is done.
        """
        values: dict[str, Any] = {"day": begin_of(day), "hold": hold}
        with self.days.remade("flows", hold, job.shadow) as made:
            self._connection.command(
                f"INSERT INTO {made} SELECT * FROM flows WHERE {_OF_DAY} AND (NOT ({IN_SPAN}) OR {later(job)}) "  # noqa: S608  constants
                f"AND {STILL_HELD}",
                **values,
                **job.span._asdict(),
            )
            self._connection.command(
                f"INSERT INTO {made} SELECT * REPLACE (if({_NAMED}, revision, revision + {MADE_AGAIN}) AS revision) "  # noqa: S608  constants
                f"FROM {job.shadow} WHERE {_OF_DAY} AND {STILL_HELD}",
                **values,
                topic=job.topic_id,
            )
            self._connection.command(f"ALTER TABLE flows REPLACE PARTITION '{day}' FROM {made}")
