"""The flows and ledger tables of ClickHouse, over HTTP (clickhouse-connect). Blocking; used from a thread.

One window is one insert and one block. The name of an insert (its deduplication token) is the window's; see
streams.partition.storing for what that is for.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from common import logs
from common.clickhouse import connect
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from schemas.flows import FlowColumns, LedgerRow, Loss
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.arrow import COLUMNS, flow_columns, flow_table, ledger_table, loss_table
from streams.store.migrate import migrate

log = logs.get("streams")
T = TypeVar("T")

_ONE_BLOCK: dict[str, Any] = {
    "async_insert": 0,  # an answer means that it is stored
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": 1 << 31,
    "min_insert_block_size_rows": 1 << 31,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
}
_GROUPED: dict[str, Any] = {"optimize_on_insert": 0}
"""For flows: the views of the rollups have grouped the rows, there is nothing for their tables to merge in them."""
_ON_A_CLUSTER: dict[str, Any] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}
_TIMEOUT_SECONDS = 120
_WINDOW = "window_start = toDateTime({start:UInt32}, 'UTC') AND window_seconds = {seconds:UInt16}"
_PARTITION = "kafka_partition = {partition:Int32} AND topic_id IN ({topic:UInt64}, 0)"
"""0: rows from before the table knew the topic's id; they are taken to be of the same topic."""


class ClickHouseStore:
    """A Store of streams.partition.storing. Connects and migrates when it is first used, and again after a failure.

    Every method raises ServiceUnavailable, with what the server said, when it cannot do its work now.
    """

    def __init__(self, settings: ClickHouseSettings, topic: str, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._topic = topic
        self._clock = clock
        self._client: Client | None = None
        self._extra = _ON_A_CLUSTER if settings.cluster else {}
        self._nameless: set[tuple[KafkaPartition, WindowId, int]] = set()  # revisions without a topic id

    def revisions(self, partition: KafkaPartition, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all that is stored of a window, by k."""
        rows = self._query(
            "SELECT revision, any(kafka_offset_end), any(topic_id) FROM flows "  # noqa: S608  constants
            f"WHERE {_WINDOW} AND {_PARTITION} GROUP BY revision ORDER BY revision",
            **_named(partition, window),
        )
        self._nameless |= {(partition, window, int(revision)) for revision, _, topic_id in rows if not topic_id}
        return [(int(revision), int(offset_end)) for revision, offset_end, _ in rows]

    def insert(self, flows: FlowColumns, partition: KafkaPartition, revision: int, offset_end: int) -> None:
        """Store rows under the name (topic, its id, partition, window, revision), unless something has that name."""
        window = WindowId(flows.window_start, flows.window_seconds)
        if (partition, window, revision) in self._nameless:
            partition = KafkaPartition(0, partition.number)
        identity = f"/{partition.topic_id:x}" if partition.topic_id else ""
        token = f"{self._topic}{identity}/{partition.number}/{window.start}/{window.seconds}/{revision}"
        table = flow_table(flows, partition, revision, offset_end)
        settings = {**_ONE_BLOCK, **_GROUPED, **self._extra, "insert_deduplication_token": token}
        self._call(lambda client: client.insert_arrow("flows", table, settings=settings))

    def expired(self, window: WindowId) -> bool:
        """Whether the table's TTL drops rows of this window as they come."""
        age = self._clock() - window.start
        return age >= self._settings.flows_retention_days * 86_400

    def rows(self, partition: KafkaPartition, window: WindowId, revision: int) -> FlowColumns:
        """What is stored under a name."""
        columns = ", ".join(COLUMNS)
        query = f"SELECT {columns} FROM flows WHERE {_WINDOW} AND {_PARTITION} AND revision = {{revision:UInt16}}"  # noqa: S608  constants
        parameters = {**_named(partition, window), "revision": revision}
        table = self._call(lambda client: client.query_arrow(query, parameters=parameters, settings=self._extra))
        return flow_columns(table, window)

    def other_lengths(self, partition: KafkaPartition, window_seconds: int, offset: int) -> tuple[int, int] | None:
        """The window length that our predecessor used, and the offset up to which it stored; None: the same as ours."""
        rows = self._query(
            f"SELECT window_seconds, max(kafka_offset_end) AS offset_end FROM flows WHERE {_PARTITION} "  # noqa: S608  constants
            "AND window_seconds != {seconds:UInt16} AND window_start > now() - INTERVAL 7 DAY "
            "GROUP BY window_seconds HAVING offset_end > {offset:Int64} ORDER BY offset_end DESC LIMIT 1",
            seconds=window_seconds,
            partition=partition.number,
            topic=partition.topic_id,
            offset=offset,
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def stored_until(self, partition: KafkaPartition) -> int:
        """The highest offset below which something is stored; 0: nothing, or nothing in the last week."""
        rows = self._query(
            "SELECT max(kafka_offset_end) FROM flows WHERE kafka_partition = {partition:Int32} "
            "AND topic_id = {topic:UInt64} AND window_start > now() - INTERVAL 7 DAY",
            partition=partition.number,
            topic=partition.topic_id,
        )
        return int(rows[0][0])

    def insert_losses(self, losses: Sequence[Loss], partition: KafkaPartition) -> None:
        """Store losses; one that is there already is replaced by its like."""
        table = loss_table(losses, partition)
        self._call(lambda client: client.insert_arrow("losses", table, settings={**_ONE_BLOCK, **self._extra}))

    def stored_epochs(self, epochs: Sequence[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
        """Which of some (node, ring_id, epoch) are in the ledger."""
        if not epochs:
            return set()
        found = set()
        by_ring: dict[tuple[str, int], list[int]] = {}
        for node, ring_id, epoch in epochs:
            by_ring.setdefault((node, ring_id), []).append(epoch)
        for (node, ring_id), numbers in by_ring.items():
            rows = self._query(
                "SELECT DISTINCT epoch FROM ledger WHERE node = {node:String} AND ring_id = {ring:Int64} "
                "AND epoch IN {epochs:Array(Int64)}",
                node=node,
                ring=ring_id,
                epochs=numbers,
            )
            found |= {(node, ring_id, int(row[0])) for row in rows}
        return found

    def insert_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Store ledger rows; a row that is there already is replaced by its like."""
        table = ledger_table(rows)
        self._call(lambda client: client.insert_arrow("ledger", table, settings={**_ONE_BLOCK, **self._extra}))

    def check(self) -> None:
        """Connect and migrate."""
        self._call(lambda client: client.command("SELECT 1"))

    def close(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close()
            self._client = None

    def _query(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        return self._call(lambda client: client.query(sql, parameters=parameters, settings=self._extra).result_rows)

    def _call(self, work: Callable[[Client], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return work(self._client)
        except (ClickHouseError, OSError) as error:
            # Whatever it was, look again at the server, its database and tables before the next try
            self._client = None
            raise ServiceUnavailable(
                f"ClickHouse at {self._settings.url} did not do its work: {_first_line(error)}"
            ) from error

    def _connect(self) -> Client:
        with connect(self._settings, database="default", timeout_seconds=_TIMEOUT_SECONDS) as client:
            migrate(client, self._settings)
        return connect(self._settings, database=self._settings.database, timeout_seconds=_TIMEOUT_SECONDS)


def _named(partition: KafkaPartition, window: WindowId) -> dict[str, Any]:
    return {
        "start": window.start,
        "seconds": window.seconds,
        "partition": partition.number,
        "topic": partition.topic_id,
    }


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300] + (
        " (authentication: see clickhouse.username and clickhouse.password)"
        if isinstance(error, DatabaseError) and "AUTHENTICATION" in text
        else ""
    )
