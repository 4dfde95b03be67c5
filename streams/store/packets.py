"""The table packets, over HTTP (clickhouse-connect): made when packets are to be kept. Blocking; used from a thread.

Columns of batches become columns of the table by numpy and Arrow; nothing here loops over packets.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import packets_sql
from schemas.clickhouse.retention import altered
from schemas.defaults import entry_values
from streams.partition.blocks import Block, Part
from streams.partition.storing import KafkaPartition
from streams.store.connection import Connection

_KEYS = ("protocol", "src_port", "dst_port", "vlan_id")
_VALUES = {
    "packets": np.uint32,
    "bytes": np.uint64,
    "duration_ns": np.uint64,
    "tcp_flags": np.uint16,
    "ttl": np.uint8,
    "tos": np.uint8,
}
_FLAGS = 0x1FF
_KEPT_SQL = """
SELECT name, extract(create_table_query, 'TTL received [+] toIntervalSecond[(]([0-9]+)[)]') FROM system.tables
WHERE database = currentDatabase() AND name IN ('packets', 'packets_local')
"""


class PacketStore:
    """Every method raises ServiceUnavailable when ClickHouse cannot do its work now, Refused when it refuses rows."""

    def __init__(self, settings: ClickHouseSettings, topic: str, seconds: int) -> None:
        """`seconds`: so long packets are kept."""
        self._settings, self._topic, self._seconds = settings, topic, seconds
        self._connection = Connection(settings, None)
        self._is_made = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def insert(self, block: Block, source: KafkaPartition) -> None:
        """Store a block, unless something has its name."""
        if not self._is_made:
            self._make()
            self._is_made = True
        token = f"{self._topic}/{source.topic_id:x}/{source.number}/{block.second}"
        self._connection.insert("packets", packet_table(block, source), {"insert_deduplication_token": token})

    def _make(self) -> None:
        """Make what is not there; what another run made with another setting is kept for so long from now on."""
        settings, local = self._settings, self._settings.stored("packets")
        found = self._connection.query(_KEPT_SQL, lambda rows: {str(name): str(seconds) for name, seconds in rows})
        if not {local, "packets"} <= set(found):
            for statement in packets_sql(settings, self._seconds):
                self._connection.command(statement)
        if found.get(local, str(self._seconds)) != str(self._seconds):
            table = f"{settings.database}.{local}{settings.on_cluster}"
            for statement in altered(table, f"received + INTERVAL {self._seconds} SECOND"):
                self._connection.command(statement)


def packet_table(block: Block, source: KafkaPartition) -> pa.Table:
    """The rows of a block, one an entry."""
    table = pa.concat_tables([_rows(part) for part in block.parts]).unify_dictionaries().combine_chunks()
    n = len(table)
    table = table.append_column("kafka_partition", pa.array(np.full(n, source.number, np.int32)))
    return table.append_column("received", pa.array(np.full(n, block.second, np.uint32)))


def _rows(part: Part) -> pa.Table:
    batch, begin = part
    flows, index = batch.flows, batch.flow[begin:]
    n = len(index)
    values = entry_values(batch)
    columns: dict[str, Any] = {
        "time": pa.array(batch.base_ns + batch.time_offset_ns[begin:], pa.timestamp("ns", "UTC")),
        "node": _texts(np.zeros(n, np.int32), (batch.node,)),
        "interface": _texts(flows.interface.take(index).astype(np.int32), batch.interface_names),
        "direction": pa.array(flows.direction.take(index).astype(np.int8)),
        "primary": pa.array(flows.primary.take(index).astype(np.bool_)),
        "src_addr": _octets(flows.src_addr.take(index, axis=0)),
        "dst_addr": _octets(flows.dst_addr.take(index, axis=0)),
        **{name: pa.array(getattr(flows, name).take(index)) for name in _KEYS},
    }
    for name, kind in _VALUES.items():
        value = values[name][begin:] if len(values[name]) else np.zeros(n, kind)
        columns[name] = pa.array((value & _FLAGS if name == "tcp_flags" else value).astype(kind))
    return pa.table(columns)


def _texts(index: npt.NDArray[np.int32], texts: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(texts, pa.string()))


def _octets(values: Any) -> pa.Array:
    octets = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, octets])
