"""The flows and ledger tables of ClickHouse, over HTTP (clickhouse-connect). Blocking; used from a thread.

One window is one insert and one block. The name of an insert (its deduplication token) is the window's; see
streams.storing for what that is for.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from common import logs
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings
from schemas.flows import FlowColumns, LedgerRow
from schemas.packets import EpochCounters
from streams.migrate import migrate
from streams.storing import WindowId

log = logs.get("streams")
T = TypeVar("T")

_NAMES = ("node", "interface")
_ADDRESSES = ("src_addr", "dst_addr")
_NUMBERS = {
    "protocol": np.uint8,
    "src_port": np.uint16,
    "dst_port": np.uint16,
    "vlan_id": np.uint16,
    "icmp_type": np.uint8,
    "icmp_code": np.uint8,
    "packets": np.uint64,
    "bytes": np.uint64,
    "packets_rev": np.uint64,
    "bytes_rev": np.uint64,
    "tcp_flags": np.uint16,
    "tcp_flags_rev": np.uint16,
    "first_offset_us": np.uint32,
    "last_offset_us": np.uint32,
}
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
_ON_A_CLUSTER: dict[str, Any] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}
_COUNTERS = tuple(name for name in EpochCounters.__dataclass_fields__ if name.endswith(("_packets", "_bytes")))
_TIMEOUT_SECONDS = 120


class ClickHouseStore:
    """Implements streams.storing.Store. Connects and migrates when it is first used, and again after a failure.

    Every method raises ServiceUnavailable, with what the server said, when it cannot do its work now.
    """

    def __init__(self, settings: ClickHouseSettings, topic: str, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._topic = topic
        self._clock = clock
        self._client: Client | None = None
        self._extra = _ON_A_CLUSTER if settings.cluster else {}

    def revisions(self, partition: int, window: WindowId) -> list[tuple[int, int]]:
        """(k, E) of all that is stored of a window, by k."""
        rows = self._query(
            "SELECT revision, any(kafka_offset_end) FROM flows WHERE window_start = toDateTime({start:UInt32}, 'UTC') "
            "AND window_seconds = {seconds:UInt16} AND kafka_partition = {partition:Int32} "
            "GROUP BY revision ORDER BY revision",
            start=window.start,
            seconds=window.seconds,
            partition=partition,
        )
        return [(int(revision), int(offset_end)) for revision, offset_end in rows]

    def insert(self, flows: FlowColumns, partition: int, revision: int, offset_end: int) -> None:
        """Store rows under the name (topic, partition, window, revision), unless something has that name."""
        token = f"{self._topic}/{partition}/{flows.window_start}/{flows.window_seconds}/{revision}"
        table = flow_table(flows, partition, revision, offset_end)
        self._call(
            lambda client: client.insert_arrow(
                "flows", table, settings={**_ONE_BLOCK, **self._extra, "insert_deduplication_token": token}
            )
        )

    def expired(self, window: WindowId) -> bool:
        """Whether the table's TTL drops rows of this window as they come."""
        age = self._clock() - window.start
        return age >= self._settings.flows_retention_days * 86_400

    def rows(self, partition: int, window: WindowId, revision: int) -> FlowColumns:
        """What is stored under a name."""
        columns = ", ".join((*_NAMES, "direction", *_ADDRESSES, *_NUMBERS))
        query = (
            f"SELECT {columns} FROM flows WHERE window_start = toDateTime({{start:UInt32}}, 'UTC') "  # noqa: S608  constants
            "AND window_seconds = {seconds:UInt16} AND kafka_partition = {partition:Int32} AND revision = {revision:UInt16}"
        )
        parameters = {"start": window.start, "seconds": window.seconds, "partition": partition, "revision": revision}
        table = self._call(lambda client: client.query_arrow(query, parameters=parameters, settings=self._extra))
        return flow_columns(table, window)

    def other_lengths(self, partition: int, window_seconds: int, offset: int) -> tuple[int, int] | None:
        """The other window length with rows beyond `offset`, and up to which offset; None: streams.window_seconds did not change."""
        rows = self._query(
            "SELECT window_seconds, max(kafka_offset_end) AS offset_end FROM flows WHERE kafka_partition = {partition:Int32} "
            "AND window_seconds != {seconds:UInt16} AND window_start > now() - INTERVAL 7 DAY "
            "GROUP BY window_seconds HAVING offset_end > {offset:Int64} ORDER BY offset_end DESC LIMIT 1",
            seconds=window_seconds,
            partition=partition,
            offset=offset,
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

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
        client = connect(self._settings, database=None)
        migrate(client, self._settings)
        client.close()
        return connect(self._settings, database=self._settings.database)


def connect(settings: ClickHouseSettings, database: str | None) -> Client:
    """A client that several threads may use."""
    url = urlsplit(settings.url)
    return clickhouse_connect.get_client(
        host=url.hostname or "127.0.0.1",
        port=url.port or (8443 if url.scheme == "https" else 8123),
        interface=url.scheme,
        username=settings.username,
        password=settings.password,
        database=database or "default",
        autogenerate_session_id=False,
        send_receive_timeout=_TIMEOUT_SECONDS,
        connect_timeout=5,
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300] + (
        " (authentication: see clickhouse.username and clickhouse.password)"
        if isinstance(error, DatabaseError) and "AUTHENTICATION" in text
        else ""
    )


def flow_table(flows: FlowColumns, partition: int, revision: int, offset_end: int) -> pa.Table:
    """The rows as ClickHouse's Arrow reader takes them: IPv6 as 16 octets, Enum8 by number, names as dictionaries."""
    n = len(flows)

    def same(value: int, kind: Any) -> pa.Array:
        return pa.array(np.full(n, value, kind))

    columns: dict[str, Any] = {
        "window_start": same(flows.window_start, np.uint32),
        "window_seconds": same(flows.window_seconds, np.uint16),
        "node": pa.DictionaryArray.from_arrays(pa.array(flows.node), pa.array(flows.node_names, pa.string())),
        "interface": pa.DictionaryArray.from_arrays(
            pa.array(flows.interface), pa.array(flows.interface_names, pa.string())
        ),
        "direction": pa.array(flows.direction.astype(np.int8)),
        **{name: _octets(getattr(flows, name)) for name in _ADDRESSES},
        **{name: pa.array(getattr(flows, name).astype(kind, copy=False)) for name, kind in _NUMBERS.items()},
        "kafka_partition": same(partition, np.int32),
        "kafka_offset_end": same(offset_end, np.int64),
        "revision": same(revision, np.uint16),
    }
    return pa.table(columns)


def flow_columns(table: pa.Table, window: WindowId) -> FlowColumns:
    """The rows of a SELECT, back as columns."""

    def texts(name: str) -> tuple[tuple[str, ...], Any]:
        values = table.column(name).combine_chunks()
        values = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
        encoded = values.dictionary_encode()
        return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)

    def numbers(name: str, kind: Any) -> Any:
        return table.column(name).to_numpy().astype(kind)

    def octets(name: str) -> Any:
        joined = b"".join(table.column(name).to_pylist())
        return np.frombuffer(joined, np.uint8).reshape(-1, 16)

    node_names, node = texts("node")
    interface_names, interface = texts("interface")
    own = {
        "packets": np.int64,
        "bytes": np.int64,
        "packets_rev": np.int64,
        "bytes_rev": np.int64,
        "first_offset_us": np.int64,
        "last_offset_us": np.int64,
    }
    return FlowColumns(
        window_start=window.start,
        window_seconds=window.seconds,
        node_names=node_names,
        interface_names=interface_names,
        node=node,
        interface=interface,
        direction=numbers("direction", np.uint8),
        **{name: octets(name) for name in _ADDRESSES},
        **{name: numbers(name, own.get(name, kind)) for name, kind in _NUMBERS.items()},
    )


def _octets(values: Any) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def ledger_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """Ledger rows as an Arrow table."""

    def time_us(values: list[int]) -> pa.Array:
        return pa.array(values, pa.timestamp("us", "UTC"))

    counters = [row.counters for row in rows]
    return pa.table(
        {
            "node": pa.array([row.node for row in rows]),
            "ring_id": pa.array([row.ring_id for row in rows], pa.int64()),
            "epoch": pa.array([c.epoch for c in counters], pa.int64()),
            "interface": pa.array([c.interface for c in counters]),
            "direction": pa.array([c.direction for c in counters], pa.int8()),
            "start_time": time_us([c.start_ns // 1000 for c in counters]),
            "end_time": time_us([c.end_ns // 1000 for c in counters]),
            **{name: pa.array([getattr(c, name) for c in counters], pa.uint64()) for name in _COUNTERS},
            "window_seconds": pa.array([row.window_seconds for row in rows], pa.uint16()),
            "consumed_windows": pa.array([row.consumed_windows for row in rows], pa.list_(pa.uint32())),
            "consumed_packets": pa.array([row.consumed_packets for row in rows], pa.list_(pa.uint64())),
            "consumed_bytes": pa.array([row.consumed_bytes for row in rows], pa.list_(pa.uint64())),
        }
    )
