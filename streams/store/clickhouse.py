"""The flows, losses and ledger tables of ClickHouse, over HTTP (clickhouse-connect). Blocking; used from a thread.

One window is one insert and one block. The name of an insert (its deduplication token) is the window's; see
streams.partition.storing for what that is for.
"""

import base64
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import logs
from common.settings import ClickHouseSettings
from schemas.clickhouse.horizon import Horizon
from schemas.clickhouse.rollups import ROLLUPS
from schemas.flows import FlowColumns, LedgerRow, Loss
from streams.partition.ledger import EpochId
from streams.partition.storing import MADE_AGAIN, Aside, KafkaPartition, Refused, WindowId
from streams.store import turned
from streams.store.arrow import COLUMNS, connections, flow_columns, flow_table, ledger_table, loss_table
from streams.store.aside import aside_table, rows_of
from streams.store.connection import Connection
from streams.store.ledger import stored_epochs
from streams.store.repair import day_of
from streams.store.rollups.mending import Mending
from streams.store.turned import PARTITION
from streams.windowing.initiators import MOST, Connections

log = logs.get("streams")

_GROUPED: dict[str, Any] = {"optimize_on_insert": 0}
"""For flows: the views of the rollups have grouped the rows, there is nothing for their tables to merge in them."""
_RECENT_SECONDS = 600
"""So long the name of an insert is surely known, and the insert of a predecessor may still be under way."""
_WINDOW = "window_begin = toDateTime({start:UInt32}, 'UTC') AND window_seconds = {seconds:UInt16}"
_NAMED = f"{_WINDOW} AND {PARTITION} AND revision = {{revision:UInt32}}"
_NAMED_BEFORE = """arrayMax(arrayPushFront(arrayMap(
    (w, s, k) -> if(w = toDateTime({start:UInt32}, 'UTC') AND s = {seconds:UInt16}, toInt64(k), -1),
    windows, lengths, revisions), -1))"""
"""Of a row of rewindowed: the highest revision that a window had; -1: none."""
_NAMED_OF_DROPPED = """
    SELECT toInt64(name.revision), name.kafka_offset_end FROM (
        SELECT arrayJoin(names) AS name FROM dropped FINAL
        WHERE table = 'flows' AND day = toDate(toDateTime({start:UInt32}, 'UTC')))
    WHERE name.topic_id IN ({topic:UInt64}, 0) AND name.kafka_partition = {partition:Int32}
    AND name.window_begin = toDateTime({start:UInt32}, 'UTC') AND name.window_seconds = {seconds:UInt16}"""
"""Of days that went for want of room, which are before today."""


class ClickHouseStore:
    """A Store of streams.partition.storing. Connects and migrates when it is first used, and again after a failure.

    Every method raises ServiceUnavailable, with what the server said, when it cannot do its work now; insert raises
    Refused when the server does not take the rows.
    """

    def __init__(
        self,
        settings: ClickHouseSettings,
        topic: str,
        clock: Callable[[], float] = time.time,
        horizon: Horizon | None = None,
    ) -> None:
        """`horizon`: how far back the server is to know the names of inserts; None: as far as it does."""
        self._settings = settings
        self._topic = topic
        self._clock = clock
        self._connection = Connection(settings, horizon)
        self._mending = Mending(self._connection, settings)
        self._nameless: set[tuple[KafkaPartition, WindowId, int]] = set()  # revisions without a topic id

    def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all names of a window that are stored, by k; E is 0 where the rows are gone that said it."""
        found = self._connection.query(
            "SELECT revision, max(kafka_offset_end), any(topic_id) FROM flows "  # noqa: S608  constants
            f"WHERE {_WINDOW} AND {PARTITION} AND revision < {MADE_AGAIN} GROUP BY revision ORDER BY revision",
            lambda rows: [(int(revision), int(offset_end), int(topic_id)) for revision, offset_end, topic_id in rows],
            **_named(partition, window),
        )
        self._nameless |= {(partition, window, revision) for revision, _, topic_id in found if not topic_id}
        return [(revision, offset_end) for revision, offset_end, _ in found]

    def insert(self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> None:
        """Store rows under the name (topic, its id, partition, window, revision), unless something has that name."""
        window = WindowId(flows.window_begin, flows.window_seconds)
        if (partition, window, revision) in self._nameless:
            partition = KafkaPartition(0, partition.number)
        identity = f"/{partition.topic_id:x}" if partition.topic_id else ""
        token = f"{self._topic}{identity}/{partition.number}/{window.start}/{window.seconds}/{revision}"
        table = flow_table(flows, partition, revision, offset_end)
        self._connection.insert("flows", table, {**_GROUPED, "insert_deduplication_token": token})

    def expired(self, window: WindowId) -> bool:
        """Whether the table's TTL drops rows of this window as they come."""
        age = self._clock() - window.start
        return age >= self._settings.flows_retention_days * 86_400

    def rows(self, partition: KafkaPartition, window: WindowId, revision: int) -> FlowColumns:
        """What is stored under a name."""
        return self._connection.arrow(
            f"SELECT {', '.join(COLUMNS)} FROM flows WHERE {_NAMED}",  # noqa: S608  constants
            lambda table: flow_columns(table, window),
            **_named(partition, window),
            revision=revision,
        )

    def complete(self, partition: KafkaPartition, window: WindowId, revision: int, offset_end: int) -> FlowColumns:
        """What is stored under a name. The rollups have it, too, when this returns.

        Should the server have died between the table and its rollups, the rows are inserted once more: a table that
        knows the name takes nothing. A name that may be forgotten is not used again: then the rollups are given what
        they lack.
        """
        flows = self.rows(partition, window, revision)
        nodes = sorted({flows.node_names[number] for number in flows.node.tolist()})
        self._mending.take_over(partition, window.start)
        for rollup in ROLLUPS:
            if not self._mending.lacks(rollup, window.start, nodes):
                continue
            age = self._connection.number(
                f"SELECT dateDiff('second', min(inserted), now()) FROM flows WHERE {_NAMED}",  # noqa: S608  constants
                **_named(partition, window),
                revision=revision,
            )
            if age < _RECENT_SECONDS:
                with contextlib.suppress(Refused):  # then they are mended
                    self.insert(flows, partition, revision, offset_end)
                    break
            self._mending.mend(rollup, partition, window.start, nodes, age)
        return flows

    def set_aside(
        self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int, error: str
    ) -> None:
        """Keep rows that the table refuses in the table `refused`, under their name."""
        aside = Aside(partition, WindowId(flows.window_begin, flows.window_seconds), revision, offset_end)
        self._connection.insert("refused", aside_table(aside, flows, error, self._clock()))

    def aside(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all of a window that ever was set aside, by k; and of the windows made again in its place.

        Of the latter: the highest k that it had before, -1 where it had none. Likewise of a day that went.
        """
        went = f" UNION ALL {_NAMED_OF_DROPPED}" if day_of(window.start) < day_of(int(self._clock())) else ""
        return self._connection.query(
            "SELECT k, max(kafka_offset_end) FROM (SELECT toInt64(revision) AS k, kafka_offset_end FROM refused "  # noqa: S608  constants
            f"WHERE {_WINDOW} AND {PARTITION} UNION ALL SELECT {_NAMED_BEFORE}, kafka_offset_end FROM rewindowed "
            f"WHERE {PARTITION} AND toDateTime({{start:UInt32}}, 'UTC') >= window_from "
            f"AND toDateTime({{start:UInt32}}, 'UTC') < window_until{went}) GROUP BY k ORDER BY k",
            lambda rows: [(int(revision), int(offset_end)) for revision, offset_end in rows],
            **_named(partition, window),
        )

    def all_aside(self, partition: int) -> list[Aside]:
        """What is set aside of a partition and not in the table yet, the oldest first."""
        return self._connection.query(
            "SELECT topic_id, toUnixTimestamp(window_begin), window_seconds, revision, kafka_offset_end "
            "FROM refused FINAL WHERE refused_by = 'flows' AND kafka_partition = {partition:Int32} AND NOT brought_in "
            "ORDER BY window_begin",
            lambda rows: [
                Aside(KafkaPartition(topic_id, partition), WindowId(start, seconds), revision, offset_end)
                for topic_id, start, seconds, revision, offset_end in rows
            ],
            partition=partition,
        )

    def rows_aside(self, aside: Aside) -> FlowColumns:
        """What was set aside under a name."""
        return self._connection.query(
            f"SELECT base64Encode(flows) FROM refused FINAL WHERE {_NAMED}",  # noqa: S608  constants
            lambda rows: rows_of(base64.b64decode(rows[0][0]), aside.window),
            **_named(aside.partition, aside.window),
            revision=aside.revision,
        )

    def brought_in(self, aside: Aside) -> None:
        """The table has it now."""
        self._connection.command(
            f"INSERT INTO refused SELECT * REPLACE ('' AS flows, 1 AS brought_in) FROM refused FINAL WHERE {_NAMED}",  # noqa: S608  constants
            **_named(aside.partition, aside.window),
            revision=aside.revision,
        )

    def other_lengths(self, partition: KafkaPartition, window_seconds: int, offset: int) -> tuple[int, int] | None:
        """The window length that our predecessor used, and the offset up to which it stored; None: the same as ours."""
        return self._connection.query(
            f"SELECT window_seconds, max(kafka_offset_end) AS offset_end FROM flows WHERE {PARTITION} "  # noqa: S608  constants
            "AND window_seconds != {seconds:UInt16} AND window_begin > now() - INTERVAL 7 DAY "
            "AND NOT arrayExists((begin, until) -> window_begin >= begin AND window_begin < until, "
            "(SELECT groupArray(window_from) FROM rewindowed), (SELECT groupArray(window_until) FROM rewindowed)) "
            "GROUP BY window_seconds HAVING offset_end > {offset:Int64} ORDER BY offset_end DESC LIMIT 1",
            lambda rows: (int(rows[0][0]), int(rows[0][1])) if rows else None,
            seconds=window_seconds,
            partition=partition.number,
            topic=partition.topic_id,
            offset=offset,
        )

    def stored_until(self, partition: KafkaPartition) -> int:
        """The highest offset below which something is stored; 0: nothing, or nothing in the last week."""
        return self._connection.number(
            "SELECT max(kafka_offset_end) FROM flows WHERE kafka_partition = {partition:Int32} "
            "AND topic_id = {topic:UInt64} AND window_begin > now() - INTERVAL 7 DAY",
            partition=partition.number,
            topic=partition.topic_id,
        )

    def turned(self, partition: KafkaPartition, window_seconds: int) -> Sequence[Connections]:
        """Rows of the last windows whose src is not the side that by_rule tells, and those of their mirror images.

        The last windows are ten minutes, or three windows, before the newest that is stored.
        """
        of = {"partition": partition.number, "topic": partition.topic_id}
        newest = self._connection.number(turned.NEWEST, **of)
        if not newest:
            return []
        since = newest - max(turned.SECONDS, 3 * window_seconds)
        return [self._connection.arrow(turned.rows(), connections, **of, since=since, until=turned.NO_END, most=MOST)]

    def insert_losses(self, losses: Sequence[Loss], partition: KafkaPartition) -> None:
        """Store losses; one that is there already is replaced by its like."""
        self._connection.insert("losses", loss_table(losses, partition))

    def stored_epochs(self, epochs: Sequence[EpochId]) -> dict[EpochId, tuple[LedgerRow, ...]]:
        """Those of some epochs that are in the ledger, with their rows where these lack the kernel's counters."""
        return stored_epochs(self._connection, epochs)

    def insert_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Store ledger rows; one that is there already is replaced, but by one that goes up to an earlier message."""
        self._connection.insert("ledger", ledger_table(rows))

    def check(self) -> None:
        """Connect and migrate."""
        self._connection.command("SELECT 1")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _named(partition: KafkaPartition, window: WindowId) -> dict[str, Any]:
    return {
        "start": window.start,
        "seconds": window.seconds,
        "partition": partition.number,
        "topic": partition.topic_id,
    }
